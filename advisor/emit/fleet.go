package emit

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"berth/advisor"
	"berth/profiles"
)

// Nodes are machines of one shape that follow one plan each. Their names are
// host names: letters, digits and . _ - : alone.
type Nodes struct {
	Names []string
	// Folded is the names as Slurm takes them, n[1-4].
	Folded string
	Plan   *advisor.Plan
}

// FleetTarget is a tool that takes settings for many machines at once.
type FleetTarget interface {
	Name() string
	About() string
	EmitFleet([]Nodes) Settings
}

// FleetTargets lists all there are.
func FleetTargets() []FleetTarget {
	return []FleetTarget{slurmFleet{}, mpiFleet{}, tasksetFleet{}, daskFleet{}, sparkFleet{}, kubernetesFleet{}}
}

// FindFleet is the target of a name.
func FindFleet(name string) (FleetTarget, bool) {
	for _, t := range FleetTargets() {
		if t.Name() == name {
			return t, true
		}
	}
	return nil, false
}

// fleetTitle says what was planned where.
func (s *sheet) fleetTitle(parts []Nodes) {
	for _, part := range parts {
		on := "1 node"
		if n := len(part.Names); n > 1 {
			on = fmt.Sprintf("each of %d nodes", n)
		}
		s.comment("%s: %s, on %s.", part.Plan.Profile, advisor.Describe(part.Plan.Workers), on)
	}
}

// slurmFleet is a step for each shape. A heterogeneous step would be one, but
// hangs where one part of it fails to bind.
type slurmFleet struct{}

func (slurmFleet) Name() string { return "slurm" }
func (slurmFleet) About() string {
	return "sh script for salloc or sbatch: an srun step for each shape, with its nodes and binding"
}

func (slurmFleet) EmitFleet(parts []Nodes) Settings {
	s := &sheet{}
	s.line("#!/bin/sh")
	s.fleetTitle(parts)
	s.comment("sh FILE PROGRAM [ARG …] starts the workers of all nodes, in an allocation that holds these nodes whole (salloc --exclusive), hands SIGTERM, SIGINT and SIGHUP on to the steps, and ends with the status of the last that failed.")
	s.line(`[ $# -gt 0 ] || { echo "usage: sh $0 PROGRAM [ARG ...]" >&2; exit 2; }`)
	s.line("pids=")
	s.line(`trap 'kill $pids 2>/dev/null' HUP INT TERM`)
	for _, part := range parts {
		j := jobOf(part.Plan, len(part.Names))
		// Within an allocation --exclusive would make a step wait for another's CPUs.
		j.options = slices.DeleteFunc(j.options, func(o string) bool { return o == "--exclusive" })
		bind := s.bound(part.Plan, j)
		s.line("(")
		s.exports(counts(part.Plan))
		s.exports(withinMask(part.Plan))
		s.line(`exec srun --nodelist=%s %s %s "$@"`, shellQuote(part.Folded), strings.Join(j.options, " "), bind)
		s.line(`) & pids="$pids $!"`)
	}
	s.waitForAll()
	return s.once()
}

// once is the settings with each loss told of once, though several shapes have it.
func (s *sheet) once() Settings {
	out := s.settings()
	slices.Sort(out.Lost)
	out.Lost = slices.Compact(out.Lost)
	return out
}

// mpiFleet is one mpirun over all nodes.
type mpiFleet struct{}

func (mpiFleet) Name() string { return "mpirun" }
func (mpiFleet) About() string {
	return "sh script for Open MPI: one mpirun over all nodes, with a hostfile and a rankfile"
}

