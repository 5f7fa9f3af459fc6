package advisor

import (
	"fmt"
	"testing"

	"berth/profiles"
)

// BenchmarkAdvise is a whole plan, seats and rejected options included. The
// aims: 4096 CPUs in 10 ms, and no worse than linear in CPUs.
func BenchmarkAdvise(b *testing.B) {
	for _, work := range []struct{ name, profile string }{
		{"pure", "work: {kind: integer}"},
		{"blocking", "work: {kind: service, cpu_ms: 10, wait_ms: 90}"},
		{"gil", "runtime: python\nwork: {kind: service, cpu_ms: 10, native_ms: 4, wait_ms: 90}"},
		{"async", "work: {kind: service, cpu_ms: 1, wait_ms: 90, blocking: false}"},
		{"latency", "objective: latency\nwork: {kind: service, cpu_ms: 10}\nload: {arrival_per_s: 20000, wait_target_ms: 1}"},
		{"nested", "load: {tasks: 64, nested: true}"},
	} {
		p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: x\n"+work.profile), "x.yaml")
		if err != nil {
			b.Fatal(err)
		}
		for _, groups := range []int{2, 8, 32} { // × 4 nodes × 16 cores × 2 threads
			m := shape{nodes: 4, groups: groups, cores: 16, threads: 2, memoryMiB: 1 << 20}.machine()
			b.Run(fmt.Sprintf("%s/cpus=%d", work.name, m.Topology.Online.Len()), func(b *testing.B) {
				for b.Loop() {
					if _, err := Advise(m, p, nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
