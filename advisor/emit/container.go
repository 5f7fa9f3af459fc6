package emit

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"berth/advisor"
	"berth/profiles"
)

// container starts the workers by docker-run(1) or podman-run(1): one in each
// container where workers have seats, or all in one that shares their quota.
type container struct{ engine string }

var docker, podman = container{"docker"}, container{"podman"}

func (c container) Name() string { return c.engine }
func (c container) About() string {
	return "sh script that starts the workers by " + c.engine + " run: CPUs, memory nodes, quota, memory"
}

func (c container) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	at := places(p)
	run := c.engine + " run --rm --init"
	for _, v := range append(containerEnvironment(p), variable{"BERTH_WORKER", ""}) {
		run += " --env " + v.name // with the value that it has in the script
	}
	if m := containerMemory(p); m != nil {
		run += fmt.Sprintf(" --memory=%dm", *m)
	}
	s.launcher(p, launch{takes: "IMAGE [ARG ...]", together: true, prefix: func(at place) string {
		out := run + " --cpuset-cpus=" + at.cpus.String()
		if at.mems != "" {
			out += " --cpuset-mems=" + at.mems
		}
		return out
	}, free: run + containerQuota(p), notes: func(at []place) { s.containers(p, at) }})
	if at != nil && p.Quota() > 0 {
		s.cannotShare(p)
	}
	return s.settings()
}

// containerEnvironment is that of a container with a worker in it, or with all.
func containerEnvironment(p *advisor.Plan) []variable {
	if places(p) == nil {
		return append(starterCounts(p), withinMask(p)...)
	}
	return append(counts(p), withinMask(p)...)
}

func containerQuota(p *advisor.Plan) string {
	if q := p.Quota(); q > 0 && places(p) == nil {
		return " --cpus=" + decimals(q)
	}
	return ""
}

// decimals is a number of CPUs in hundredths, rounded up: engines take them
// down to thousandths, and not below 0.01.
func decimals(cpus float64) string {
	return strconv.FormatFloat(math.Max(0.01, math.Ceil(cpus*100-1e-6)/100), 'f', -1, 64)
}

// containerMemory is the limit of each container, in MiB; nil where the profile
// does not say.
func containerMemory(p *advisor.Plan) *int64 {
	if p.MemoryMiB == nil {
		return nil
	}
	each := *p.MemoryMiB
	if places(p) != nil {
		each /= float64(p.Workers.Processes)
	}
	n := leastMemory(each)
	return &n
}

// leastMemory is a limit in whole MiB, no lower than Docker takes.
func leastMemory(mib float64) int64 { return max(6, int64(math.Ceil(mib))) }

// containers says what containers of one worker each do not share.
func (s *sheet) containers(p *advisor.Plan, at []place) {
	switch {
	case at == nil && p.Workers.Processes > 1:
		s.comment("The program starts the %d workers itself, in one container.", p.Workers.Processes)
	case len(at) > 1 && p.MemoryMiB != nil:
		s.comment("The memory of the plan is divided evenly, with the part that the workers would share.")
	}
	if p.MemoryMiB == nil {
		s.cannot("memory: the profile does not say how much a worker needs (limits.memory_per_worker_mib)")
	}
}

// cannotShare is for a quota of several containers.
func (s *sheet) cannotShare(p *advisor.Plan) {
	s.cannot("the quota of %g CPUs over all containers: each has CPUs of its own, and no limit within them", p.Quota())
}

// compose is a Compose file: a service for each worker that has a seat, or one
// for all (compose-spec, "Services top-level elements").
type compose struct{}

func (compose) Name() string { return "compose" }
func (compose) About() string {
	return "compose.yaml: a service for each seat, with CPUs, quota, memory and environment"
}

func (compose) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("compose.yaml; docker compose up --detach takes it.")
	at := places(p)
	s.containers(p, at)
	if p.Runtime != profiles.OpenMP {
		s.cannotSeatThreads(at)
	}
	s.noCPUSetMems(at)
	if at != nil && p.Quota() > 0 {
		s.cannotShare(p)
	}
	name := plainName(p.Profile)
	s.line("name: %s", yamlQuote(name))
	s.lines("x-worker: &worker\n  image: IMAGE # yours\n  init: true\n")
	if m := containerMemory(p); m != nil {
		s.line("  mem_limit: %dm", *m)
	}
	s.lines("x-environment: &environment\n")
	for _, v := range containerEnvironment(p) {
		s.line("  %s: %s", v.name, yamlQuote(v.value))
	}
	s.lines("services:\n")
	if at == nil {
		s.line("  worker:\n    <<: *worker")
		if q := p.Quota(); q > 0 {
			s.line("    cpus: %s", yamlQuote(decimals(q)))
		}
		s.line("    environment: *environment")
		return s.settings()
	}
	for i, a := range at {
		s.line("  worker-%d:\n    <<: *worker\n    cpuset: %s", i, yamlQuote(a.cpus.String()))
		s.line("    environment: {<<: *environment, BERTH_WORKER: %s}", yamlQuote(strconv.Itoa(i)))
	}
	return s.settings()
}

func (s *sheet) noCPUSetMems(at []place) {
	if mems := allMems(at); mems != "" {
		s.cannot("memory on the node beside each seat (%s): a service has no cpuset-mems; --emit docker binds it", mems)
	}
}

// EmitFor takes the name of a service that there is, for an override: all
// workers are in its one container.
func (compose) EmitFor(p *advisor.Plan, service string) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("compose.override.yaml beside compose.yaml; docker compose up --detach merges it into service %s.", service)
	at := places(p)
	s.oneMask(p, at)
	s.noCPUSetMems(at)
	s.cannotCount()
	environment := s.oneEnvironment(p)
	s.line("services:\n  %s:", yamlQuote(service))
	if at != nil {
		s.line("    cpuset: %s", yamlQuote(p.Placement.CPUs.String()))
	}
	var short, long []string
	limit := func(name, inDeploy, value string) {
		short = append(short, fmt.Sprintf("    %s: %s\n", name, value))
		long = append(long, inDeploy+": "+value)
	}
	if q := p.Quota(); q > 0 {
		limit("cpus", "cpus", yamlQuote(decimals(q)))
	}
	if p.MemoryMiB != nil {
		limit("mem_limit", "memory", fmt.Sprintf("%dm", leastMemory(*p.MemoryMiB)))
	}
	if short != nil {
		s.comment("In both forms, for yours may stand in either, and Compose takes no two that differ.")
		s.lines(strings.Join(short, ""))
		s.line("    deploy: {resources: {limits: {%s}}}", strings.Join(long, ", "))
	}
	s.lines("    environment:\n")
	for _, v := range environment {
		s.line("      %s: %s", v.name, yamlQuote(v.value))
	}
	return s.settings()
}

// yamlQuote writes a double-quoted scalar (YAML 1.2.2, section 7.3.1).
func yamlQuote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= ' ' && r < 0x7f:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
