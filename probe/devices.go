package probe

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"berth/probe/root"
)

// deviceClasses are the folders of /sys/class whose devices a workload may
// want to be near, and the kind that each makes.
var deviceClasses = [...]struct{ class, kind string }{
	{"net", "nic"}, {"infiniband", "infiniband"}, {"nvme", "nvme"}, {"drm", "gpu"}, {"accel", "accelerator"},
}

// readDevices lists the devices whose place in the machine is known: those of
// the classes above that are hardware, and the processing accelerators and
// display controllers on the PCI bus that no driver has put into a class.
func readDevices(r root.Reader) []Device {
	var found []Device
	for _, c := range deviceClasses {
		found = append(found, classDevices(r, c.class, c.kind)...)
	}
	found = append(found, driverless(r, found)...)
	slices.SortFunc(found, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.PCI, b.PCI), cmp.Compare(a.Name, b.Name))
	})
	return found
}

// list opens a folder and names its entries; nil if there is none.
func list(r root.Reader, base string) (root.Dir, []string) {
	dir, err := r.Open(base)
	if err != nil {
		r.Report(err)
		return nil, nil
	}
	names, err := dir.Names()
	if err != nil {
		r.Report(err)
	}
	return dir, names
}

// classDevices lists a class. Each entry is a link to the device's folder,
// whose path holds the PCI addresses on the way to it; the last is the
// device's own. An entry outside a bus is virtual and not listed.
func classDevices(r root.Reader, class, kind string) []Device {
	base := "/sys/class/" + class
	dir, names := list(r, base)
	if dir == nil {
		return nil
	}
	defer dir.Close()
	var out []Device
	for _, name := range names {
		if class == "drm" && (!strings.HasPrefix(name, "card") || strings.Contains(name, "-")) {
			continue // connectors and render nodes are not devices of their own
		}
		target, err := dir.ReadLink(name)
		if err != nil || strings.Contains(target, "/devices/virtual/") {
			continue
		}
		d := Device{Kind: kind, Name: name, PCI: lastPCI(target)}
		locality(r, base+"/"+name+"/device", &d)
		if d.PCI != "" {
			locality(r, "/sys/bus/pci/devices/"+d.PCI, &d)
		}
		out = append(out, d)
	}
	return out
}

// driverless lists PCI display controllers (class 03), coprocessors (0b40) and
// accelerators (12) that are in no class (PCI Code and ID Assignment, 1.4 to 1.18).
func driverless(r root.Reader, known []Device) []Device {
	const base = "/sys/bus/pci/devices"
	dir, names := list(r, base)
	if dir == nil {
		return nil
	}
	defer dir.Close()
	rd := root.Reader{Dir: dir, Found: r.Found}
	var out []Device
	for _, name := range names {
		if !isPCI(name) || slices.ContainsFunc(known, func(d Device) bool { return d.PCI == name }) {
			continue
		}
		class, _ := rd.Text(name + "/class")
		kind := ""
		switch {
		case strings.HasPrefix(class, "0x03"):
			kind = "gpu"
		case strings.HasPrefix(class, "0x12"), strings.HasPrefix(class, "0x0b40"):
			kind = "accelerator"
		case strings.HasPrefix(class, "0x0108"):
			kind = "nvme"
		case strings.HasPrefix(class, "0x0207"):
			kind = "infiniband"
		case strings.HasPrefix(class, "0x0200"):
			kind = "nic"
		default:
			continue
		}
		d := Device{Kind: kind, Name: name, PCI: name}
		locality(r, base+"/"+name, &d)
		out = append(out, d)
	}
	return out
}

// gpuMemory tells which NUMA nodes are the memory of a GPU, as NVIDIA's driver
// says in numa_status ("Node: 250"): the GPU of each by its node's number.
func gpuMemory(r root.Reader) map[int]Device {
	const base = "/proc/driver/nvidia/gpus"
	dir, names := list(r, base)
	if dir == nil {
		return nil
	}
	defer dir.Close()
	rd := root.Reader{Dir: dir, Found: r.Found}
	gpus := map[int]Device{}
	for _, name := range names {
		status, ok := rd.Text(name + "/numa_status")
		if !ok || !isPCI(name) {
			continue
		}
		_, rest, _ := strings.Cut(status, "Node:")
		value, _, _ := strings.Cut(rest, "\n")
		if node, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && node >= 0 {
			d := Device{Kind: "gpu", Name: name, PCI: name}
			locality(r, "/sys/bus/pci/devices/"+name, &d)
			gpus[node] = d
		}
	}
	return gpus
}

// locality reads where a device sits. A node of -1 means that the firmware
// does not say; the kernel then gives all CPUs as local.
func locality(r root.Reader, base string, d *Device) {
	if n, ok := r.Int(path.Join(base, "numa_node")); ok && n >= 0 && n < 1<<20 {
		node := int(n)
		d.NUMANode = &node
	}
	if set, ok := r.CPUs(path.Join(base, "local_cpulist")); ok {
		d.LocalCPUs = set
	} else if set, ok := r.CPUMask(path.Join(base, "local_cpus")); ok {
		d.LocalCPUs = set
	}
}

// lastPCI is the last PCI address in a device's path, or "".
func lastPCI(target string) string {
	last := ""
	for part := range strings.SplitSeq(target, "/") {
		if isPCI(part) {
			last = part
		}
	}
	return last
}

// isPCI recognises domain:bus:device.function, "0000:3b:00.0".
func isPCI(s string) bool {
	domain, rest, ok := strings.Cut(s, ":")
	if !ok || len(domain) < 4 || len(rest) != 7 || rest[2] != ':' || rest[5] != '.' {
		return false
	}
	return strings.Trim(domain+rest[:2]+rest[3:5]+rest[6:], "0123456789abcdef") == ""
}
