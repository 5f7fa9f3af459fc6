//go:build lab

package vmlab

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/finding"
)

// row is a guest of the matrix: what QEMU is asked for, and what comes of it.
type row struct {
	name  string
	quick bool
	guest guest
	asked shape
	// lie says why the guest is known not to be as asked, and finding is the code
	// of berth's finding about it; empty where nothing inside the guest gives it
	// away.
	lie, finding string
	// The seats of the usual steps. Empty: the last CPU, the first two, and all
	// CPUs or the first eight; "none" is no experiment. It takes cores of one kind.
	seat, others, experiment string
	prepare                  func(t *testing.T, g *guest)
	before, more             string // steps around the usual ones
	check                    func(t *testing.T, steps map[string]string, m *probe.Machine)
}

func (r row) seats() (seat, others, experiment string) {
	online := r.asked[4]
	seat, others, experiment = r.seat, r.others, r.experiment
	if seat == "" {
		seat = strconv.Itoa(online - 1)
	}
	if others == "" {
		others = cpuset.Range(0, cpuset.CPU(min(1, online-1))).String()
	}
	switch experiment {
	case "":
		experiment = cpuset.Range(0, cpuset.CPU(online-1)).String()
		if online > 16 {
			experiment = "0-7"
		}
	case "none":
		experiment = ""
	}
	return seat, others, experiment
}

// nodes is QEMU's description of three nodes, of which the last has no CPUs, and
// of distances that depend on the direction.
const nodes = "-object memory-backend-ram,id=a,size=512M -object memory-backend-ram,id=b,size=256M " +
	"-object memory-backend-ram,id=c,size=256M -numa node,nodeid=0,cpus=0-3,memdev=a -numa node,nodeid=1,cpus=4-7,memdev=b -numa node,nodeid=2,memdev=c " +
	"-numa dist,src=0,dst=1,val=21 -numa dist,src=0,dst=2,val=17 -numa dist,src=1,dst=2,val=28 -numa dist,src=1,dst=0,val=31 -numa dist,src=2,dst=0,val=17 -numa dist,src=2,dst=1,val=28"

const noTopoext = "without TOPOEXT, which the emulation lacks, Linux takes AMD's siblings for cores"

