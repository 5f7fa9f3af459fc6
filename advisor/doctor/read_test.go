//go:build linux

package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/root"
	"berth/probe/tasks"
)

func TestSettings(t *testing.T) {
	var found finding.List
	r := root.Reader{Dir: root.FromFiles(map[string]string{
		cpuDir + "/cpufreq/boost":                                     "0\n",
		cpuDir + "/cpufreq/policy0/affected_cpus":                     "0 1\n",
		cpuDir + "/cpufreq/policy0/scaling_driver":                    "intel_pstate\n",
		cpuDir + "/cpufreq/policy0/scaling_governor":                  "powersave\n",
		cpuDir + "/cpufreq/policy0/energy_performance_preference":     "power\n",
		cpuDir + "/cpufreq/policy0/scaling_max_freq":                  "1200000\n",
		cpuDir + "/cpufreq/policy0/cpuinfo_max_freq":                  "3500000\n",
		cpuDir + "/cpufreq/policy2/affected_cpus":                     "\n", // offline
		cpuDir + "/cpufreq/policy3/affected_cpus":                     "x\n",
		cpuDir + "/intel_pstate/no_turbo":                             "0\n",
		"/proc/sys/kernel/sched_autogroup_enabled":                    "1\n",
		cpuDir + "/cpu1/thermal_throttle/core_throttle_count":         "12\n",
		cpuDir + "/cpu0/thermal_throttle/package_throttle_count":      "3\n",
		"/sys/class/drm/renderD128/device":                            "-> ../../../0000:3b:00.0",
		"/sys/class/drm/renderD129/device":                            "-> ../../../virtio3",
		"/sys/class/nvme/nvme1/device":                                "-> ../../../0000:04:00.0",
		"/proc/driver/nvidia/gpus/0000:65:00.0/information":           "Model: \t\t A\nDevice Minor: \t 2\n",
		"/sys/class/infiniband_verbs/uverbs0/device":                  "-> ../../../0000:5e:00.1",
		"/sys/devices/system/cpu/cpu1/thermal_throttle/something/new": "1",
	}).Dir, Found: &found}
	s := readSettings(r)
	want := Settings{Policies: []FrequencyPolicy{{Path: cpuDir + "/cpufreq/policy0", CPUs: cpuset.Range(0, 1), Driver: "intel_pstate", Governor: "powersave", Preference: "power",
		MaxKHz: 1_200_000, TopKHz: 3_500_000}}, TurboFile: cpuDir + "/cpufreq/boost", Autogroup: true}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	if all := found.Report(); len(all) != 1 || all[0].Code != finding.Malformed {
		t.Errorf("%+v", all)
	}
	hot := readHeat(r, cpuset.Range(0, 3))
	if grown := heatSince(hot, []Heat{{1, hot[1].File, 10}, hot[0]}); len(hot) != 2 || len(grown) != 1 || grown[0].Count != 2 || grown[0].CPU != 1 {
		t.Errorf("%+v, grown %+v", hot, grown)
	}
	for file, want := range map[string]string{"/dev/dri/renderD128": "0000:3b:00.0", "/dev/dri/renderD129": "", "/dev/nvme1n1p2": "0000:04:00.0", "/dev/nvidia2": "0000:65:00.0",
		"/dev/nvidia3": "", "/dev/nvidiactl": "", "/dev/infiniband/uverbs0": "0000:5e:00.1", "/dev/null": ""} {
		if got := pciOf(r, file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

const someInterrupts = `           CPU0       CPU2
  0:         44          0   IO-APIC   2-edge      timer
 33:          1      70000   PCI-MSI 524288-edge      eth0-rx-0
LOC:       1000       2000   Local timer interrupts
ERR:          3
`

func TestInterrupts(t *testing.T) {
	now, err := parseInterrupts(someInterrupts)
	if err != nil || len(now) != 3 || now[1].Label != "33" || now[1].Name != "PCI-MSI 524288-edge eth0-rx-0" || now[1].Count[2] != 70000 || !now[1].numbered() || now[2].numbered() {
		t.Fatalf("%+v, %v", now, err)
	}
	earlier, err := parseInterrupts(strings.ReplaceAll(strings.ReplaceAll(someInterrupts, "70000", "69000"), "2000", "1500"))
	if err != nil {
		t.Fatal(err)
	}
	served := interruptsSince(now, earlier)
	if top := busiest(served, 2); len(served) != 2 || len(top) != 2 || top[0].Label != "33" || top[0].Count[2] != 1000 || len(busiest(served, 0)) != 0 {
		t.Errorf("served %+v", served)
	}
	for _, bad := range []string{"", "no heading\n", "CPUx\n", "CPU99999999\n"} {
		if _, err := parseInterrupts(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzInterrupts(f *testing.F) {
	f.Add(someInterrupts)
	f.Add(" CPU0\n 1: -5 x\n 2: 99999999999999999999 y\n 3:\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseInterrupts(text)
		if err != nil {
			return
		}
		for _, one := range interruptsSince(all, nil) {
			for c, n := range one.Count {
				if n <= 0 {
					t.Errorf("%s on %d: %d", one.Label, c, n)
				}
				busiest(all, c)
			}
		}
	})
}

func FuzzSession(f *testing.F) {
	f.Add("/autogroup-12 nice 0\n")
	f.Add("/autogroup-12 nice x\n")
	f.Add("Name:\tx\nVmSwap:\t      12 kB\n")
	f.Fuzz(func(t *testing.T, text string) {
		if s := parseSession(text); s != nil && s.Name == "" {
			t.Errorf("%+v", s)
		}
		if n := parseSwap(text); n < -1 {
			t.Error(n)
		}
	})
}

func TestSmallFiles(t *testing.T) {
	if s := parseSession("/autogroup-12 nice -3\n"); s == nil || *s != (Session{"/autogroup-12", -3}) {
		t.Errorf("%+v", s)
	}
	if s := parseSession(""); s != nil {
		t.Errorf("%+v", s)
	}
	for text, want := range map[string]int64{"VmSwap:\t 12 kB\n": 12 << 10, "VmSwap:\t 12 MB\n": -1, "": -1, "VmSwap:\t-1 kB\n": -1} {
		if got := parseSwap(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestPressureSince(t *testing.T) {
	now := time.Now()
	total := time.Second
	read := func(resource string) (tasks.Pressure, error) {
		if resource == "cpu" {
			return tasks.Pressure{Some: &tasks.Stall{Total: total}}, nil
		}
		return tasks.Pressure{}, tasks.ErrGone
	}
	r := readPressure(now, read)
	total += time.Second
	if p := r.since(now.Add(2 * time.Second)); p != (Pressure{0.5, -1, -1}) {
		t.Errorf("%+v", p)
	}
	if p := new(pressureReading).since(now); p != noPressure {
		t.Errorf("%+v", p)
	}
}

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{"/sys/fs/cgroup/a.b/cpu.max": "/sys/fs/cgroup/a.b/cpu.max", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$(x)": "'$(x)'"} {
		if got := quote(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}
