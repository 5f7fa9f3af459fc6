//go:build linux

package doctor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/tasks"
	"berth/probe/topology"
	"berth/profiles/program"
)

// scene is facts in the making.
type scene struct {
	*Facts
	t *testing.T
}

// quiet is a healthy machine that does nothing.
func quiet(t *testing.T, shape string) *scene {
	t.Helper()
	source, err := probe.Synthetic(shape)
	if err != nil {
		t.Fatal(err)
	}
	m, err := probe.Probe(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{&Facts{Interval: 3 * time.Second, Machine: m, Pressure: noPressure, Processes: map[int]*Process{}, Spent: map[cpuset.CPU]tasks.CPUTimes{}}, t}
	for c := range m.Topology.Online.All() {
		s.Spent[c] = tasks.CPUTimes{Idle: s.Interval}
	}
	return s
}

func set(list string) cpuset.Set {
	s, err := cpuset.Parse(list)
	if err != nil {
		panic(err)
	}
	return s
}

func (s *scene) process(pid int, name string) *Process {
	p := &Process{Process: tasks.Process{PID: pid, Stat: tasks.Stat{Name: name, State: tasks.Sleeping}, Exe: "/usr/bin/" + name}, Chosen: true,
		SwapBytes: -1, MajorFaults: -1, Group: &Group{Path: "/", Top: true, Pressure: noPressure}}
	s.Processes[pid] = p
	return p
}

// thread adds a thread that ran and waited for so much of the interval.
func (s *scene) thread(p *Process, cpu cpuset.CPU, allowed string, on, wait float64) *Thread {
	tid := p.PID + p.Threads
	p.Threads++
	s.Threads = append(s.Threads, Thread{PID: p.PID, TID: tid, Name: p.Name, State: tasks.Running,
		Occupant: affinity.Occupant{CPU: cpu, Allowed: set(allowed), OnCPU: on, Waiting: wait}})
	ran := time.Duration(on * float64(s.Interval))
	spent := s.Spent[cpu]
	spent.User += ran
	spent.Idle = max(spent.Idle-ran, 0)
	s.Spent[cpu] = spent
	return &s.Threads[len(s.Threads)-1]
}

// team is a process with that many threads of equal work.
func (s *scene) team(pid int, name string, threads int, allowed string, on, wait float64) *Process {
	p := s.process(pid, name)
	cpus := slices.Collect(set(allowed).All())
	for i := range threads {
		s.thread(p, cpus[i%len(cpus)], allowed, on, wait)
	}
	return p
}

func (g *Group) limit(quota float64, stopped int64) *Group {
	g.Path, g.QuotaPath, g.QuotaFile, g.QuotaCPUs, g.QuotaPeriodMS, g.Top = "/pod/a", "/pod", "/sys/fs/cgroup/pod/cpu.max", quota, 100, false
	if stopped > 0 {
		g.Throttled = map[string]Stopped{"/pod": {stopped, time.Duration(stopped) * 40 * time.Millisecond}}
	}
	return g
}

func codes(found []Finding) []string {
	var list []string
	for _, f := range found {
		list = append(list, f.Code)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// policy is a frequency policy over all CPUs.
func policy(cpus, driver, governor string) FrequencyPolicy {
	return FrequencyPolicy{Path: cpuDir + "/cpufreq/policy0", CPUs: set(cpus), Driver: driver, Governor: governor, MaxKHz: 3_500_000, TopKHz: 3_500_000, CurrentKHz: 3_400_000}
}

const pair, many = "package:1 core:2 pu:1", "package:1 core:4 pu:2"

func TestRules(t *testing.T) {
	for name, c := range map[string]struct {
		shape string
		build func(s *scene)
		want  []string // codes; empty: quiet
		fix   string   // of the first finding
	}{
		"nothing runs": {many, func(*scene) {}, nil, ""},
		"as many busy threads as CPUs": {pair, func(s *scene) {
			s.team(10, "work", 2, "0-1", 0.97, 0.03)
			s.team(20, "daemon", 3, "0-1", 0.02, 0.01)
		}, nil, ""},
		"hundreds of idle helpers": {pair, func(s *scene) {
			s.team(10, "java", 300, "0-1", 0, 0)
			s.thread(s.Processes[10], 0, "0-1", 0.9, 0.02)
		}, nil, ""},
		"more threads than CPUs": {pair, func(s *scene) { s.team(10, "work", 4, "0-1", 0.5, 0.5) },
			[]string{Oversubscribed}, "berth observe --pid 10 --advise"},
		"a mask narrower than the room": {many, func(s *scene) { s.team(10, "work", 6, "0,2", 0.33, 0.67) },
			[]string{Oversubscribed}, "taskset -acp 0-7 10"},
		"many processes": {pair, func(s *scene) {
			for pid := range 5 {
				s.thread(s.process(10+pid, "cc1"), cpuset.CPU(pid%2), "0-1", 0.4, 0.6)
			}
		}, []string{Oversubscribed}, ""},
		"in the background": {pair, func(s *scene) {
			s.team(10, "work", 2, "0-1", 0.95, 0.05)
			for i := range 4 {
				s.thread(s.Processes[10], cpuset.CPU(i%2), "0-1", 0.02, 0.9).Policy = policyIdle
			}
		}, nil, ""},
		"another user's crowd is not asked for": {pair, func(s *scene) { s.team(10, "work", 4, "0-1", 0.5, 0.5).Chosen = false }, nil, ""},
		"throttled, one thread": {pair, func(s *scene) { s.team(10, "work", 1, "0-1", 0.5, 0.5).Group.limit(0.5, 28) },
			[]string{Throttled}, "echo 100000 100000 > /sys/fs/cgroup/pod/cpu.max"},
		"stopped once in a while": {pair, func(s *scene) { s.team(10, "work", 1, "0-1", 0.9, 0.01).Group.limit(1.5, 0) }, nil, ""},
		"throttled and too many": {pair, func(s *scene) { s.team(10, "work", 2, "0-1", 0.25, 0.75).Group.limit(0.5, 29) },
			[]string{Oversubscribed, Throttled}, "echo 200000 100000 > /sys/fs/cgroup/pod/cpu.max"},
		"a unit of systemd": {pair, func(s *scene) {
			g := s.team(10, "web", 1, "0-1", 0.5, 0.5).Group.limit(0.5, 28)
			g.QuotaPath, g.Throttled = "/system.slice/web.service", map[string]Stopped{"/system.slice/web.service": {28, time.Second}}
		}, []string{Throttled}, "systemctl set-property --runtime web.service CPUQuota=100%"},
		"piled up on one CPU": {many, func(s *scene) { s.team(10, "work", 3, "3", 0.33, 0.67) }, []string{PinnedPile}, "taskset -acp 0-7 10"},
		"a cpuset of one CPU is no pile": {many, func(s *scene) {
			g := s.team(10, "work", 3, "3", 0.33, 0.67).Group
			g.CPUSet, g.CPUSetPath = set("3"), "/one"
		}, []string{Oversubscribed}, "berth observe --pid 10 --advise"},
		"two on the siblings of a core": {many, func(s *scene) { s.team(10, "work", 2, "0-1", 1, 0) }, nil, ""}, // they may use no other
		"siblings while cores idle": {many, func(s *scene) {
			p := s.process(10, "work")
			s.thread(p, 0, "0-7", 1, 0)
			s.thread(p, 1, "0-7", 1, 0)
		}, []string{SharedCore}, "berth pin --pid 10 --each -c 0,2,4,6"},
		"offline": {many, func(s *scene) { s.thread(s.process(10, "work"), 3, "9", 0.9, 0) }, []string{OfflineCPU}, "taskset -acp 0-7 10"},
		"outside of the cpuset": {many, func(s *scene) {
			p := s.process(10, "work")
			p.Group.CPUSet, p.Group.CPUSetPath = set("4-7"), "/half"
			s.thread(p, 3, "2-5", 0.9, 0).CPUSet = p.Group.CPUSet
		}, []string{OutsideCPUSet}, "taskset -acp 4-7 10"},
		"wide on isolated CPUs": {many, func(s *scene) {
			s.Machine.Topology.Isolated = new(set("4-7"))
			s.thread(s.process(10, "work"), 4, "4-7", 0.9, 0)
		}, []string{IsolatedWide}, "berth pin --pid 10 --each -c 4-7"},
		"pinned on an isolated CPU": {many, func(s *scene) {
			s.Machine.Topology.Isolated = new(set("4-7"))
			s.thread(s.process(10, "work"), 4, "4", 0.9, 0)
		}, []string{IsolatedPinned}, "taskset -acp 0-3 10"},
		"elsewhere than isolated": {many, func(s *scene) {
			s.Machine.Topology.Isolated = new(set("4-7"))
			s.thread(s.process(10, "work"), 1, "0-3", 0.9, 0)
		}, nil, ""},
		"an isolated partition": {many, func(s *scene) {
			p := s.process(10, "work")
			p.Group.CPUSet, p.Group.CPUSetPath, p.Group.Unbalanced = set("4-7"), "/iso", "/sys/fs/cgroup/iso/cpuset.cpus.partition"
			s.thread(p, 4, "4-7", 0.9, 0)
		}, []string{NoBalancing}, "berth pin --pid 10 --each -c 4-7"},
		"memory far away": {"package:2 numa:1 core:2 pu:1", func(s *scene) {
			p := s.process(10, "work")
			p.Memory = map[int]int64{0: 1 << 30, 1: 1 << 20}
			s.thread(p, 3, "2-3", 0.9, 0).Memory = p.Memory
		}, []string{RemoteMemory}, "migratepages 10 0 1"},
		"a device far away": {"package:2 numa:1 core:2 pu:1", func(s *scene) {
			s.Machine.Devices = []probe.Device{{Kind: "gpu", Name: "card0", PCI: "0000:3b:00.0", NUMANode: new(0)}}
			p := s.process(10, "work")
			p.Devices = []OpenDevice{{"/dev/nvidia0", "0000:3B:00.0"}}
			s.thread(p, 3, "2-3", 0.9, 0)
		}, []string{RemoteDevice}, "berth pin --pid 10 --place node:0"},
		"interrupts": {many, func(s *scene) {
			s.thread(s.process(10, "work"), 2, "2", 0.6, 0.1)
			s.Spent[2] = tasks.CPUTimes{User: 18e8, SoftIRQ: 9e8, IRQ: 3e8}
			s.Interrupts = []Interrupt{{Label: "LOC", Count: map[cpuset.CPU]int64{2: 900}}, {Label: "33", Name: "PCI-MSI eth0-rx-0", Affinity: "2", Count: map[cpuset.CPU]int64{2: 90_000}}}
			s.SoftIRQs = []Interrupt{{Label: "NET_RX", Count: map[cpuset.CPU]int64{2: 80_000}}}
		}, []string{IRQHeavy}, "echo 0-1,3-7 > /proc/irq/33/smp_affinity_list"},
		"intel_pstate powersave is normal": {pair, func(s *scene) {
			s.team(10, "work", 1, "0-1", 1, 0)
			s.Settings.Policies = []FrequencyPolicy{policy("0-1", "intel_pstate", "powersave")}
		}, nil, ""},
		"powersave of another driver": {pair, func(s *scene) {
			s.team(10, "work", 1, "0-1", 1, 0)
			s.Settings.Policies = []FrequencyPolicy{policy("0-1", "acpi-cpufreq", "powersave")}
		}, []string{SlowGovernor}, "echo performance | tee " + cpuDir + "/cpufreq/policy0/scaling_governor"},
		"powersave while idle": {pair, func(s *scene) {
			s.Settings.Policies = []FrequencyPolicy{policy("0-1", "acpi-cpufreq", "powersave")}
		}, nil, ""},
		"preference power": {pair, func(s *scene) {
			s.team(10, "work", 1, "0-1", 1, 0)
			s.Settings.Policies = []FrequencyPolicy{policy("0-1", "intel_pstate", "powersave")}
			s.Settings.Policies[0].Preference = "power"
		}, []string{PowerPreference}, ""},
		"capped": {pair, func(s *scene) {
			s.team(10, "work", 1, "0-1", 1, 0)
			s.Settings.Policies = []FrequencyPolicy{policy("0-1", "intel_pstate", "performance")}
			s.Settings.Policies[0].MaxKHz = 1_200_000
		}, []string{FrequencyCapped}, "echo 3500000 | tee " + cpuDir + "/cpufreq/policy0/scaling_max_freq"},
		"turbo off": {pair, func(s *scene) { s.Settings.TurboFile = cpuDir + "/intel_pstate/no_turbo" }, []string{TurboOff}, "echo 0 > " + cpuDir + "/intel_pstate/no_turbo"},
		"heat":      {pair, func(s *scene) { s.Heat = []Heat{{1, cpuDir + "/cpu1/thermal_throttle/core_throttle_count", 12}} }, []string{ThermalThrottled}, ""},
		"SMT off":   {pair, func(s *scene) { s.Machine.Topology.SMT = &topology.SMT{Control: "off"} }, []string{SMTOff}, "echo on > " + cpuDir + "/smt/control"},
		"no SMT":    {pair, func(s *scene) { s.Machine.Topology.SMT = &topology.SMT{Control: "notsupported"} }, nil, ""},
		"a floating vCPU": {pair, func(s *scene) {
			s.Machine.Findings = []finding.Finding{{Code: probe.VCPUUnverified, Evidence: []string{"hypervisor kvm"}}}
		}, []string{FloatingVCPU}, ""},
		"steal": {pair, func(s *scene) {
			s.team(10, "work", 1, "0-1", 0.9, 0)
			s.Spent[0] = tasks.CPUTimes{User: 27e8, Steal: 3e8}
		}, []string{Steal}, ""},
		"steal below the threshold": {pair, func(s *scene) {
			s.team(10, "work", 1, "0-1", 0.9, 0)
			s.Spent[0] = tasks.CPUTimes{User: 297e7, Steal: 3e7}
		}, nil, ""},
		"a service under nice": {pair, func(s *scene) {
			p := s.process(10, "nginx")
			p.Program = &program.Program{Server: "nginx"}
			s.thread(p, 0, "0-1", 0.3, 0.1).Nice = 5
		}, []string{ServiceNiced}, "renice -n 0 -p 10"},
		"a batch job under nice": {pair, func(s *scene) { s.thread(s.process(10, "xz"), 0, "0-1", 0.3, 0.1).Nice = 5 }, nil, ""},
		"a server's workers under nice are one finding": {pair, func(s *scene) {
			s.process(10, "nginx").Program = &program.Program{Server: "nginx"}
			for pid := 11; pid < 15; pid++ {
				p := s.process(pid, "nginx")
				p.Parent, p.Program = 10, &program.Program{Server: "nginx"}
				s.thread(p, 0, "0-1", 0.2, 0).Nice = 5
			}
		}, []string{ServiceNiced}, "renice -n 0 -p 11 12 13 14"},
		"an idle service under nice": {pair, func(s *scene) {
			p := s.process(10, "nginx")
			p.Program = &program.Program{Server: "nginx"}
			s.thread(p, 0, "0-1", 0, 0).Nice = 5
		}, nil, ""},
		"a service among batch work": {pair, func(s *scene) {
			p := s.process(10, "redis-server")
			p.Program = &program.Program{Server: "redis"}
			s.thread(p, 0, "0-1", 0.3, 0).Policy = policyBatch
		}, []string{ServicePolicy}, "for p in 10; do chrt --all-tasks --other --pid 0 $p; done"},
		"a crowded session": {pair, func(s *scene) {
			s.Settings.Autogroup = true
			p := s.process(10, "redis-server")
			p.Program, p.Session = &program.Program{Server: "redis"}, &Session{"/autogroup-5", 0}
			s.thread(p, 0, "0-1", 0.3, 0.1)
			s.team(20, "make", 1, "0-1", 0.9, 0.05).Session = p.Session
		}, []string{CrowdedSession}, ""},
		"nice across sessions": {pair, func(s *scene) {
			s.Settings.Autogroup = true
			p := s.process(10, "work")
			p.Session = &Session{"/autogroup-5", 0}
			s.thread(p, 0, "0-1", 0.6, 0.3).Nice = 15
			other := s.process(20, "other")
			other.Session = &Session{"/autogroup-6", 0}
			s.thread(other, 1, "0-1", 0.9, 0.05)
		}, []string{NiceIneffective}, "echo 15 > /proc/10/autogroup"},
		"Go beyond its quota": {"package:1 core:8 pu:1", func(s *scene) {
			p := s.team(10, "server", 1, "0-7", 0.5, 0)
			p.Group.limit(2, 0)
			p.Program = &program.Program{Runtime: "go", Settings: []program.Setting{{Name: "GOMAXPROCS", Value: "8", Source: "CPUs allowed at its start"}}}
		}, []string{GoProcs}, "GOMAXPROCS=2"},
		"Go within": {"package:1 core:8 pu:1", func(s *scene) {
			p := s.team(10, "server", 1, "0-7", 0.5, 0)
			p.Group.limit(0.5, 0)
			p.Program = &program.Program{Runtime: "go", Settings: []program.Setting{{Name: "GOMAXPROCS", Value: "2", Source: "environment"}}}
		}, nil, ""},
		"Go beyond, and idle": {"package:1 core:8 pu:1", func(s *scene) {
			p := s.team(10, "server", 1, "0-7", 0, 0)
			p.Group.limit(2, 0)
			p.Program = &program.Program{Runtime: "go", Settings: []program.Setting{{Name: "GOMAXPROCS", Value: "8", Source: ""}}}
		}, nil, ""},
		"a Go variable in a shell": {pair, func(s *scene) {
			s.team(10, "sh", 1, "0-1", 0.5, 0).Program = &program.Program{Runtime: "native", Settings: []program.Setting{{Name: "GOMAXPROCS", Value: "8", Source: "environment"}}}
		}, nil, ""},
		"a JVM": {pair, func(s *scene) {
			p := s.team(10, "java", 1, "0-1", 0.5, 0)
			p.Program = &program.Program{Runtime: "java", Settings: []program.Setting{{Name: "-XX:ActiveProcessorCount", Value: "16", Source: "command line"}, {Name: "-XX:ParallelGCThreads", Value: "2", Source: "command line"}}}
		}, []string{JVMThreads}, "JDK_JAVA_OPTIONS=-XX:ActiveProcessorCount=2"},
		"nginx whose workers work": {pair, func(s *scene) {
			p := s.process(10, "nginx")
			p.Program = &program.Program{Server: "nginx", Settings: []program.Setting{{Name: "worker_processes", Value: "8", Source: "children"}}}
			s.team(11, "nginx", 1, "0-1", 0.5, 0).Parent = 10
		}, []string{ServerWorkers}, "worker_processes 2;"},
		"gunicorn": {pair, func(s *scene) {
			p := s.team(10, "gunicorn", 1, "0-1", 0.1, 0)
			p.Program = &program.Program{Server: "gunicorn", Settings: []program.Setting{{Name: "--workers", Value: "4", Source: "command line"}, {Name: "--threads", Value: "8", Source: "command line"}}}
		}, []string{ServerWorkers}, "gunicorn --workers 2 --threads 4"},
		"gunicorn as its manual has it": {pair, func(s *scene) {
			p := s.team(10, "gunicorn", 1, "0-1", 0.1, 0)
			p.Program = &program.Program{Server: "gunicorn", Settings: []program.Setting{{Name: "--workers", Value: "5", Source: "command line"}}}
		}, nil, ""},
		"OpenMP times processes": {pair, func(s *scene) {
			for _, pid := range []int{10, 20} {
				p := s.team(pid, "solve", 2, "0-1", 0.45, 0.05)
				p.Program = &program.Program{Runtime: "openmp", Settings: []program.Setting{{Name: "OMP_NUM_THREADS", Value: "2", Source: "environment"}}}
			}
		}, []string{MathThreads}, "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1"},
		"processes of one thread each": {pair, func(s *scene) {
			for _, pid := range []int{10, 20, 30} {
				p := s.team(pid, "solve", 1, "0-1", 0.5, 0.05)
				p.Program = &program.Program{Runtime: "python", Settings: []program.Setting{{Name: "OMP_NUM_THREADS", Value: "1", Source: "environment"}}}
			}
		}, nil, ""},
		"CPU pressure":     {pair, func(s *scene) { s.Pressure = Pressure{0.4, 0, 0} }, []string{CPUPressure}, ""},
		"memory pressure":  {pair, func(s *scene) { s.Pressure = Pressure{0.1, 0.2, 0} }, []string{MemoryPressure}, ""},
		"pressure unknown": {pair, func(s *scene) {}, nil, ""},
		"swapping": {pair, func(s *scene) {
			p := s.team(10, "work", 1, "0-1", 0.3, 0)
			p.SwapBytes, p.MajorFaults = 64<<20, 300
		}, []string{Swapping}, ""},
		"swapped out long ago": {pair, func(s *scene) {
			p := s.team(10, "work", 1, "0-1", 0.3, 0)
			p.SwapBytes, p.MajorFaults = 64<<20, 0
		}, nil, ""},
		"a zombie": {pair, func(s *scene) {
			p := s.process(10, "work")
			p.Named, p.State = true, tasks.Zombie
		}, []string{NotJudged}, ""},
		"unseen": {pair, func(s *scene) { s.Unseen = []string{"hidden"} }, []string{Partial}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := quiet(t, c.shape)
			c.build(s)
			found := Diagnose(s.Facts)
			if got := codes(found); !slices.Equal(got, c.want) {
				t.Fatalf("found %v, want %v\n%+v", got, c.want, found)
			}
			if c.fix != "" && found[0].Fix != c.fix {
				t.Errorf("fix %q, want %q", found[0].Fix, c.fix)
			}
			for _, f := range found {
				if f.Message == "" || f.Evidence == nil || strings.Contains(f.Message+f.Fix+strings.Join(f.Evidence, ""), "%!") || kindIndex(f.Code) < 0 {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

func TestStealIsAnError(t *testing.T) {
	s := quiet(t, pair)
	s.team(10, "work", 1, "0-1", 0.8, 0)
	s.Spent[0] = tasks.CPUTimes{User: 24e8, Steal: 6e8}
	if found := Diagnose(s.Facts); len(found) != 1 || found[0].Severity != Error || !Bad(found) {
		t.Errorf("%+v", found)
	}
}

func TestKinds(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Kinds() {
		if seen[k.Code] || k.Severity.rank() < 0 || !strings.HasSuffix(k.Meaning, ".") {
			t.Errorf("%+v", k)
		}
		seen[k.Code] = true
	}
}

// TestManyThreads: the cost of judging grows with the threads, not with their
// square.
func TestManyThreads(t *testing.T) {
	s := quiet(t, "package:2 core:32 pu:2")
	for pid := range 200 {
		s.team(1000+1000*pid, "java", 100, "0-127", 0.001, 0)
	}
	Diagnose(s.Facts)
}
