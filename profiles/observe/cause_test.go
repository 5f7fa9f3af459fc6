//go:build linux

package observe

import (
	"context"
	"encoding/binary"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe/finding"
	"berth/profiles"
	"berth/profiles/observe/wait"
	"berth/profiles/program"
)

func TestCause(t *testing.T) {
	for _, c := range []struct {
		name    string
		runtime profiles.Runtime
		is      wait.Wait
		want    cause
	}{
		{"a client", "", wait.Wait{Kind: wait.Network, Sockets: 1}, network},
		{"a server", "", wait.Wait{Kind: wait.Network, Sockets: 3, Listening: 1}, loop},
		{"a server without clients", "", wait.Wait{Kind: wait.Network, Listening: 1, Own: 1}, visitors},
		{"a latch", "", wait.Wait{Kind: wait.Wakeup}, latch},
		{"a latch with a time-out", "", wait.Wait{Kind: wait.Wakeup, Timed: true, Timeout: 200 * time.Millisecond}, sleep},
		{"asyncio without connections", profiles.Python, wait.Wait{Kind: wait.Wakeup, Own: 1, Timed: true, Timeout: time.Second}, loop},
		{"Node without connections", profiles.Node, wait.Wait{Kind: wait.Wakeup}, loop},
		{"Node that reads a pipe", profiles.Node, wait.Wait{Kind: wait.Event}, loop},
		{"a watcher of files", "", wait.Wait{Kind: wait.Event}, other},
		{"a mutex", "", wait.Wait{Kind: wait.Lock}, lock},
		{"Python's lock", profiles.Python, wait.Wait{Kind: wait.Lock, Timed: true, Timeout: 5 * time.Millisecond}, interpreter},
	} {
		p := process{program: &program.Program{Runtime: c.runtime}}
		if got := p.cause(&c.is); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// takeTurns has four threads take turns, each woken by the one before it through
// an eventfd in an epoll.
func takeTurns() {
	const n = 4
	var latches [n]int
	for i := range latches {
		latches[i], _ = unix.Eventfd(0, 0)
	}
	one := binary.NativeEndian.AppendUint64(nil, 1)
	for i := range latches {
		go func() {
			runtime.LockOSThread()
			set, _ := unix.EpollCreate1(0)
			_ = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, latches[i], &unix.EpollEvent{Events: unix.EPOLLIN})
			for {
				_, _ = unix.EpollWait(set, make([]unix.EpollEvent, 1), -1)
				_, _ = unix.Read(latches[i], make([]byte, 8))
				for end := time.Now().Add(300 * time.Microsecond); time.Now().Before(end); { // works
				}
				_, _ = unix.Write(latches[(i+1)%n], one)
			}
		}()
	}
	_, _ = unix.Write(latches[0], one)
	select {}
}

// TestWatchLatch: threads that wake each other through epoll are peers, as those
// that share a lock are.
func TestWatchLatch(t *testing.T) {
	w := New("", Options{})
	defer w.Close()
	if err := w.Follow(start(t, "latch").Process.Pid, time.Now()); err != nil {
		t.Fatal(err)
	}
	seen, err := w.Run(context.Background(), 1500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(seen.Findings, func(f finding.Finding) bool { return f.Code == FindBlind }) {
		t.Skip("no right to see what a child waits for")
	}
	peers := 0
	for _, x := range w.threads {
		if x.locks && x.why == latch {
			peers++
		}
	}
	if peers < 2 || seen.Shares.Lock < 0.1 || !slices.ContainsFunc(seen.Evidence, func(text string) bool { return strings.Contains(text, "no socket is in the set") }) {
		t.Errorf("%d peers, shares %+v\n%s", peers, seen.Shares, strings.Join(seen.Evidence, "\n"))
	}
}
