//go:build lab

package vmlab

import (
	"strings"
	"testing"
)

// TestDoctor lets the lab of package doctor make, in machines of other shapes,
// what it cannot make on most: siblings that share a core beside an idle one,
// isolated and offline CPUs, memory on another node, an isolated partition, a
// quota of version 2.
func TestDoctor(t *testing.T) {
	for name, g := range map[string]struct {
		cpu, append string
		passes      []string
	}{
		"siblings": {"-cpu Skylake-Server,+x2apic -smp 8,sockets=1,cores=4,threads=2", "isolcpus=4-7",
			[]string{"TestSharedSiblings", "TestIsolatedWide", "TestIsolatedPinned", "TestOffline", "TestThrottledInVersion2", "TestQuietNode"}},
		"nodes": {"-cpu max -smp 4,sockets=2,cores=2,threads=1 -object memory-backend-ram,id=a,size=512M -object memory-backend-ram,id=b,size=512M " +
			"-numa node,nodeid=0,cpus=0-1,memdev=a -numa node,nodeid=1,cpus=2-3,memdev=b", "", []string{"TestRemoteMemory", "TestPartition", "TestQuietNode"}},
	} {
		t.Run(name, func(t *testing.T) {
			steps := boot(t, guest{arch: "amd64", cpu: g.cpu, append: g.append, doctor: true,
				steps: "run lab /lab -guest -test.v -test.run ^(" + strings.Join(g.passes, "|") + ")$\n"})
			said := steps["lab"]
			for _, test := range g.passes {
				if !strings.Contains(said, "--- PASS: "+test+" ") {
					t.Errorf("%s did not pass:\n%s", test, said)
				}
			}
		})
	}
}