var matrix = []row{
	{name: "Skylake, 2 packages of 2 dies", quick: true, guest: guest{arch: "amd64", cpu: "-cpu Skylake-Server,+x2apic -smp 16,sockets=2,dies=2,cores=2,threads=2"},
		asked: shape{2, 4, 0, 8, 16, 1}, check: checkSkylake,
		more: "run bound on 3-4,9 /berth inspect -o json\nrun one on 3-4,9 /berth nproc\n" +
			"write /sys/devices/system/cpu/cpu5/online 0\nrun offline /berth inspect -o json\nwrite /sys/devices/system/cpu/cpu5/online 1\n" +
			"write /sys/devices/system/cpu/smt/control off\nrun nosmt /berth inspect -o json\n"},
	{name: "Milan, SMT", quick: true, guest: guest{arch: "amd64", cpu: "-cpu EPYC-Milan -smp 8,sockets=2,cores=2,threads=2"},
		asked: shape{2, 2, 0, 4, 8, 1}, lie: noTopoext, finding: finding.Contradiction},
	{name: "nodes, isolated CPUs", quick: true, guest: guest{arch: "amd64", append: "isolcpus=2-3 nohz_full=2-3", cpu: "-cpu max -smp 8,sockets=2,cores=4,threads=1 " + nodes},
		asked: shape{2, 2, 0, 8, 8, 3}, seat: "2", experiment: "0-1,4-7", check: func(t *testing.T, _ map[string]string, m *probe.Machine) {
			top := m.Topology
			if top.Isolated == nil || top.Isolated.String() != "2-3" || top.NohzFull == nil || top.NohzFull.String() != "2-3" || top.Allowed.String() != "0-1,4-7" {
				t.Errorf("isolated %v, nohz_full %v, allowed %s", top.Isolated, top.NohzFull, top.Allowed)
			}
			if len(top.NUMANodes) != 3 || !top.NUMANodes[2].CPUs.IsEmpty() || !slices.Equal(top.NUMANodes[1].Distances, []int{31, 10, 28}) {
				t.Errorf("nodes %+v", top.NUMANodes)
			}
		}},
	{name: "64 CPUs", quick: true, guest: guest{arch: "amd64", cpu: "-cpu Skylake-Server,+x2apic -smp 64,sockets=2,cores=16,threads=2"},
		asked: shape{2, 2, 0, 32, 64, 1}, experiment: "none"},
	{name: "arm64, clusters, SMT", quick: true, guest: guest{arch: "arm64", cpu: "-cpu cortex-a72 -smp 8,sockets=1,clusters=2,cores=2,threads=2"},
		asked: shape{1, 0, 2, 4, 8, 0}, check: func(t *testing.T, _ map[string]string, m *probe.Machine) {
			if m.CPU.Brand != "Cortex-A72" || m.Host.Arch != "aarch64" {
				t.Errorf("%+v, %+v", m.CPU, m.Host)
			}
		}},

	{name: "one CPU", guest: guest{arch: "amd64", cpu: "-cpu max -smp 1"}, asked: shape{1, 1, 0, 1, 1, 1}},
	{name: "Cascade Lake, one package, SMT", guest: guest{arch: "amd64", cpu: "-cpu Cascadelake-Server,+x2apic -smp 8,sockets=1,cores=4,threads=2"}, asked: shape{1, 1, 0, 4, 8, 1}},
	{name: "Ice Lake, 3 packages, no SMT", guest: guest{arch: "amd64", cpu: "-cpu Icelake-Server,+x2apic -smp 6,sockets=3,cores=2,threads=1"}, asked: shape{3, 3, 0, 6, 6, 1}},
	{name: "Nehalem, 4 packages, SMT", guest: guest{arch: "amd64", cpu: "-cpu Nehalem,+x2apic -smp 16,sockets=4,cores=2,threads=2"}, asked: shape{4, 4, 0, 8, 16, 1}},
	{name: "an odd number of cores, SMT", guest: guest{arch: "amd64", cpu: "-cpu Skylake-Server,+x2apic -smp 12,sockets=2,cores=3,threads=2"}, asked: shape{2, 2, 0, 6, 12, 1}},
	{name: "Rome, 2 packages, no SMT", guest: guest{arch: "amd64", cpu: "-cpu EPYC-Rome -smp 8,sockets=2,cores=4,threads=1"}, asked: shape{2, 2, 0, 8, 8, 1}},
	{name: "Rome, 2 dies", guest: guest{arch: "amd64", cpu: "-cpu EPYC-Rome -smp 8,sockets=1,dies=2,cores=4,threads=1"},
		asked: shape{1, 2, 0, 8, 8, 1}, lie: "CPUID of AMD's models in QEMU names no dies"},
	{name: "Opteron, 2 packages", guest: guest{arch: "amd64", cpu: "-cpu Opteron_G3 -smp 4,sockets=2,cores=2,threads=1"}, asked: shape{2, 2, 0, 4, 4, 1}},
	{name: "255 CPUs", guest: guest{arch: "amd64", memory: "3G", patient: true, append: "maxcpus=1 tsc=reliable nowatchdog GOMAXPROCS=4",
		cpu: "-M q35 -cpu Skylake-Server,+x2apic,-mtrr -smp 255,sockets=1,cores=255,threads=1"},
		asked: shape{1, 1, 0, 255, 255, 1}, before: bring(1, 254), experiment: "none"},
	{name: "a node without memory", guest: guest{arch: "amd64", cpu: "-M pc-i440fx-5.0 -cpu max -smp 8,sockets=2,cores=4,threads=1 " +
		"-numa node,nodeid=0,cpus=0-3,mem=1G -numa node,nodeid=1,cpus=4-7,mem=0"},
		asked: shape{2, 2, 0, 8, 8, 2}, check: func(t *testing.T, _ map[string]string, m *probe.Machine) {
			n := m.Topology.NUMANodes
			if len(n) != 2 || n[1].CPUs.String() != "4-7" || n[1].MemoryBytes == nil || *n[1].MemoryBytes != 0 {
				t.Errorf("nodes %+v", n)
			}
		}},
	{name: "maxcpus=4 of 8", guest: guest{arch: "amd64", append: "maxcpus=4", cpu: "-cpu Skylake-Server,+x2apic -smp 8,sockets=2,cores=2,threads=2"},
		asked: shape{1, 1, 0, 2, 4, 1}, check: func(t *testing.T, _ map[string]string, m *probe.Machine) {
			if m.Topology.Offline.String() != "4-7" || m.Limits.EffectiveCPUs != 4 {
				t.Errorf("offline %s, budget %v", m.Topology.Offline, m.Limits.EffectiveCPUs)
			}
		}},
	{name: "nosmt", guest: guest{arch: "amd64", append: "nosmt", cpu: "-cpu Skylake-Server,+x2apic -smp 8,sockets=2,cores=2,threads=2"},
		asked: shape{2, 2, 0, 4, 4, 1}, seat: "2", others: "0,4", experiment: "0,2,4,6", check: func(t *testing.T, _ map[string]string, m *probe.Machine) {
			if m.Topology.Online.String() != "0,2,4,6" || !says(m, "smt-off") {
				t.Errorf("online %s, findings %+v", m.Topology.Online, m.Findings)
			}
		}},

	{name: "arm64, 2 packages of clusters", guest: guest{arch: "arm64", cpu: "-cpu cortex-a57 -smp 8,sockets=2,clusters=2,cores=2,threads=1"}, asked: shape{2, 0, 4, 8, 8, 0}},
	{name: "arm64, capacities", guest: guest{arch: "arm64", cpu: "-cpu cortex-a53 -smp 6,sockets=1,clusters=2,cores=3,threads=1"},
		asked: shape{1, 0, 2, 6, 6, 0}, experiment: "3-5", prepare: capacities(446, 446, 446, 1024, 1024, 1024), check: func(t *testing.T, _ map[string]string, m *probe.Machine) {
			k := m.Topology.CoreKinds
			if len(k) != 2 || k[0].CPUs.String() != "3-5" || k[1].CPUs.String() != "0-2" {
				t.Errorf("kinds %+v", k)
			}
		}},
	{name: "arm64, three capacities", guest: guest{arch: "arm64", cpu: "-cpu cortex-a76 -smp 8,sockets=1,clusters=1,cores=8,threads=1"},
		asked: shape{1, 0, 0, 8, 8, 0}, experiment: "7", prepare: capacities(250, 250, 250, 250, 871, 871, 871, 1024), check: func(t *testing.T, _ map[string]string, m *probe.Machine) {
			var sets []string
			for _, k := range m.Topology.CoreKinds {
				sets = append(sets, k.CPUs.String())
			}
			if !slices.Equal(sets, []string{"7", "4-6", "0-3"}) {
				t.Errorf("kinds %v", sets)
			}
		}},
	{name: "arm64, nodes", guest: guest{arch: "arm64", cpu: "-cpu max -smp 8,sockets=2,clusters=1,cores=4,threads=1 " + nodes}, asked: shape{2, 0, 0, 8, 8, 3}},
	{name: "riscv64", guest: guest{arch: "riscv64", cpu: "-smp 4"}, asked: shape{1, 0, 0, 4, 4, 0}},
	{name: "ppc64le", guest: guest{arch: "ppc64le", memory: "2G", cpu: "-cpu POWER9 -smp 4,sockets=2,cores=2,threads=1"}, asked: shape{2, 0, 0, 4, 4, 0}},
	{name: "s390x", guest: guest{arch: "s390x", cpu: "-cpu max -smp 4"}, asked: shape{0, 0, 0, 4, 4, 0}},
}

