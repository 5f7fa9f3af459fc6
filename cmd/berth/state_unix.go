//go:build unix

package main

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// noTerminal: a terminal that is opened does not become that of this process.
const noTerminal = syscall.O_NOCTTY

// trusted reports whether a file belongs to this user or to root. In a user
// namespace that root has no number in, its files are the overflow user's
// (user_namespaces(7)).
func trusted(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	if s.Uid == 0 || int(s.Uid) == os.Geteuid() {
		return true
	}
	overflow, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err != nil || strings.TrimSpace(string(overflow)) != strconv.FormatUint(uint64(s.Uid), 10) {
		return false
	}
	all, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(all)), " ") != "0 0 4294967295"
}

// ownerOf is a file's owner in words.
func ownerOf(info fs.FileInfo) string {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "an unknown user"
	}
	id := strconv.FormatUint(uint64(s.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}
