package hwloc

import (
	"cmp"
	"slices"
	"strings"
)

// The osdev_type attribute of version 2.
const (
	osBlock       = "0"
	osGPU         = "1"
	osNetwork     = "2"
	osOpenFabrics = "3"
	osCoprocessor = "5"
)

// devices lists what hwloc found on the buses: the operating system's devices,
// and the PCI devices of the same sorts that no driver has made one of.
func (r *reader) devices() {
	driven := map[int]bool{} // PCI devices that have an operating system's device
	var found []Device
	for i := range r.objects {
		o := &r.objects[i]
		if o.typ != "OSDev" {
			continue
		}
		d := Device{Name: o.name, PCI: o.infos[infoPCI]}
		bus := r.above(i, "PCIDev")
		class := ""
		if bus >= 0 {
			driven[bus] = true
			d.PCI, class = r.objects[bus].pci, r.objects[bus].pciType
		}
		if d.Kind = osKind(o, class); d.Kind == "" || d.Name == "" {
			continue
		}
		r.near(i, &d)
		found = append(found, d)
	}
	for i := range r.objects {
		o := &r.objects[i]
		if o.typ != "PCIDev" || driven[i] || o.pci == "" {
			continue
		}
		if kind := pciKind(o.pciType); kind != "" {
			d := Device{Kind: kind, Name: o.pci, PCI: o.pci}
			r.near(i, &d)
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.PCI, b.PCI), cmp.Compare(a.Name, b.Name))
	})
	// A GPU is card0, renderD128, cuda0 and more to hwloc, and one device here.
	r.machine.Devices = slices.CompactFunc(found, func(a, b Device) bool {
		return a.Kind == b.Kind && a.PCI == b.PCI && a.PCI != "" && (a.Kind == "gpu" || a.Kind == "accelerator")
	})
}

// above is the nearest object of a type around the object, or -1.
func (r *reader) above(i int, typ string) int {
	for i = r.objects[i].parent; i >= 0 && r.objects[i].typ != typ; {
		i = r.objects[i].parent
	}
	return i
}

// near fills where a device sits: at the innermost object around it that has
// CPUs or memory.
func (r *reader) near(i int, d *Device) {
	for i = r.objects[i].parent; i >= 0; i = r.objects[i].parent {
		o := &r.objects[i]
		if o.cpus == nil {
			continue
		}
		d.LocalCPUs = o.cpus.Intersect(r.machine.Topology.Online)
		if o.nodes != nil && o.nodes.Len() == 1 {
			node := int(o.nodes.First())
			if slices.ContainsFunc(r.nodes, func(n *object) bool { return *n.id == node }) {
				d.NUMANode = &node
			}
		}
		return
	}
}

func osKind(o *object, class string) string {
	if kind := o.infos[infoKind]; kind != "" {
		return kind
	}
	switch o.osdev {
	case osBlock:
		if strings.HasPrefix(o.name, "nvme") {
			return "nvme"
		}
		return "block"
	case osGPU:
		return "gpu"
	case osNetwork:
		return "nic"
	case osOpenFabrics:
		return "infiniband"
	case osCoprocessor:
		if strings.HasPrefix(class, "03") {
			return "gpu"
		}
		return "accelerator"
	}
	return ""
}

// pciKind is the kind of a PCI device by its class, with which pci_type begins
// (PCI Code and ID Assignment, 1.2 to 1.18).
func pciKind(class string) string {
	for _, known := range [...]struct{ class, kind string }{
		{"0108", "nvme"}, {"0200", "nic"}, {"0207", "infiniband"}, {"03", "gpu"}, {"0b40", "accelerator"}, {"12", "accelerator"},
	} {
		if strings.HasPrefix(class, known.class) {
			return known.kind
		}
	}
	return ""
}
