//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"berth/probe/cpuset"

	"golang.org/x/sys/unix"
)

// program is one that a step has started.
type program struct {
	*exec.Cmd
	out bytes.Buffer
}

// end waits for the program and prints what it said.
func (p *program) end(name string) error {
	err := p.Wait()
	tell(name, p.out.String())
	return err
}

// start starts a program as the words before it say.
func start(words []string) (*program, error) {
	p := &program{}
	attr := &syscall.SysProcAttr{}
	var bound *cpuset.Set
words:
	for len(words) > 1 {
		switch words[0] {
		case "in":
			dir, err := os.Open(words[1])
			if err != nil {
				return nil, err
			}
			defer dir.Close()
			attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
		case "apart":
			attr.Unshareflags = unix.CLONE_NEWCGROUP
			words = words[1:]
			continue
		case "as":
			user, err := strconv.ParseUint(words[1], 10, 32)
			if err != nil {
				return nil, err
			}
			attr.Credential = &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}
		case "on":
			set, err := cpuset.Parse(words[1])
			if err != nil {
				return nil, err
			}
			bound = &set
		default:
			break words
		}
		words = words[2:]
	}
	p.Cmd = exec.Command(words[0], words[1:]...)
	p.Stdout, p.Stderr, p.SysProcAttr = &p.out, &p.out, attr
	if bound != nil {
		// The child inherits the mask of the thread that starts it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		old := unix.NewCPUSet(cpuset.Limit)
		if err := unix.SchedGetaffinityDynamic(0, old); err != nil {
			return nil, err
		}
		if err := unix.SchedSetaffinityDynamic(0, bound.Unix()); err != nil {
			return nil, err
		}
		defer func() { _ = unix.SchedSetaffinityDynamic(0, old) }()
	}
	return p, p.Start()
}
