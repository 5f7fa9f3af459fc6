package cpuid

// Hypervisor is what CPUID says about running in a virtual machine.
type Hypervisor struct {
	Known   bool   // leaf 1 was read, so Present is a fact
	Present bool   // a hypervisor says so: leaf 1 ECX bit 31
	Vendor  string // its signature, as KVMKVMKVM
	// Dedicated is KVM's promise that each vCPU has a CPU of its own
	// (KVM_HINTS_REALTIME; the kernel's Documentation/virt/kvm/x86/cpuid.rst).
	Dedicated bool
}

const (
	kvmSignature    = "KVMKVMKVM"
	hyperVSignature = "Microsoft Hv"
	// kvmBehindHyperV is where KVM puts its own leaves when it shows Hyper-V's
	// in their usual place.
	kvmBehindHyperV = leafHypervisor + 0x100
)

// Hypervisor reads the facts of the first CPU that has leaf 1.
func (d *Dump) Hypervisor() Hypervisor {
	for _, p := range d.processors() {
		if p.has(leafVersion, 0) {
			return p.hypervisor()
		}
	}
	return Hypervisor{}
}

func (p processor) hypervisor() Hypervisor {
	h := Hypervisor{Known: true, Present: field(p.at(leafVersion, 0).ECX, 31, 31) == 1}
	if !h.Present {
		return h
	}
	signature := func(base uint32) string {
		r := p.at(base, 0)
		return registerText(r.EBX, r.ECX, r.EDX)
	}
	base := uint32(leafHypervisor)
	h.Vendor = signature(base)
	if h.Vendor == hyperVSignature && signature(kvmBehindHyperV) == kvmSignature {
		base, h.Vendor = kvmBehindHyperV, kvmSignature
	}
	if h.Vendor == kvmSignature {
		h.Dedicated = p.at(base+1, 0).EDX&1 == 1
	}
	return h
}
