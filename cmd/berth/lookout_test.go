//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/tasks"
)

// procTree is a directory that looks like /proc. Its processes have numbers
// that none of this system can have (PID_MAX_LIMIT is 2^22).
type procTree struct {
	t   *testing.T
	dir string
}

const beyond = 5_000_000

func newProcTree(t *testing.T) procTree {
	r := procTree{t, t.TempDir()}
	r.write("self/schedstat", "1 1 1\n")
	r.write("loadavg", "0.00 0.00 0.00 1/9 1\n")
	r.times(0)
	return r
}

func (r procTree) write(name, content string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// times writes how eight CPUs spent so many seconds: the first half on
// programs and a quarter on interrupts, the second on programs alone, the
// others idle.
func (r procTree) times(seconds int) {
	n := seconds * 100
	text := fmt.Sprintf("cpu 0 0 0 %d 0 0 0 0 0 0\n", n)
	for c := range 8 {
		user, softirq, idle := 0, 0, n
		switch c {
		case 0:
			user, softirq, idle = n/2, n/4, n/4
		case 1:
			user, idle = n, 0
		}
		text += fmt.Sprintf("cpu%d %d 0 0 %d 0 0 %d 0 0 0\n", c, user, idle, softirq)
	}
	r.write("stat", text)
}

// thread writes a thread; the process's number is that of its first. Times are
// in milliseconds.
func (r procTree) thread(pid, tid int, name string, state byte, cpu int, allowed string, onCPU, delay int) {
	flags := 0
	if name == "kthread" {
		flags = 0x00200000
	}
	stat := fmt.Sprintf("%d (%s) %c 1 1 1 0 -1 %d 0 0 0 0 %d 0 0 0 20 0 2 0 100 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 %d 0 0\n", tid, name, state, flags, onCPU/10, cpu)
	status := fmt.Sprintf("Name:\t%s\nTgid:\t%d\nUid:\t%d\t%d\t0\t0\nCpus_allowed_list:\t%s\nvoluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches:\t1\n", name, pid, pid%10, pid%10, allowed)
	for _, at := range []string{fmt.Sprintf("%d/task/%d/", pid, tid), fmt.Sprintf("%d/", pid)} {
		if strings.Count(at, "/") == 1 && pid != tid {
			continue
		}
		r.write(at+"stat", stat)
		r.write(at+"status", status)
		r.write(at+"schedstat", fmt.Sprintf("%d %d %d\n", onCPU*1e6, delay*1e6, 1+onCPU))
	}
	if flags == 0 {
		r.write(fmt.Sprintf("%d/cmdline", pid), name+"\x00--now\x00")
	}
}

func TestSelection(t *testing.T) {
	r := newProcTree(t)
	for i, name := range []string{"zero", "one", "two", "kthread"} {
		pid := beyond + i*10 + i // of user i
		r.thread(pid, pid, name, 'S', 0, "0-7", 0, 0)
	}
	for name, c := range map[string]struct {
		flags  []string
		want   string
		hidden bool
	}{
		"all":          {[]string{"--all"}, "zero one two", true},
		"kernel":       {[]string{"--all", "--kernel"}, "zero one two kthread", true},
		"user":         {[]string{"--user=2"}, "two", os.Geteuid() != 2},
		"nobody's":     {[]string{"--user=9"}, "", os.Geteuid() != 9},
		"pid":          {[]string{"--pid=5000033,5000011"}, "one kthread", false},
		"match":        {[]string{"--match=^.*o --now"}, "zero two", true},
		"pid or match": {[]string{"--match=^t", "--pid=5000011,5000011"}, "one two", true},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := newPsCmd()
			var s selection
			cmd.ResetFlags()
			s.bind(cmd)
			if err := cmd.ParseFlags(c.flags); err != nil {
				t.Fatal(err)
			}
			if err := s.check(cmd); err != nil {
				t.Fatal(err)
			}
			got, err := s.find(tasks.Proc(r.dir))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range got.processes {
				names = append(names, p.Name)
			}
			// The lowest number is not 1, as where hidepid hides that.
			if strings.Join(names, " ") != c.want || got.hidden != c.hidden || got.gone != nil {
				t.Errorf("%v, hidden %v, gone %v; want %s, %v", names, got.hidden, got.gone, c.want, c.hidden)
			}
		})
	}
}

