package emit

import "berth/advisor"

// taskset starts the workers by util-linux's taskset(1).
type taskset struct{}

func (taskset) Name() string  { return "taskset" }
func (taskset) About() string { return "sh script that starts the workers by taskset" }

func (taskset) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.launcher(p, func(at place) string { return "taskset -c " + at.cpus.String() })
	if mems := allMems(places(p)); mems != "" {
		s.cannot("memory on the node beside each seat (%s): without a policy the kernel takes it from there while it has any; --emit numactl binds it", mems)
	}
	return s.settings()
}
