//go:build lab

package vmlab

import (
	"fmt"
	"strings"
	"testing"

	"berth/affinity"
)

// TestHotplug takes CPUs away and brings them back while berth runs, CPU 0 too:
// on x86 by the parameter cpu0_hotplug, which kernels up to 6.4 have.
func TestHotplug(t *testing.T) {
	const cpu = "/sys/devices/system/cpu/cpu"
	var steps strings.Builder
	steps.WriteString("facts\nrun before /berth inspect -o json\n" +
		"start seated /berth run -c 3 --receipt=- -- /init busy 12s\npause 2s\n" +
		"write " + cpu + "3/online 0\nrun gone /berth inspect -o json\nrun ps /berth ps --match ^/init.busy -i 500ms -o json\n" +
		"run refused /berth run -c 3 -- /init busy 1ms\nrun part /berth run -c 2-3 --receipt=- -- /init busy 300ms\n" +
		"run save /berth snapshot /off.tar.xz\nrun replay /berth inspect -o json --sysroot /off.tar.xz\n" +
		"write " + cpu + "3/online 1\nend seated\nrun back /berth inspect -o json\n" +
		"write " + cpu + "0/online 0\nrun first /berth inspect -o json\nrun count /berth nproc\n" +
		"run unseated /berth run -c 0 -- /init busy 1ms\nrun other /berth run -c 1 --receipt=- -- /init busy 300ms\nwrite " + cpu + "0/online 1\n" +
		"flap " + cpu + "2/online 8s\n")
	const looks = 8
	for i := range looks {
		fmt.Fprintf(&steps, "run flap%d /berth inspect -o json\nrun seat%[1]d /berth run -c 1-2 --receipt=- -- /init busy 100ms\n", i)
	}
	steps.WriteString("pause 9s\nrun after /berth inspect -o json\n")
	for arch, machine := range map[string][2]string{
		"amd64": {"-cpu Skylake-Server,+x2apic -smp 4,sockets=1,cores=2,threads=2", "cpu0_hotplug"},
		"arm64": {"-cpu cortex-a72 -smp 4,sockets=1,clusters=1,cores=4,threads=1", ""},
	} {
		t.Run(arch, func(t *testing.T) {
			if arch == "arm64" && !*whole {
				t.Skip("not one of the quick guests: -whole boots it")
			}
			t.Parallel()
			said := boot(t, guest{arch: arch, cpu: machine[0], append: machine[1], steps: steps.String()})
			before := machineOf(t, said, "before")
			for step, want := range map[string]string{"gone": "0-2", "replay": "0-2", "back": "0-3", "first": "1-3", "after": "0-3"} {
				m := machineOf(t, said, step)
				if m.Topology.Online.String() != want || m.Topology.Allowed.String() != want || m.Fingerprint != before.Fingerprint {
					t.Errorf("%s: online %s, allowed %s, not %s; fingerprint kept: %v", step, m.Topology.Online, m.Topology.Allowed, want, m.Fingerprint == before.Fingerprint)
				}
			}
			if got := strings.TrimSpace(said["count"]); got != "3" {
				t.Errorf("nproc without CPU 0: %q", got)
			}
			for step, offline := range map[string]string{"refused": "3", "unseated": "0"} {
				if text := said[step]; !strings.Contains(text, "offline") || !strings.Contains(text, offline) {
					t.Errorf("%s: run on an offline CPU says\n%s", step, text)
				}
			}
			// The kernel moves a thread whose CPUs have all gone, and the receipt tells.
			var r affinity.Receipt
			document(t, said, "seated", &r)
			if r.Kept || len(r.Broken) == 0 {
				t.Errorf("its CPU went offline, and the seat counts as kept: %s", said["seated"])
			}
			checkReceipt(t, said, "other", "1")
			var part affinity.Receipt
			document(t, said, "part", &part)
			if len(part.Broken) == 0 || part.Broken[0].Code != affinity.SeatTrimmed {
				t.Errorf("a seat of which one CPU is offline: %s", said["part"])
			}
			var ps struct {
				Threads []struct{ Conflicts []string }
			}
			document(t, said, "ps", &ps)
			if len(ps.Threads) == 0 {
				t.Errorf("ps shows no thread: %s", said["ps"])
			}
			for i := range looks {
				m := machineOf(t, said, fmt.Sprintf("flap%d", i))
				if on := m.Topology.Online.String(); on != "0-3" && on != "0-1,3" {
					t.Errorf("while CPU 2 came and went: online %s", on)
				}
				if n := len(m.Topology.Cores); n != len(before.Topology.Cores) && n != len(before.Topology.Cores)-1 {
					t.Errorf("while CPU 2 came and went: %d cores", n)
				}
				var r affinity.Receipt
				document(t, said, fmt.Sprintf("seat%d", i), &r)
				if len(r.Workers) != 1 || r.Workers[0].Exit == nil || r.Workers[0].Exit.Code == nil || *r.Workers[0].Exit.Code != 0 {
					t.Errorf("a run while CPU 2 came and went: %s", said[fmt.Sprintf("seat%d", i)])
				}
			}
		})
	}
}
