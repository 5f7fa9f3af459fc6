package emit

import "berth/advisor"

// taskset starts the workers by util-linux's taskset(1).
type taskset struct{}

func (taskset) Name() string  { return "taskset" }
func (taskset) About() string { return "sh script that starts the workers by taskset" }

func (taskset) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.launcher(p, launch{prefix: tasksetOn, notes: s.cannotBindMemory})
	return s.settings()
}

func tasksetOn(at place) string { return "taskset -c " + at.cpus.String() }
