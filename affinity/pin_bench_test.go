//go:build linux

package affinity

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"berth/probe/cpuset"

	"golang.org/x/sys/unix"
)

// BenchmarkPin10000 seats 10,000 threads of another process, undo file included;
// BenchmarkSetaffinity10000 makes the bare system calls. The aim: at most three
// times as long.
func BenchmarkPin10000(b *testing.B) {
	pid := benchProgram(b)
	sets := twoSets(b)
	dir := b.TempDir()
	i := 0
	for b.Loop() {
		u, err := CreateUndo(filepath.Join(dir, "undo"))
		if err != nil {
			b.Fatal(err)
		}
		p := Pinner{Seat: allOn(sets[i%2]), Undo: u}
		if err := p.Process(context.Background(), pid); err != nil || len(p.Threads) < 10000 {
			b.Fatal(err, len(p.Threads))
		}
		p.Close()
		if err := u.Remove(); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkSetaffinity10000(b *testing.B) {
	pid := benchProgram(b)
	sets := twoSets(b)
	p := Pinner{Seat: allOn(sets[0]), DryRun: true}
	if err := p.Process(context.Background(), pid); err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	i := 0
	for b.Loop() {
		mask := sets[i%2].Unix()
		for _, t := range p.Threads {
			if err := unix.SchedSetaffinityDynamic(t.TID, mask); err != nil {
				b.Fatal(err)
			}
		}
		i++
	}
}

func twoSets(b *testing.B) [2]cpuset.Set {
	online, ok := systemCPUs("online")
	if !ok || online.Len() < 2 {
		b.Skip("needs two CPUs")
	}
	return [2]cpuset.Set{cpuset.Range(online.First(), online.First()), cpuset.Range(online.Last(), online.Last())}
}

func benchProgram(b *testing.B) int {
	if _, err := os.Stat("/proc/self/task"); err != nil {
		b.Skip("no /proc")
	}
	pid, _ := program(b, 10000)
	return pid
}
