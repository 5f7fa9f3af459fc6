// Command init is the first process of a lab machine: it mounts what berth
// reads, takes the steps listed in /steps, prints their output between markers
// and switches the machine off.
//
// A step is a line of words: write FILE TEXT | mkdir DIR | give FILE USER | facts |
// show NAME FILE | run NAME [in DIR] [apart] [as USER] [on LIST] PROGRAM ARGUMENTS,
// where "give" gives a file to a user, by number, "in" starts the program in a
// control group, "apart" in a cgroup namespace of its own and "on" bound to CPUs.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"berth/probe/cpuset"

	"golang.org/x/sys/unix"
)

func main() {
	for _, m := range [...][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"cgroup2", "/sys/fs/cgroup"}} {
		_ = os.MkdirAll(m[1], 0o755)
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && m[0] != "devtmpfs" {
			fmt.Println("lab: mount", m[1], err)
		}
	}
	steps, err := os.ReadFile("/steps")
	if err != nil {
		fmt.Println("lab:", err)
	}
	for line := range strings.Lines(string(steps)) {
		if err := step(strings.Fields(line)); err != nil {
			fmt.Printf("lab: %s: %v\n", strings.TrimSpace(line), err)
		}
	}
	fmt.Println("lab: done")
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func step(words []string) error {
	switch {
	case len(words) == 0:
		return nil
	case words[0] == "write" && len(words) > 2:
		return os.WriteFile(words[1], []byte(strings.Join(words[2:], " ")), 0o644)
	case words[0] == "mkdir" && len(words) == 2:
		return os.MkdirAll(words[1], 0o755)
	case words[0] == "give" && len(words) == 3:
		user, err := strconv.Atoi(words[2])
		if err != nil {
			return err
		}
		return os.Chown(words[1], user, user)
	case words[0] == "facts":
		return facts()
	case words[0] == "show" && len(words) == 3:
		text, err := os.ReadFile(words[2])
		fmt.Printf("\nlab: begin %s\n%s\nlab: end %[1]s\n", words[1], text)
		return err
	case words[0] == "run" && len(words) > 2:
		return start(words[1], words[2:])
	}
	return fmt.Errorf("no such step")
}

func start(name string, words []string) error {
	attr := &syscall.SysProcAttr{}
	var bound *cpuset.Set
	for len(words) > 1 {
		switch words[0] {
		case "in":
			dir, err := os.Open(words[1])
			if err != nil {
				return err
			}
			defer dir.Close()
			attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
			words = words[2:]
			continue
		case "apart":
			attr.Unshareflags = unix.CLONE_NEWCGROUP
			words = words[1:]
			continue
		case "as":
			user, err := strconv.ParseUint(words[1], 10, 32)
			if err != nil {
				return err
			}
			attr.Credential = &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}
			words = words[2:]
			continue
		case "on":
			set, err := cpuset.Parse(words[1])
			if err != nil {
				return err
			}
			bound = &set
			words = words[2:]
			continue
		}
		break
	}
	var out bytes.Buffer
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &out, &out, attr
	if bound != nil {
		// The child inherits the mask of the thread that starts it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		old := unix.NewCPUSet(cpuset.Limit)
		if err := unix.SchedGetaffinityDynamic(0, old); err != nil {
			return err
		}
		if err := unix.SchedSetaffinityDynamic(0, bound.Unix()); err != nil {
			return err
		}
		defer func() { _ = unix.SchedSetaffinityDynamic(0, old) }()
	}
	err := cmd.Run()
	fmt.Printf("\nlab: begin %s\n%s\nlab: end %s\n", name, out.String(), name)
	return err
}

// facts prints what the kernel's files say, for a reader that is not berth's.
func facts() error {
	fmt.Println("\nlab: begin facts")
	for _, pattern := range [...]string{"online", "offline", "present", "isolated", "nohz_full", "cpu[0-9]*/topology/*_list", "cpu[0-9]*/topology/*_id",
		"cpu[0-9]*/cache/index*/shared_cpu_list", "cpu[0-9]*/cache/index*/level", "cpu[0-9]*/cache/index*/type", "../node/node*/cpulist", "../node/node*/distance"} {
		names, err := filepath.Glob("/sys/devices/system/cpu/" + pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			if text, err := os.ReadFile(name); err == nil {
				fmt.Printf("%s=%s\n", strings.TrimPrefix(name, "/sys/devices/system/"), strings.TrimSpace(string(text)))
			}
		}
	}
	fmt.Println("lab: end facts")
	return nil
}
