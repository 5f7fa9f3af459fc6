//go:build linux

// Command init is the first process of a lab machine: it mounts what berth
// reads, takes the steps listed in /steps, prints their output between markers
// and switches the machine off.
//
// A step is a line of words:
//
//	write FILE TEXT | mkdir DIR | give FILE USER | mount TYPE POINT [OPTIONS] | unmount POINT
//	facts | show NAME FILE | send NAME FILE | pause TIME
//	run NAME [in DIR] [apart] [as USER] [on LIST] PROGRAM ARGUMENTS
//	start NAME … | end NAME | stop NAME
//	flap FILE TIME
//
// "give" gives a file to a user, by number. "run" waits for the program: "in"
// starts it in a control group, "apart" in a cgroup namespace of its own and "on"
// bound to CPUs. "start" does the same and goes on; "end" waits for the program,
// and "stop" ends it first. "send" prints a file in base64. "flap" writes 0 and 1
// to a file in turn, for that long, beside the steps that follow.
//
// Started as "init busy TIME", it computes for that long.
package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "busy" {
		if err := busy(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "init busy:", err)
			os.Exit(1)
		}
		return
	}
	for _, m := range [...][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"cgroup2", "/sys/fs/cgroup"}, {"tmpfs", "/tmp"}} {
		_ = os.MkdirAll(m[1], 0o755)
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && m[0] != "devtmpfs" {
			fmt.Println("lab: mount", m[1], err)
		}
	}
	_ = os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
	steps, err := os.ReadFile("/steps")
	if err != nil {
		fmt.Println("lab:", err)
	}
	fmt.Println("\nlab: up") // what the firmware left on the line
	l := &lab{running: map[string]*program{}}
	for line := range strings.Lines(string(steps)) {
		if err := l.step(strings.Fields(line)); err != nil {
			fmt.Printf("lab: %s: %v\n", strings.TrimSpace(line), err)
		}
	}
	fmt.Println("lab: done")
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func busy(length string) error {
	d, err := time.ParseDuration(length)
	if err != nil {
		return err
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
	return nil
}

// lab is what the steps have under way.
type lab struct {
	running map[string]*program
}

func (l *lab) step(words []string) error {
	if len(words) == 0 {
		return nil
	}
	name, args := words[0], words[1:]
	switch {
	case name == "write" && len(args) > 1:
		return os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")), 0o644)
	case name == "mkdir" && len(args) == 1:
		return os.MkdirAll(args[0], 0o755)
	case name == "give" && len(args) == 2:
		user, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return os.Chown(args[0], user, user)
	case name == "mount" && len(args) >= 2:
		if err := os.MkdirAll(args[1], 0o755); err != nil {
			return err
		}
		return unix.Mount(args[0], args[1], args[0], 0, strings.Join(args[2:], ","))
	case name == "unmount" && len(args) == 1:
		return unix.Unmount(args[0], 0)
	case name == "facts" && len(args) == 0:
		return facts()
	case name == "show" && len(args) == 2:
		text, err := os.ReadFile(args[1])
		tell(args[0], string(text))
		return err
	case name == "send" && len(args) == 2:
		data, err := os.ReadFile(args[1])
		tell(args[0], base64.StdEncoding.EncodeToString(data))
		return err
	case name == "pause" && len(args) == 1:
		d, err := time.ParseDuration(args[0])
		time.Sleep(d)
		return err
	case name == "flap" && len(args) == 2:
		d, err := time.ParseDuration(args[1])
		if err == nil {
			go flap(args[0], d)
		}
		return err
	case name == "run" && len(args) > 1:
		p, err := start(args[1:])
		if err != nil {
			return err
		}
		return p.end(args[0])
	case name == "start" && len(args) > 1:
		p, err := start(args[1:])
		if err == nil {
			l.running[args[0]] = p
		}
		return err
	case (name == "end" || name == "stop") && len(args) == 1 && l.running[args[0]] != nil:
		p := l.running[args[0]]
		if name == "stop" {
			_ = p.Process.Kill()
			_ = p.end(args[0])
			return nil
		}
		return p.end(args[0])
	}
	return fmt.Errorf("no such step")
}

// tell prints a step's output between its markers.
func tell(name, text string) { fmt.Printf("\nlab: begin %s\n%s\nlab: end %[1]s\n", name, text) }

// flap ends with 1.
func flap(file string, d time.Duration) {
	failed := 0
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, state := range []string{"0", "1"} {
			if os.WriteFile(file, []byte(state), 0o644) != nil {
				failed++
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	fmt.Printf("lab: flap %s: ended, %d writes failed\n", file, failed)
}

// facts prints what the kernel's files say, for a reader that is not berth's.
func facts() error {
	fmt.Println("\nlab: begin facts")
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		fmt.Printf("release=%s\n", strings.TrimSpace(string(text)))
	}
	for _, pattern := range [...]string{"online", "offline", "present", "isolated", "nohz_full", "smt/control", "cpu[0-9]*/cpu_capacity",
		"cpu[0-9]*/topology/*_list", "cpu[0-9]*/topology/*_id", "cpu[0-9]*/cache/index*/shared_cpu_list", "cpu[0-9]*/cache/index*/level",
		"cpu[0-9]*/cache/index*/type", "../node/node*/cpulist", "../node/node*/distance"} {
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
