//go:build linux

package observe

import (
	"os/exec"
	"testing"
	"time"
)

// BenchmarkSample is one sample of a Python program with four threads, two of
// which compute. At 100 a second, 50 µs are half a per cent of a CPU.
func BenchmarkSample(b *testing.B) {
	python, err := exec.LookPath("python3")
	if err != nil {
		b.Skip("python3 is not installed")
	}
	cmd := exec.Command(python, "-c", `import threading, time
def work():
    while True:
        sum(range(1000))
for f in (work, work, lambda: time.sleep(1e6)):
    threading.Thread(target=f, daemon=True).start()
time.sleep(1e6)`)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	time.Sleep(200 * time.Millisecond)
	w := New("", Options{})
	defer w.Close()
	now := time.Now()
	if err := w.Follow(cmd.Process.Pid, now); err != nil {
		b.Fatal(err)
	}
	if err := w.Begin(now); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before, n := ownTime(), 0
	for b.Loop() {
		time.Sleep(10 * time.Millisecond) // so that the program does something in between
		w.Sample(time.Now())
		n++
	}
	b.ReportMetric(float64(ownTime()-before)/float64(n), "cpu-ns/sample")
}
