// Package procfs reads from /proc what tells one machine from another: who
// made the processor, how much memory there is, which kernel runs, and which
// CPUs the reading process is bound to. The files are described in proc(5);
// the lines of /proc/cpuinfo are each architecture's own.
package procfs

import (
	"fmt"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/root"
)

// MemTotal is all memory of the machine in bytes, from /proc/meminfo.
func MemTotal(r root.Reader) (int64, bool) {
	const name = "/proc/meminfo"
	head, err := r.ReadHead(name, 256) // it is the first line
	if err != nil {
		r.Report(err)
		return 0, false
	}
	_, rest, ok := strings.Cut(head, "MemTotal:")
	if !ok {
		r.Malformed(name, fmt.Errorf("it has no MemTotal line"))
		return 0, false
	}
	line, _, _ := strings.Cut(rest, "\n")
	fields := strings.Fields(line)
	if len(fields) == 0 {
		r.Malformed(name, fmt.Errorf("MemTotal has no value"))
		return 0, false
	}
	n, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil || n < 0 || n > 1<<52 {
		r.Malformed(name, fmt.Errorf("MemTotal is %.40q, not a number of kB", fields[0]))
		return 0, false
	}
	return n << 10, true
}

// Release is the kernel's release, as uname -r prints it.
func Release(r root.Reader) string {
	if text, ok := r.Text("/proc/sys/kernel/osrelease"); ok {
		return text
	}
	text, _ := r.Text("/proc/version")
	if fields := strings.Fields(text); len(fields) > 2 && fields[0] == "Linux" && fields[1] == "version" {
		return fields[2]
	}
	return ""
}

// Uname is what uname(2) said where a tree was recorded, by what recorders keep
// of it: hwloc-gather-topology in a file of its own, others in the kernel's files,
// of which arch is there since Linux 6.1. What is not known is "".
func Uname(r root.Reader) (host, release, arch string) {
	text, _ := r.Text("/proc/hwloc-nofile-info")
	said := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		said[name] = strings.TrimSpace(value)
	}
	host, release, arch = said["HostName"], said["OSRelease"], said["Architecture"]
	if release == "" {
		release = Release(r)
	}
	if arch == "" {
		arch, _ = r.Text("/proc/sys/kernel/arch")
	}
	return host, release, arch
}

// Affinity is the set of CPUs that the process which read the files was bound
// to, from /proc/self/status. A running program asks sched_getaffinity(2).
func Affinity(r root.Reader) (cpuset.Set, bool) { return allowed(r, "Cpus_allowed_list:") }

// Mems are the numbers of the NUMA nodes that the process which read the files
// may have memory from, from /proc/self/status: what its cpuset leaves, in or
// out of its sight.
func Mems(r root.Reader) (cpuset.Set, bool) { return allowed(r, "Mems_allowed_list:") }

func allowed(r root.Reader, field string) (cpuset.Set, bool) {
	const name = "/proc/self/status"
	text, ok := r.Text(name)
	if !ok {
		return cpuset.Set{}, false
	}
	for line := range strings.Lines(text) {
		list, ok := strings.CutPrefix(line, field)
		if !ok {
			continue
		}
		set, err := cpuset.Parse(list)
		if err != nil {
			r.Malformed(name, err)
			return cpuset.Set{}, false
		}
		return set, true
	}
	return cpuset.Set{}, false
}