func (mpiFleet) EmitFleet(parts []Nodes) Settings {
	s := &sheet{}
	s.line("#!/bin/sh")
	s.fleetTitle(parts)
	s.comment("sh FILE PROGRAM [ARG …] starts the ranks on all nodes, by Open MPI 3 or 4: the numbers of version 5's rankfiles are logical. It becomes mpirun, and the files that this needs are removed before.")
	seated := !slices.ContainsFunc(parts, func(part Nodes) bool { return places(part.Plan) == nil })
	for _, part := range parts {
		if at := places(part.Plan); at != nil && !seated {
			s.cannotSeat(part.Plan, "the plan of another shape pins nobody, and mpirun binds all ranks in one way")
		} else if part.Plan.Runtime != profiles.OpenMP {
			s.cannotSeatThreads(at)
		}
		s.cannotLimit(part.Plan, "mpirun knows whole CPUs")
		if part.Plan.MemoryMiB != nil {
			s.cannot("memory of %.0f MiB on a node: mpirun sets no limit; --emit slurm does", *part.Plan.MemoryMiB)
		}
	}
	s.line(`[ $# -gt 0 ] || { echo "usage: sh $0 PROGRAM [ARG ...]" >&2; exit 2; }`)
	s.line("hosts=$(mktemp) || exit")
	s.line(`cat >"$hosts" <<'END'`)
	for _, part := range parts {
		for _, name := range part.Names {
			s.line("%s slots=%d", name, part.Plan.Workers.Processes)
		}
	}
	s.line("END")
	bind := "--map-by slot --bind-to none"
	if seated {
		bind = `--mca rmaps_rank_file_physical 1 --rankfile /dev/fd/4 --report-bindings`
		s.line("ranks=$(mktemp) || exit")
		s.line(`cat >"$ranks" <<'END'`)
		rank := 0
		for _, part := range parts {
			at := places(part.Plan)
			for _, name := range part.Names {
				for _, a := range at {
					s.line("rank %d=%s slot=%s", rank, name, a.cpus)
					rank++
				}
			}
		}
		s.lines("END\nexec 4<\"$ranks\"\nrm -f \"$ranks\"\n")
	}
	s.lines("exec 3<\"$hosts\" # mpirun reads it twice, so a pipe would not do\nrm -f \"$hosts\"\n")
	command := `exec mpirun --hostfile /dev/fd/3 ` + bind
	for i, part := range parts { // an application context each, in the order of the ranks
		if i > 0 {
			command += " :"
		}
		command += fmt.Sprintf(" -n %d", len(part.Names)*part.Plan.Workers.Processes)
		for _, v := range append(counts(part.Plan), withinMask(part.Plan)...) {
			command += " -x " + shellQuote(v.name+"="+v.value)
		}
		command += ` "$@"`
	}
	s.line("%s", command)
	return s.once()
}

// byNode is a script for all nodes, in which each finds its own.
func (s *sheet) byNode(parts []Nodes, script func(*advisor.Plan) Settings) {
	s.line("node=${BERTH_NODE:-${SLURMD_NODENAME:-$(uname -n)}}")
	s.line(`case $node in`)
	for _, part := range parts {
		var patterns []string
		for _, name := range part.Names {
			patterns = append(patterns, shellQuote(name))
			if !strings.Contains(name, ".") { // the system may know its domain
				patterns = append(patterns, shellQuote(name)+".*")
			}
		}
		s.line("%s)", strings.Join(patterns, "|"))
		one := script(part.Plan)
		s.lines(strings.TrimPrefix(one.Text, "#!/bin/sh\n"))
		s.lost = append(s.lost, one.Lost...)
		s.line(";;")
	}
	s.line(`*) echo "berth: the plan has no workers for node $node" >&2; exit 1 ;;`)
	s.line("esac")
}

// tasksetFleet is the script of the target taskset for each node, for whatever
// runs one command on many.
type tasksetFleet struct{}

func (tasksetFleet) Name() string { return "taskset" }
func (tasksetFleet) About() string {
	return "sh script to run on every node by pdsh, clush, parallel or parallel-ssh: it starts that node's workers by taskset"
}

func (tasksetFleet) EmitFleet(parts []Nodes) Settings {
	s := &sheet{}
	s.line("#!/bin/sh")
	s.fleetTitle(parts)
	var folded, names []string
	for _, part := range parts {
		folded, names = append(folded, part.Folded), append(names, part.Names...)
	}
	s.comment("sh FILE PROGRAM [ARG …] on each node starts its workers. The node is known by its host name, or by BERTH_NODE. FILE has to be on all of them:")
	s.line("#   pdsh -S -w %s sh FILE PROGRAM", shellQuote(strings.Join(folded, ",")))
	s.line("#   clush -S -w %s sh FILE PROGRAM", shellQuote(strings.Join(folded, ",")))
	if len(names) <= mostListed {
		s.line("#   parallel --nonall --tag -S %s sh FILE PROGRAM", shellQuote(strings.Join(names, ",")))
	}
	s.byNode(parts, taskset{}.Emit)
	return s.once()
}

