package emit

import (
	"strings"

	"berth/advisor"
	"berth/probe/cpuset"
)

// nginx is the head of an nginx.conf (nginx.org, "Core functionality").
type nginx struct{}

func (nginx) Name() string { return "nginx" }
func (nginx) About() string {
	return "head of nginx.conf: worker_processes, worker_cpu_affinity, worker_connections"
}

const (
	nginxCPUs        = 1024 // that worker_cpu_affinity can name
	nginxConnections = 512  // worker_connections, the default
)

func (nginx) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("The head of nginx.conf, in place of the lines of these names there; http { … } follows it.")
	s.notThreads(p, "nginx")
	at, n := singles(p)
	s.cannotBindMemory(at)
	s.cannotLimit(p, "set it on the service (--emit systemd)")
	s.line("worker_processes %d;", n)
	largest := cpuset.UnionAll(cpusOf(at)...).Last()
	switch {
	case at == nil:
	case largest >= nginxCPUs:
		s.cannot("seats on CPUs %s: worker_cpu_affinity knows CPUs 0-%d", p.Placement.CPUs, nginxCPUs-1)
	case oneEach(at):
		s.comment("A worker for each CPU of the mask, which begins at the right with CPU 0.")
		s.line("worker_cpu_affinity auto %s;", binary(cpuset.UnionAll(cpusOf(at)...)))
	default:
		s.comment("A mask for each worker, which begins at the right with CPU 0.")
		var masks []string
		for _, a := range at {
			masks = append(masks, binary(a.cpus))
		}
		s.line("worker_cpu_affinity %s;", strings.Join(masks, "\n                    "))
	}
	s.lines("events {\n")
	if p.Workers.InFlight > 0 {
		s.line("    worker_connections %d;", max(nginxConnections, p.ConnectionsEach(n)))
		s.lines("}\n")
		s.cannot("%d tasks in flight in each worker: worker_connections counts idle connections too, and those to servers behind; max_conns of a server in upstream { … } bounds what is passed on", p.InFlightEach(n))
		return s.settings()
	}
	s.line("    worker_connections %d; # nginx's own default: the plan says nothing of connections\n}", nginxConnections)
	return s.settings()
}

func cpusOf(at []place) []cpuset.Set {
	var out []cpuset.Set
	for _, a := range at {
		out = append(out, a.cpus)
	}
	return out
}

// binary is a mask with a digit for each CPU, the highest first.
func binary(set cpuset.Set) string {
	last := set.Last()
	out := make([]byte, 0, last+1)
	for c := last; c >= 0; c-- {
		digit := byte('0')
		if set.Contains(c) {
			digit = '1'
		}
		out = append(out, digit)
	}
	return string(out)
}
