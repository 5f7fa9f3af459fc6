package emit

import (
	"math"

	"berth/advisor"
	"berth/profiles"
)

// systemd is a drop-in for a service (systemd.exec(5),
// systemd.resource-control(5)).
type systemd struct{}

func (systemd) Name() string { return "systemd" }
func (systemd) About() string {
	return "drop-in for a systemd service: CPUs, memory nodes, quota, environment"
}

func (t systemd) Emit(p *advisor.Plan) Settings {
	return t.EmitFor(p, plainName(p.Profile)+".service")
}

// EmitFor takes the name of the unit.
func (systemd) EmitFor(p *advisor.Plan, unit string) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("%s.d/%s.conf below /etc/systemd/system or ~/.config/systemd/user; systemctl daemon-reload and a restart of the service take it.", unit, DropIn)
	s.line("[Service]")
	at := places(p)
	if at != nil {
		s.comment("An empty line first, for a list adds to that of the unit.")
		s.line("CPUAffinity=")
		s.line("CPUAffinity=%s", p.Placement.CPUs)
		if mems := allMems(at); mems != "" {
			s.line("NUMAPolicy=bind")
			s.line("NUMAMask=")
			s.line("NUMAMask=%s", mems)
		}
		s.oneMask(p, at)
	}
	if q := p.Quota(); q > 0 {
		percent := math.Ceil(q*100 - 1e-6) // older versions take no fractions
		s.line("CPUQuota=%d%%", int64(percent))
	}
	if p.MemoryMiB != nil {
		s.line("MemoryMax=%dM", int64(math.Ceil(*p.MemoryMiB)))
	}
	for _, v := range s.oneEnvironment(p) {
		s.line("Environment=%s=%s", v.name, v.value)
	}
	s.cannotCount()
	return s.settings()
}

// oneMask is for tools that have one set of CPUs for all workers.
func (s *sheet) oneMask(p *advisor.Plan, at []place) {
	if len(at) > 1 || hasThreadSeats(at) && p.Runtime != profiles.OpenMP {
		s.cannot("which process or thread sits on which of these CPUs: a service has one mask")
	}
}

// cannotCount is for tools that start one process, which starts the workers.
func (s *sheet) cannotCount() {
	s.cannot("the number of workers: the program takes it from BERTH_PROCESSES, BERTH_THREADS or its own settings")
}

// oneEnvironment is for tools that start one process on the CPUs of all.
func (s *sheet) oneEnvironment(p *advisor.Plan) []variable {
	if p.Runtime == profiles.Java {
		s.comment("%s of your own is replaced by this one: write both into it.", javaOptions)
	}
	out := starterCounts(p)
	if p.Workers.Processes == 1 {
		out = append(out, withinMask(p)...)
	}
	return out
}