// From the files of a machine to what ps says of it.
func TestLookout(t *testing.T) {
	m := described(t, "", "package:2 numa:1 l3:1 core:2 pu:2(indexes=0,4,1,5,2,6,3,7)")
	r := newProcTree(t)
	const etl, slow, born = beyond, beyond + 10, beyond + 20
	write := func(seconds int) {
		r.times(seconds)
		ms := seconds * 1000
		r.thread(etl, etl, "etl", 'S', 3, "0-7", 5, 0)
		r.thread(etl, etl+1, "hand", 'R', 0, "0-7", 5+ms, 0)
		r.thread(slow, slow, "slow", 'R', 1, "1", 7, 7) // ready all along
		r.thread(slow, slow+1, "lost", 'S', 9, "9", 0, 0)
	}
	write(0)
	r.write(fmt.Sprintf("%d/numa_maps", etl), "7f00 default anon=30000 N0=10000 N1=20000 kernelpagesize_kB=4\n")
	l := &lookout{who: &selection{all: true}, proc: tasks.Proc(r.dir), sampler: tasks.NewSampler(tasks.Proc(r.dir), watchAll)}
	defer l.close()
	l.topology = &m.Topology
	l.shape, l.llc = shapeOf(l.topology)
	if gone, err := l.begin(); err != nil || gone != nil {
		t.Fatal(gone, err)
	}
	write(60) // more than can have gone by, so that all shares are whole
	d := l.end(context.Background())

	type row struct {
		Process, Name string
		CPU           int
		Core, LLC     int
		Node          int
		On, Wait      float64
		Busy          bool
		Conflicts     []affinity.Conflict
	}
	number := func(n *int) int {
		if n == nil {
			return -1
		}
		return *n
	}
	rows := func(d *psDocument) (rows []row) {
		for _, th := range d.Threads {
			at := row{th.Process, th.Name, int(*th.CPU), -1, number(th.LLC), number(th.Node), orZero(th.OnCPUPct), orZero(th.WaitingPct), th.Busy, th.Conflicts}
			if th.Core != nil {
				at.Core = int(*th.Core)
			}
			rows = append(rows, at)
		}
		return rows
	}
	want := []row{
		{"etl", "etl", 3, 3, 1, 1, 0, 0, false, []affinity.Conflict{}},
		{"etl", "hand", 0, 0, 0, 0, 100, 0, true, []affinity.Conflict{affinity.RemoteMemory, affinity.IRQHeavy}},
		{"slow", "slow", 1, 1, 0, 0, 0, 100, true, []affinity.Conflict{affinity.Queued}},
		{"slow", "lost", 9, -1, -1, -1, 0, 0, false, []affinity.Conflict{affinity.OfflineCPU}},
	}
	if diff := cmp.Diff(want, rows(d)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	codes := func(d *psDocument) (codes []string) {
		for _, f := range d.Findings {
			codes = append(codes, f.Code)
		}
		return codes
	}
	if got := codes(d); d.Verdict != affinity.Inconclusive || !slices.Equal(got, []string{"interval-short", "processes-hidden"}) {
		t.Errorf("%s, %v", d.Verdict, got)
	}

	// The next round: one process has ended, another has come.
	if err := os.RemoveAll(filepath.Join(r.dir, fmt.Sprint(slow))); err != nil {
		t.Fatal(err)
	}
	r.thread(born, born, "born", 'R', 4, "0,4", 10, 0)
	if _, err := l.begin(); err != nil {
		t.Fatal(err)
	}
	r.thread(born, born, "born", 'R', 4, "0,4", 60_000, 0)
	r.times(120)
	d = l.end(context.Background())
	want = []row{
		{"etl", "etl", 3, 3, 1, 1, 0, 0, false, []affinity.Conflict{}},
		{"etl", "hand", 0, 0, 0, 0, 0, 100, true, []affinity.Conflict{affinity.Queued, affinity.SharesSibling, affinity.SharesCore, affinity.RemoteMemory, affinity.IRQHeavy}},
		{"born", "born", 4, 0, 0, 0, 100, 0, true, []affinity.Conflict{affinity.SharesSibling}},
	}
	if diff := cmp.Diff(want, rows(d)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if n := len(l.was) + len(l.memory) + len(l.groups); n > 8 {
		t.Errorf("%d things are remembered of 3 threads", n)
	}

	// Without /proc/stat, at either end, nothing is judged by it, and that is said.
	for range 2 {
		if _, err := l.begin(); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(filepath.Join(r.dir, "stat"))
		if d = l.end(context.Background()); !slices.Contains(codes(d), "cpu-times-unknown") || len(d.Threads) != 3 {
			t.Errorf("%v, %d threads", codes(d), len(d.Threads))
		}
	}
}

// The cpuset of a live thread holds the CPUs that the kernel lets it have.
func TestCPUSetOf(t *testing.T) {
	allowed, err := probe.Affinity(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	l := &lookout{cpuset: map[string]cpuset.Set{}}
	w := &tasks.Watched{}
	w.PID, w.TID = os.Getpid(), os.Getpid()
	for range 2 { // read, and remembered
		set := l.cpusetOf(w)
		if set.IsEmpty() {
			t.Skip("no cpuset controller is seen here")
		}
		if !allowed.SubsetOf(set) {
			t.Errorf("allowed %s, under a cpuset of %s", allowed, set)
		}
	}
}