// mostListed bounds the names of nodes in one line of a comment.
const mostListed = 32

// daskFleet is the script of the target dask for each node.
type daskFleet struct{}

func (daskFleet) Name() string { return "dask" }
func (daskFleet) About() string {
	return "sh script to run on every node: it starts that node's Dask workers"
}

func (daskFleet) EmitFleet(parts []Nodes) Settings {
	s := &sheet{}
	s.line("#!/bin/sh")
	s.comment("sh FILE SCHEDULER [OPTION …] on each node starts its workers: by srun with one task on each, pdsh, clush or parallel-ssh. The node is known by its host name, or by BERTH_NODE.")
	s.byNode(parts, dask{}.Emit)
	return s.once()
}

// sparkFleet is one spark-defaults.conf: all executors of an application have
// one size, so that of the shape with the smallest is cut out of the others.
type sparkFleet struct{}

func (sparkFleet) Name() string { return "spark" }
func (sparkFleet) About() string {
	return "spark-defaults.conf for the cluster: executors of one size that fit every shape"
}

func (sparkFleet) EmitFleet(parts []Nodes) Settings {
	least := parts[0].Plan
	memory := func(p *advisor.Plan) float64 {
		if p.MemoryMiB == nil {
			return 0
		}
		return *p.MemoryMiB / float64(p.Workers.Processes)
	}
	for _, part := range parts[1:] {
		if part.Plan.Workers.Each() < least.Workers.Each() || part.Plan.Workers.Each() == least.Workers.Each() && memory(part.Plan) < memory(least) {
			least = part.Plan
		}
	}
	// That plan, with as many executors as all nodes hold; seats are told of per shape.
	all := *least
	all.Workers.Processes, all.Placement, all.BudgetCPUs = 0, advisor.Placement{Pin: advisor.NoPin, Why: "an executor takes no seats"}, 0
	s := &sheet{}
	s.fleetTitle(parts)
	for _, part := range parts {
		n := part.Plan.Workers.Processes * (part.Plan.Workers.Each() / least.Workers.Each())
		all.Workers.Processes += n * len(part.Names)
		all.BudgetCPUs += part.Plan.BudgetCPUs * float64(len(part.Names))
		if part.Plan.Workers.Each() != least.Workers.Each() {
			s.cannot("executors of %d slots (nodes of a larger shape: %d): all executors of an application are alike, and have %d", part.Plan.Workers.Each(), len(part.Names), least.Workers.Each())
		}
		s.cannotSeat(part.Plan, "an executor takes none; --emit taskset of a shape's plan starts the worker daemon on them")
	}
	if least.MemoryMiB != nil {
		whole := math.Floor(memory(least)) * float64(all.Workers.Processes)
		all.MemoryMiB = &whole
	}
	one := spark{}.Emit(&all)
	s.lines(one.Text)
	s.lost = append(s.lost, one.Lost...)
	return s.once()
}

// kubernetesFleet is a DaemonSet for each shape: that is what keeps one pod on
// each of some nodes, and replaces it where it is.
type kubernetesFleet struct{}

func (kubernetesFleet) Name() string { return "kubernetes" }
func (kubernetesFleet) About() string {
	return "DaemonSet for each shape: a pod on each of its nodes, and what their kubelets must be set to"
}

func (kubernetesFleet) EmitFleet(parts []Nodes) Settings {
	s := &sheet{}
	s.fleetTitle(parts)
	s.comment("A node is known by its label kubernetes.io/hostname, which is its name unless somebody has changed that.")
	for i, part := range parts {
		name := plainName(part.Plan.Profile)
		if len(parts) > 1 {
			name = fmt.Sprintf("%.58s-%d", name, i+1)
			s.line("---")
			s.comment("On %s:", part.Folded)
		}
		pod := s.pod(part.Plan)
		var names []string
		for _, node := range part.Names {
			names = append(names, fmt.Sprintf("%q", node))
		}
		s.line(`apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: %[1]q
spec:
  selector:
    matchLabels: {app: %[1]q}
  template:
    metadata:
      labels: {app: %[1]q}
    spec:
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
            - matchExpressions:
              - {key: kubernetes.io/hostname, operator: In, values: [%[2]s]}
%[3]s`, name, strings.Join(names, ", "), pod)
	}
	return s.once()
}
