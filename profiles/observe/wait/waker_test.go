//go:build linux

package wait

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/probe/tasks"
)

// proc is a proc file system of files that were seen: by process and
// descriptor, what a link says, and below it the text of fdinfo.
type proc map[int]map[int]string

const (
	reads  = "flags:\t02000000\n"
	writes = "flags:\t02000001\n"
)

func (p proc) write(t *testing.T, dir string, pid, parent int) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for id, fds := range p {
		base := filepath.Join(dir, fmt.Sprint(id))
		for _, sub := range []string{"fd", "fdinfo"} {
			check(os.MkdirAll(filepath.Join(base, sub), 0o755))
		}
		for fd, text := range fds {
			link, info, _ := strings.Cut(text, "\n")
			check(os.Symlink(link, filepath.Join(base, "fd", fmt.Sprint(fd))))
			check(os.WriteFile(filepath.Join(base, "fdinfo", fmt.Sprint(fd)), []byte(info), 0o644))
		}
	}
	stat := fmt.Sprintf("%d (postgres) S %d 8726 8726 0 -1 4194624 1 0 0 0 0 0 0 0 20 0 1 0 111 1 1\n", pid, parent)
	check(os.WriteFile(filepath.Join(dir, fmt.Sprint(pid), "stat"), []byte(stat), 0o644))
}

// TestWakers: the sets are those of PostgreSQL 17, and changes of them.
func TestWakers(t *testing.T) {
	const (
		pid, main = 8773, 8726
		set       = 9
		latch     = "anon_inode:[signalfd]\nflags:\t02004002\nsigmask:\t0000000000400000\n"
		lifeline  = "pipe:[340597]\n"
		inPipe    = "tfd:        3 events:       19 data:     55a2f2dcb5d0  pos:0 ino:53275 sdev:f\n"
		inLatch   = "tfd:        8 events:       19 data:     55a2f2dcb5b8  pos:0 ino:40e sdev:10\n"
		inSocket  = "tfd:        7 events:       19 data:     55a2f2e38f18  pos:0 ino:5329c sdev:9\n"
		list      = "anon_inode:[eventpoll]\nflags:\t02000002\n"
	)
	parent := map[int]string{3: lifeline + reads, 4: lifeline + writes}
	for _, c := range []struct {
		name string
		p    proc
		want Kind
	}{
		{"waits for a row lock", proc{pid: {3: lifeline + reads, 8: latch, set: list + inPipe + inLatch}, main: parent}, Wakeup},
		{"waits for its client", proc{pid: {3: lifeline + reads, 7: "socket:[340636]", 8: latch, set: list + inPipe + inSocket + inLatch}, main: parent}, Network},
		{"before signalfds, a pipe of its own", proc{pid: {3: lifeline + reads, 8: "pipe:[1038]\n" + reads, 9: list + inPipe + inLatch, 7: "pipe:[1038]\n" + writes}, main: parent}, Wakeup},
		{"the parent has only the other end", proc{pid: {3: lifeline + reads, 8: latch, set: list + inPipe + inLatch}, main: {4: lifeline + writes}}, Event},
		{"the parent has another pipe there", proc{pid: {3: lifeline + reads, 8: latch, set: list + inPipe + inLatch}, main: {3: "pipe:[7]\n" + reads, 4: "pipe:[7]\n" + writes}}, Event},
		{"the parent has its end twice", proc{pid: {3: lifeline + reads, 8: latch, set: list + inPipe + inLatch}, main: {3: lifeline + writes, 4: lifeline + writes}}, Event},
		{"the parent may not be seen", proc{pid: {3: lifeline + reads, 8: latch, set: list + inPipe + inLatch}}, Event},
		{"a descriptor that was closed", proc{pid: {8: latch, set: list + inPipe + inLatch}, main: parent}, Event},
		{"waits for children", proc{pid: {8: strings.Replace(latch, "0400000", "0410000", 1), set: list + inLatch}}, Event},
		{"a file that others change", proc{pid: {8: "anon_inode:inotify\n", set: list + inLatch}}, Event},
		{"another epoll", proc{pid: {8: list + inLatch, set: list + inLatch}}, Event},
		{"an eventfd, before Linux 4.13", proc{pid: {8: "anon_inode:[eventfd]\neventfd-count: 0\n", set: list + "tfd:        8 events:       19 data: 8\n"}}, Wakeup},
		{"nothing", proc{pid: {set: list}}, Event},
	} {
		dir := t.TempDir()
		c.p.write(t, dir, pid, main)
		r := New(tasks.Proc(dir), pid)
		r.sockets.stamp = 9 // as on the machine of the sets
		r.now = time.Now()
		for range 2 { // the second time, it is known
			var w Wait
			r.epoll(&w, set)
			if w.Kind != c.want {
				t.Errorf("%s: %v, want %v", c.name, w.Kind, c.want)
			}
			r.now = r.now.Add(time.Hour) // whatever the last look cost
		}
	}
}

// A set that changes is looked at again.
func TestWakersChange(t *testing.T) {
	const pid = 7
	dir := t.TempDir()
	proc{pid: {
		3: "anon_inode:[eventfd]\n", 4: "socket:[17]\n", 9: "anon_inode:[eventpoll]\ntfd: 3 events: 19 data: 3 pos:0 ino:40e sdev:10\n",
	}}.write(t, dir, pid, 1)
	r := New(tasks.Proc(dir), pid)
	r.sockets.stamp = 9
	r.now = time.Now()
	for _, step := range []struct {
		list    string
		want    Kind
		sockets int
	}{
		{"tfd: 3 events: 19 data: 3 pos:0 ino:40e sdev:10\n", Wakeup, 0},
		{"tfd: 3 events: 19 data: 3 pos:0 ino:40e sdev:10\ntfd: 4 events: 19 data: 4 pos:0 ino:11 sdev:9\n", Network, 1},
		{"tfd: 3 events: 19 data: 3 pos:0 ino:40e sdev:10\n", Wakeup, 0},
	} {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(pid), "fdinfo", "9"), []byte(step.list), 0o644); err != nil {
			t.Fatal(err)
		}
		var w Wait
		r.epoll(&w, 9)
		if w.Kind != step.want || w.Sockets != step.sockets {
			t.Errorf("%q: %+v, want %v with %d sockets", step.list, w, step.want, step.sockets)
		}
		r.now = r.now.Add(time.Hour) // whatever the last look cost
	}
}