// bring brings CPUs online, after a boot with maxcpus=1. While a kernel starts it
// rewrites its own code. With 255 CPUs at once on a busy host of two, three of
// four boots hung there: a CPU trapped again and again at a place under change, as
// if QEMU had missed the end of it. The others come when that is over. MTRRs would
// have all CPUs wait for each other whenever one comes, and a TSC that is watched
// and found too coarse would leave the HPET, which they would all wait for. The
// kernel hands GOMAXPROCS on to init and all programs, whose threads would else be
// as many as the CPUs.
func bring(first, last int) string {
	var steps strings.Builder
	for c := first; c <= last; c++ {
		fmt.Fprintf(&steps, "write /sys/devices/system/cpu/cpu%d/online 1\n", c)
	}
	return steps.String()
}

func TestMatrix(t *testing.T) {
	for i, r := range matrix {
		t.Run(r.name, func(t *testing.T) {
			if !r.quick && !*whole {
				t.Skip("not one of the quick guests: -whole boots it")
			}
			t.Parallel() // two at once, see slots
			if r.prepare != nil {
				r.prepare(t, &r.guest)
			}
			seat, others, experiment := r.seats()
			r.guest.steps = r.before + usual(seat, others, experiment) + r.more
			s := play(t, r.guest)
			m, f := machineOf(t, s.steps, "machine"), factsOf(s.steps)
			kernel, here := f.shape(t), shapeOf(&m.Topology)
			one := line{order: i, name: r.name, release: f["release"], up: s.up, whole: s.whole, asked: r.asked, kernel: kernel, here: here, remark: "equal"}
			checkAgainstFiles(t, f, m)
			if kernel != here {
				t.Errorf("the kernel has %s, berth %s", kernel, here)
				one.remark = "berth differs"
			}
			switch lied := kernel.differs(r.asked); {
			case lied != nil && r.lie == "":
				t.Errorf("asked for %s, and the kernel has %s: %s", r.asked, kernel, strings.Join(lied, ", "))
				one.remark = "not as asked"
			case lied == nil && r.lie != "":
				t.Errorf("the kernel has what was asked for, and yet %s", r.lie)
			case lied != nil:
				one.remark = fmt.Sprintf("%s not as asked: %s", strings.Join(lied, ", "), r.lie)
				if r.finding == "" {
					break
				}
				one.remark += "; finding " + r.finding
				if !says(m, r.finding) {
					t.Errorf("no finding %s: %+v", r.finding, m.Findings)
				}
			}
			if !says(m, probe.VCPUUnverified) && r.guest.arch == "amd64" {
				t.Errorf("no finding that this is a virtual machine: %+v", m.Findings)
			}
			for _, found := range m.Findings {
				t.Logf("finding %s (%s): %s %q", found.Code, found.Severity, found.Message, found.Evidence)
			}
			checkUsual(t, s.steps, seat, others, experiment)
			if r.check != nil {
				r.check(t, s.steps, m)
			}
			if t.Failed() && one.remark == "equal" {
				one.remark = "equal; something else failed"
			}
			t.Log(one)
			table.add(one)
		})
	}
}

