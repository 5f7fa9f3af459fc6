package emit

import (
	"math"
	"strconv"

	"berth/advisor"
)

// systemd is a drop-in for a service (systemd.exec(5),
// systemd.resource-control(5)).
type systemd struct{}

func (systemd) Name() string { return "systemd" }
func (systemd) About() string {
	return "drop-in for a systemd service: CPUs, memory nodes, quota, environment"
}

func (systemd) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("/etc/systemd/system/%s.service.d/berth.conf; systemctl daemon-reload takes it.", plainName(p.Profile))
	s.line("[Service]")
	at := places(p)
	if at != nil {
		s.line("CPUAffinity=%s", p.Placement.CPUs)
		if mems := allMems(at); mems != "" {
			s.line("NUMAPolicy=bind")
			s.line("NUMAMask=%s", mems)
		}
		if len(at) > 1 || hasThreadSeats(at) {
			s.cannot("which process or thread sits on which of these CPUs: a service has one mask")
		}
	}
	if q := quota(p); q > 0 {
		s.line("CPUQuota=%s%%", strconv.FormatFloat(math.Round(q*1e4)/100, 'f', -1, 64))
	}
	if p.MemoryMiB != nil {
		s.line("MemoryMax=%dM", int64(math.Ceil(*p.MemoryMiB)))
	}
	for _, v := range counts(p) {
		s.line("Environment=%s=%s", v.name, v.value)
	}
	s.cannot("the number of workers: the program takes it from BERTH_PROCESSES, BERTH_THREADS or its own settings")
	return s.settings()
}
