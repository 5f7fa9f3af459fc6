//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"berth/probe/cgroup"
	"berth/probe/tasks"
)

// selection says whose threads are looked at.
type selection struct {
	pids          []int
	match, cgroup string
	user          optional
	all, kernel   bool

	re  *regexp.Regexp
	uid int // whose processes; unless others are named
}

// bindNamed is for commands whose processes must be named.
func (s *selection) bindNamed(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntSliceVarP(&s.pids, "pid", "p", nil, "the `PROCESS`, or several")
	flags.StringVar(&s.match, "match", "", "the processes whose command line fits a `REGEXP`")
	flags.StringVar(&s.cgroup, "cgroup", "", "the processes of a control group and those below it: a directory, or a `PATH` as /proc/PID/cgroup has it")
}

func (s *selection) bind(cmd *cobra.Command) {
	s.bindNamed(cmd)
	flags := cmd.Flags()
	s.user.names = "user"
	s.user.bind(flags, "user", "u", "a user's processes; `[=NAME|UID]` says whose, if not yours")
	flags.BoolVarP(&s.all, "all", "a", false, "the processes of all users")
	flags.BoolVar(&s.kernel, "kernel", false, "the kernel's own threads too, where they are among those meant")
}

func (s *selection) noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && s.user.value == alone {
		return usage("the user follows an equals sign: --user="+args[0], "%s takes no argument, and %q is one", cmd.CommandPath(), args[0])
	}
	return noArgs(cmd, args)
}

// named reports whether the processes themselves are named, and not a user.
func (s *selection) named() bool { return len(s.pids) > 0 || s.match != "" || s.cgroup != "" }

// check finds what cannot be meant, and looks the user up.
func (s *selection) check(cmd *cobra.Command) error {
	for _, name := range [...]string{"pid", "match", "cgroup"} {
		if err := atMostOne(cmd, "all", "user", name); err != nil {
			return err
		}
	}
	for _, pid := range s.pids {
		if pid < 1 {
			return usage("give the number of a process", "--pid %d is not one", pid)
		}
	}
	for _, name := range [...]string{"match", "cgroup"} {
		if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return usage("give one, or leave the flag out", "--%s is empty", name)
		}
	}
	var err error
	if s.re, err = regexp.Compile(s.match); err != nil {
		return usage("it is a regular expression of Go's (RE2)", "--match: %w", err)
	}
	s.uid = os.Geteuid()
	if s.user.value == "" || s.user.value == alone {
		return nil
	}
	number := s.user.value
	if _, err := strconv.Atoi(number); err != nil {
		u, err := user.Lookup(number)
		if err != nil {
			return usage("give a name that `getent passwd` has, or a number", "--user: %w", err)
		}
		number = u.Uid
	}
	if s.uid, err = strconv.Atoi(number); err != nil || s.uid < 0 {
		return usage("give a name or a number", "--user %s: that is no number of a user", s.user.value)
	}
	return nil
}

// nobody says that there is no process that was named.
func (s *selection) nobody() error {
	switch {
	case s.match != "" && s.cgroup != "":
		return fmt.Errorf("no process has a command line that fits %s, and none is in the control group %s", s.match, s.cgroup)
	case s.match != "":
		return fmt.Errorf("no process has a command line that fits %s", s.match)
	case s.cgroup != "":
		return fmt.Errorf("there is no process in the control group %s", s.cgroup)
	}
	return errors.New("the processes ended meanwhile")
}

// chosen is what the flags mean at one moment.
type chosen struct {
	processes []tasks.Process
	gone      []error // processes asked for by number that are not there
	hidden    bool    // there may be more: some cannot be seen
}

// find looks the processes up. The one that asks is left out, unless by number.
func (s *selection) find(proc tasks.Proc) (*chosen, error) {
	c := &chosen{}
	for _, pid := range s.pids {
		p, err := byNumber(proc, pid)
		switch {
		case errors.Is(err, tasks.ErrGone), errors.Is(err, fs.ErrPermission):
			c.gone = append(c.gone, err)
		case err != nil:
			return nil, err
		default:
			c.processes = append(c.processes, p)
		}
	}
	add := func(p tasks.Process) {
		if p.PID != os.Getpid() && (s.kernel || !p.Kernel) {
			c.processes = append(c.processes, p)
		}
	}
	if s.cgroup != "" {
		if err := s.inGroup(proc, add); err != nil {
			return nil, err
		}
	}
	if s.match != "" || !s.named() {
		all, err := proc.Processes()
		if err != nil {
			return nil, err
		}
		c.hidden = all.Hidden && (s.named() || s.all || s.uid != os.Geteuid())
		found := all.Processes
		if s.match != "" {
			found = all.Match(s.re)
		}
		for _, p := range found {
			if s.named() || s.all || p.UID == s.uid || p.EUID == s.uid {
				add(p)
			}
		}
	}
	slices.SortFunc(c.processes, func(a, b tasks.Process) int { return a.PID - b.PID })
	c.processes = slices.CompactFunc(c.processes, func(a, b tasks.Process) bool { return a.PID == b.PID })
	return c, nil
}

func (s *selection) inGroup(proc tasks.Proc, add func(tasks.Process)) error {
	groups, err := cgroup.Find(s.cgroup)
	if err != nil {
		return usage("a directory below /sys/fs/cgroup, or a path as /proc/PID/cgroup has it", "--cgroup: %w", err)
	}
	for _, g := range groups {
		members, err := cgroup.Members(g.Dir)
		if err != nil {
			return err
		}
		for _, pid := range members {
			if p, err := proc.Process(pid); err == nil { // else it has ended, or moved out of sight
				add(p)
			}
		}
	}
	return nil
}

// byNumber reads a process, and refuses the number of another thread of one.
func byNumber(proc tasks.Proc, pid int) (tasks.Process, error) {
	p, err := proc.Process(pid)
	if err != nil {
		return p, err
	}
	status, err := proc.ReadFile(strconv.Itoa(pid) + "/status")
	if err != nil {
		return p, fmt.Errorf("read process %d: %w", pid, tasks.ErrGone)
	}
	for line := range strings.Lines(string(status)) {
		if leader, ok := strings.CutPrefix(line, "Tgid:"); ok {
			if leader = strings.TrimSpace(leader); leader != strconv.Itoa(pid) {
				return p, usage("give the process: --pid "+leader, "--pid %d is a thread of process %s", pid, leader)
			}
		}
	}
	return p, nil
}