func says(m *probe.Machine, code string) bool {
	return slices.ContainsFunc(m.Findings, func(f finding.Finding) bool { return f.Code == code })
}

func checkSkylake(t *testing.T, steps map[string]string, m *probe.Machine) {
	if b := machineOf(t, steps, "bound"); b.Topology.Allowed.String() != "3-4,9" || b.Limits.EffectiveCPUs != 3 || strings.TrimSpace(steps["one"]) != "3" {
		t.Errorf("bound to 3-4,9: allowed %s, budget %v, nproc %q", b.Topology.Allowed, b.Limits.EffectiveCPUs, steps["one"])
	}
	off := machineOf(t, steps, "offline")
	if off.Topology.Offline.String() != "5" || off.Topology.Online.Contains(5) || len(off.Topology.Cores) != 8 || off.Fingerprint != m.Fingerprint {
		t.Errorf("CPU 5 offline: offline %s, online %s, %d cores, fingerprint kept: %v", off.Topology.Offline, off.Topology.Online, len(off.Topology.Cores), off.Fingerprint == m.Fingerprint)
	}
	if s := machineOf(t, steps, "nosmt"); s.Topology.SMT.Active || s.Topology.Online.Len() != 8 || s.Fingerprint != m.Fingerprint {
		t.Errorf("SMT off: %+v, online %s, fingerprint kept: %v", s.Topology.SMT, s.Topology.Online, s.Fingerprint == m.Fingerprint)
	}
}

// capacities gives each CPU of an arm64 guest its capacity-dmips-mhz
// (Documentation/devicetree/bindings/cpu/cpu-capacity.txt) in the device tree
// that QEMU would make.
func capacities(each ...int) func(t *testing.T, g *guest) {
	return func(t *testing.T, g *guest) {
		tree := filepath.Join(scratch, strings.NewReplacer(",", "", "/", "-").Replace(t.Name())+".dtb") // QEMU takes no comma
		dump := exec.Command(emulators[g.arch].program, append([]string{"-M", "virt,dumpdtb=" + tree, "-m", "1G", "-nographic"}, strings.Fields(g.cpu)...)...)
		if _, err := exec.LookPath("fdtput"); err != nil {
			t.Skipf("%v: run probe/vmlab/setup all", err)
		}
		if out, err := dump.CombinedOutput(); err != nil {
			t.Fatalf("dump the device tree: %v\n%s", err, out)
		}
		for cpu, capacity := range each {
			put := exec.Command("fdtput", "-t", "i", tree, fmt.Sprintf("/cpus/cpu@%d", cpu), "capacity-dmips-mhz", strconv.Itoa(capacity))
			if out, err := put.CombinedOutput(); err != nil {
				t.Fatalf("edit the device tree: %v\n%s", err, out)
			}
		}
		g.cpu += " -dtb " + tree
	}
}
