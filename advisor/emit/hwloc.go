package emit

import (
	"strings"

	"berth/advisor"
	"berth/probe/cpuset"
)

// hwlocBind starts the workers by hwloc-bind(1).
type hwlocBind struct{}

func (hwlocBind) Name() string { return "hwloc-bind" }
func (hwlocBind) About() string {
	return "sh script that starts the workers by hwloc-bind, each with memory of its own node"
}

func (hwlocBind) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.launcher(p, launch{prefix: func(at place) string {
		// Without -p its numbers are logical.
		out := "hwloc-bind -p --strict --cpubind " + locations("pu", at.cpus)
		if at.mems != "" {
			nodes, _ := cpuset.Parse(at.mems)
			out += " --membind " + locations("node", nodes) + " --mempolicy bind"
		}
		return out + " --"
	}, notes: func(at []place) {
		if at != nil {
			s.comment("Of CPUs that a machine lacks hwloc-bind takes those that it has: read /proc/self/status in the worker.")
		}
	}})
	return s.settings()
}

// locations are a set's ranges as hwloc writes them (hwloc(7), "Location
// Specification").
func locations(kind string, set cpuset.Set) string {
	return kind + ":" + strings.ReplaceAll(set.String(), ",", " "+kind+":")
}
