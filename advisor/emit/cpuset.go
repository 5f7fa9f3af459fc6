package emit

import (
	"strconv"

	"berth/advisor"
)

// cpusets is an sh script that makes cpuset partitions (Linux,
// Documentation/admin-guide/cgroup-v2.rst, "Cpuset").
type cpusets struct{}

func (cpusets) Name() string { return "cpuset" }
func (cpusets) About() string {
	return "sh script that makes a cpuset partition of the plan's CPUs, and a group in it for each worker"
}

func (cpusets) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.line("#!/bin/sh")
	s.title(p)
	at := places(p)
	if at == nil {
		s.cannot("a partition: the plan pins nothing")
	}
	if q := p.Quota(); q > 0 {
		s.cannot("the quota of %g CPUs: a cpuset holds whole ones; the cpu controller's cpu.max would be %d 100000", q, int64(q*100000))
	}
	if at == nil {
		return s.settings()
	}
	s.cannotSeatThreads(at)
	s.cannot("how a worker gets in: it writes its PID into the group's cgroup.procs, as in sh -c 'echo $$ >GROUP/cgroup.procs; exec PROGRAM'")
	name := plainName(p.Profile)
	s.comment("sh FILE makes the groups, as root, on a machine with cgroup v2; sh FILE undo removes them once they are empty.")
	s.line("parent=/sys/fs/cgroup")
	s.line("group=$parent/berth-%s", name)
	s.lines(`set -e
undo() {
  for worker in "$group"/worker-*; do [ ! -d "$worker" ] || rmdir "$worker"; done
  rmdir "$group"
}
[ "${1:-}" != undo ] || { undo; exit; }
`)
	s.line(`echo +cpuset >"$parent/cgroup.subtree_control"`)
	s.line(`mkdir "$group"`)
	s.line(`trap undo EXIT`)
	s.line(`echo %s >"$group/cpuset.cpus"`, p.Placement.CPUs)
	mems := allMems(at)
	if mems != "" {
		s.line(`echo %s >"$group/cpuset.mems"`, mems)
	}
	s.comment("root: the kernel balances within the partition; isolated: not at all.")
	kind := "isolated"
	if pilesUp(p, at) {
		kind = "root"
	}
	s.line(`echo %s >"$group/cpuset.cpus.partition"`, kind)
	s.line(`read -r partition <"$group/cpuset.cpus.partition"`)
	s.line(`[ "$partition" = %s ] || { echo "$group: the kernel says: $partition" >&2; exit 1; }`, kind)
	if len(at) > 1 {
		s.line(`echo +cpuset >"$group/cgroup.subtree_control"`)
	}
	for i, a := range at {
		if len(at) == 1 {
			break
		}
		worker := `"$group/worker-` + strconv.Itoa(i)
		s.line(`mkdir %s"`, worker)
		s.line(`echo %s >%s/cpuset.cpus"`, a.cpus, worker)
		if a.mems != "" {
			s.line(`echo %s >%s/cpuset.mems"`, a.mems, worker)
		}
	}
	s.line(`trap - EXIT`)
	return s.settings()
}
