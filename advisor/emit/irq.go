package emit

import "berth/advisor"

// irqbalance is the environment of the daemon of that name (irqbalance(1)),
// which then leaves the plan's CPUs alone.
type irqbalance struct{}

func (irqbalance) Name() string { return "irqbalance" }
func (irqbalance) About() string {
	return "/etc/default/irqbalance: keeps interrupts off the CPUs of the plan"
}

func (irqbalance) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("/etc/default/irqbalance, or an EnvironmentFile of its service; the daemon takes it when it starts.")
	if places(p) == nil {
		s.cannot("CPUs without interrupts: the plan pins nothing, so none are the workers' own")
		return s.settings()
	}
	s.comment("The CPUs that serve no interrupts; others must be left. irqbalance 1.8.0 and later reads the list, older ones the mask.")
	s.line("IRQBALANCE_BANNED_CPULIST=%s", p.Placement.CPUs)
	s.line("#IRQBALANCE_BANNED_CPUS=%s", p.Placement.CPUs.KernelMask())
	s.onlyInterrupts()
	return s.settings()
}

func (s *sheet) onlyInterrupts() {
	s.cannot("the workers and their seats: this is about interrupts only; --emit taskset or systemd starts the workers")
}

// irq is an sh script that prints what moves interrupts off the plan's CPUs
// (Linux, Documentation/core-api/irq/irq-affinity.rst).
type irq struct{}

func (irq) Name() string { return "irq" }
func (irq) About() string {
	return "sh script that prints the smp_affinity_list lines that move interrupts off the CPUs of the plan"
}

func (irq) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.line("#!/bin/sh")
	s.title(p)
	if places(p) == nil {
		s.cannot("CPUs without interrupts: the plan pins nothing, so none are the workers' own")
		return s.settings()
	}
	s.comment("sh FILE changes nothing. It prints a line for each interrupt that CPUs of the plan may serve, and before it, as a comment, the line that takes it back. irqbalance undoes such lines: stop it, or --emit irqbalance.")
	s.comment("Interrupts that a device has for each CPU, as of NVMe and many network cards, are managed by the kernel and refuse.")
	s.onlyInterrupts()
	s.line("plan=%s", shellQuote(p.Placement.CPUs.String()))
	s.program("irq.sh", p, nil)
	return s.settings()
}
