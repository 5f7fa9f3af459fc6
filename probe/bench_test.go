//go:build linux

package probe_test

import (
	"context"
	"testing"

	"berth/probe"
)

// The goals that need a peer beside them are measured by probe/speed/run; these
// follow the parts inside the process.

func benchmark(b *testing.B, source probe.Source) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := probe.Probe(context.Background(), source); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLive(b *testing.B) { benchmark(b, probe.Live()) }

// BenchmarkBudget reads what `berth nproc` needs.
func BenchmarkBudget(b *testing.B) {
	source := probe.Live()
	source.Only = probe.Budget
	benchmark(b, source)
}

// BenchmarkSynthetic makes and reads machines whose sizes are 16 apart; the goal
// is at most 1.5 times linear.
func BenchmarkSynthetic(b *testing.B) {
	for _, m := range []struct{ name, description string }{
		{"256", "package:2 numa:2 l3:4 l2:8 l1:1 core:1 pu:2"},
		{"4096", "package:8 numa:4 l3:8 l2:8 l1:1 core:1 pu:2"},
	} {
		b.Run(m.name, func(b *testing.B) {
			for b.Loop() {
				source, err := probe.Synthetic(m.description)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := probe.Probe(context.Background(), source); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
