package emit

import (
	"berth/advisor"
	"berth/probe/cpuset"
	"berth/profiles"
)

// kernel is the kernel's command line, as GRUB takes it (Linux,
// Documentation/admin-guide/kernel-parameters.txt).
type kernel struct{}

func (kernel) Name() string { return "kernel" }
func (kernel) About() string {
	return "kernel parameters for GRUB: isolcpus, nohz_full, rcu_nocbs for the CPUs of the plan"
}

func (kernel) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("/etc/default/grub.d/%s.cfg; update-grub and a restart of the machine take it, and removing the file and both again take it back.", DropIn)
	at := places(p)
	if at == nil {
		s.cannot("isolated CPUs: the plan pins nothing, and on isolated CPUs nobody else would place the workers")
		return s.settings()
	}
	own := p.Placement.CPUs
	if own.Contains(0) {
		own = own.Minus(cpuset.Range(0, 0))
		s.cannot("isolation of CPU 0: it keeps the time and does the kernel's own work; plan with limits.avoid_cpus: \"0\"")
	}
	if own.IsEmpty() {
		return s.settings()
	}
	s.comment("At least one CPU must be left for all else.")
	if pilesUp(p, at) {
		s.cannot("balance between CPUs that share workers: on isolated CPUs the kernel moves nobody, and threads with one mask pile up on one CPU; --emit cpuset balances within a partition")
	}
	s.cannot("the workers and their seats: this keeps others off the CPUs; --emit taskset or systemd starts the workers there")
	s.line(`GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX isolcpus=domain,managed_irq,%[1]s nohz_full=%[1]s rcu_nocbs=%[1]s"`, own)
	return s.settings()
}

// pilesUp reports whether threads share a mask of several CPUs, which only the
// kernel's balancing keeps apart. OpenMP's seat themselves within it.
func pilesUp(p *advisor.Plan, at []place) bool {
	for _, a := range at {
		if a.cpus.Len() > 1 && (p.Runtime != profiles.OpenMP || len(threadPlaces(p, a)) != p.Workers.Each()) {
			return true
		}
	}
	return false
}
