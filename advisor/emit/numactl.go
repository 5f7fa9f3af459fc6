package emit

import "berth/advisor"

// numactl starts the workers by numactl(8).
type numactl struct{}

func (numactl) Name() string { return "numactl" }
func (numactl) About() string {
	return "sh script that starts the workers by numactl, each with memory of its own node"
}

func (numactl) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.launcher(p, launch{prefix: func(at place) string {
		out := "numactl --physcpubind=" + at.cpus.String()
		if at.mems != "" {
			out += " --membind=" + at.mems
		}
		return out + " --"
	}, notes: func(at []place) {
		if allMems(at) != "" {
			s.comment("--membind is strict: where a node may fill up, --preferred=NODE takes memory elsewhere then.")
		}
	}})
	return s.settings()
}
