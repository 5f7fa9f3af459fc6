//go:build linux

package tasks_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"berth/probe/tasks"

	"golang.org/x/sys/unix"
)

// threadsToSample starts a process with n threads besides Go's own, of which
// each wakes once for every call of the function returned.
func threadsToSample(b *testing.B, n int) (pid int, wake func()) {
	h := newHelper(b)
	for i := range n {
		h.thread(b, fmt.Sprint("hand", i))
	}
	return h.pid, func() {
		for i := range n {
			h.do(b, "burn hand%d 0", i)
		}
	}
}

// benchmarkSample tells what a sample costs, and how much of a CPU that is at
// the rate of a user: ten samples a second of few threads, one of very many.
// The clock given advances as it would then, so that the reading that is done
// once a second has its share.
func benchmarkSample(b *testing.B, n int, interval time.Duration, awake bool) {
	pid, wake := threadsToSample(b, n)
	s := tasks.NewSampler(live, tasks.Options{Children: true})
	defer s.Close()
	now := time.Now()
	if err := s.Follow(pid, now); err != nil {
		b.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b.ReportAllocs()
	var cpu time.Duration
	for b.Loop() {
		if awake {
			b.StopTimer()
			wake()
			b.StartTimer()
		}
		now = now.Add(interval)
		before := cpuTime()
		s.Sample(now)
		cpu += cpuTime() - before
	}
	perSample := float64(cpu.Nanoseconds()) / float64(b.N)
	b.ReportMetric(perSample/1e3, "cpu-µs/sample")
	b.ReportMetric(100*perSample/float64(interval.Nanoseconds()), "%cpu")
}

// cpuTime is what this thread has used.
func cpuTime() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}

func BenchmarkSample8(b *testing.B) {
	b.Run("asleep", func(b *testing.B) { benchmarkSample(b, 8, tasks.DefaultInterval, false) })
	b.Run("awake", func(b *testing.B) { benchmarkSample(b, 8, tasks.DefaultInterval, true) })
}

func BenchmarkSample1000(b *testing.B) {
	b.Run("asleep", func(b *testing.B) { benchmarkSample(b, 1000, time.Second, false) })
	b.Run("awake", func(b *testing.B) { benchmarkSample(b, 1000, time.Second, true) })
}

// BenchmarkThreads is the same without a Sampler: everything of every thread,
// opened anew.
func BenchmarkThreads(b *testing.B) {
	pid, _ := threadsToSample(b, 100)
	for b.Loop() {
		if _, err := live.Threads(pid); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProcesses(b *testing.B) {
	for b.Loop() {
		if _, err := live.Processes(); err != nil {
			b.Fatal(err)
		}
	}
}
