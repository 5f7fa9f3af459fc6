package probe

import (
	"os"
	"runtime"
	"strings"

	"berth/probe/cgroup"
	"berth/probe/procfs"
	"berth/probe/root"
)

// readHost fills what surrounds the processor.
func readHost(r root.Reader, live bool, info procfs.CPUInfo, chain []cgroup.Link) Host {
	h := Host{OS: "linux"}
	if n, ok := procfs.MemTotal(r); ok {
		h.MemoryBytes = &n
	}
	if live {
		h.Hostname, _ = os.Hostname()
		h.Kernel, h.Arch = procfs.Release(r), machineName()
	} else {
		h.Hostname, h.Kernel, h.Arch = procfs.Uname(r)
		if h.ArchGuessed = h.Arch == ""; h.ArchGuessed {
			h.Arch = info.Arch
		}
	}
	h.Hypervisor = hypervisorByFiles(r, info)
	h.Container = container(r, live, chain)
	return h
}

// Architecture of the program itself, for what only its own machine can say.
const onX86 = runtime.GOARCH == "amd64"

// hypervisorByFiles is what the kernel's files say of a hypervisor: Xen and
// LPAR by name, the rest by the maker's name in DMI (SMBIOS, type 1), which is
// believed only where the CPU says that it is virtual.
func hypervisorByFiles(r root.Reader, info procfs.CPUInfo) string {
	if kind, _ := r.Text("/sys/hypervisor/type"); kind != "" {
		return kind
	}
	if info.Arch == "s390x" {
		return s390Hypervisor(r)
	}
	if info.Arch == "i686" || info.Arch == "x86_64" {
		if !info.Virtual {
			return ""
		}
	}
	vendor, _ := r.Text("/sys/class/dmi/id/sys_vendor")
	product, _ := r.Text("/sys/class/dmi/id/product_name")
	for _, known := range [...]struct{ mark, name string }{
		{"QEMU", "qemu"}, {"KVM", "kvm"}, {"Amazon EC2", "kvm"}, {"Google Compute Engine", "kvm"}, {"OpenStack", "kvm"},
		{"VMware", "vmware"}, {"VirtualBox", "virtualbox"}, {"innotek", "virtualbox"}, {"Parallels", "parallels"},
		{"Virtual Machine", "hyper-v"}, {"Xen", "xen"}, {"HVM domU", "xen"}, {"BHYVE", "bhyve"}, {"Bochs", "bochs"},
	} {
		if strings.Contains(vendor, known.mark) || strings.Contains(product, known.mark) {
			return known.name
		}
	}
	if info.Virtual {
		return "unknown"
	}
	return ""
}

// s390Hypervisor reads /proc/sysinfo: "VM00 Control Program: KVM/Linux" in a
// virtual machine, "LPAR …" lines alone in a logical partition.
func s390Hypervisor(r root.Reader) string {
	text, _ := r.Text("/proc/sysinfo")
	for line := range strings.Lines(text) {
		if _, program, ok := strings.Cut(line, "Control Program:"); ok {
			if strings.Contains(program, "KVM") {
				return "kvm"
			}
			return strings.ToLower(strings.TrimSpace(program))
		}
	}
	if strings.Contains(text, "LPAR Number") {
		return "pr/sm"
	}
	return ""
}

// container names the container engine, by what it leaves for those inside:
// marker files, systemd's container variable, or the names of its groups.
func container(r root.Reader, live bool, chain []cgroup.Link) string {
	if name, ok := r.Text("/run/systemd/container"); ok && name != "" {
		return name
	}
	if live {
		if os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
			return "kubernetes"
		}
		if name := os.Getenv("container"); name != "" {
			return name
		}
	}
	for _, mark := range [...]struct{ file, name string }{
		{"/run/.containerenv", "podman"}, {"/.dockerenv", "docker"},
	} {
		if _, err := r.ReadHead(mark.file, 1); err == nil && !rootIsDisk(r) {
			return mark.name
		}
	}
	for _, link := range chain {
		for _, mark := range [...]struct{ part, name string }{
			{"/kubepods", "kubernetes"}, {"/docker", "docker"}, {"/libpod", "podman"}, {"/lxc", "lxc"},
		} {
			if strings.HasPrefix(link.Path, mark.part) || strings.Contains(link.Path, mark.part+"-") {
				return mark.name
			}
		}
	}
	return ""
}

// rootIsDisk reports whether the root file system is a plain one on a device of
// its own. The image of a container that was made the disk of a virtual machine
// keeps the engine's marker files.
func rootIsDisk(r root.Reader) bool {
	text, _ := r.Text("/proc/self/mountinfo")
	disk := false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 8 || fields[4] != "/" {
			continue
		}
		before, after, _ := strings.Cut(line, " - ")
		kind, _, _ := strings.Cut(after, " ")
		subtree := strings.Fields(before)[3] != "/"
		disk = !subtree && (strings.HasPrefix(kind, "ext") || kind == "xfs" || kind == "f2fs")
	}
	return disk
}
