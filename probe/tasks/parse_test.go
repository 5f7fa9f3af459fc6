//go:build linux

package tasks_test

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"berth/probe/cpuset"
	"berth/probe/tasks"
)

const (
	statText = "812 (worker) R 811 812 811 0 -1 4194304 5310 20 7 1 2500 130 11 12 15 -5 3 0 920133 21700000 1200 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 6 40 2 9 0 0 0 0 0 0 0 0 0 0\n"

	statusText = `Name:	a worker
Umask:	0022
State:	S (sleeping)
Tgid:	812
Pid:	812
PPid:	811
Uid:	1000	0	1000	1000
Gid:	1000	1000	1000	1000
Threads:	3
Cpus_allowed:	c3
Cpus_allowed_list:	0-1,6-7
Mems_allowed:	00000000,00000003
Mems_allowed_list:	0-1
voluntary_ctxt_switches:	151
nonvoluntary_ctxt_switches:	7
`
	schedText = `worker (812, #threads: 3)
-------------------------------------------------------------------
se.exec_start                                :      13211522.219033
se.sum_exec_runtime                          :          2631.014215
se.nr_migrations                             :                   42
nr_switches                                  :                  158
`
)

func TestParseStat(t *testing.T) {
	full := tasks.Stat{
		Name: "worker", State: tasks.Running, Parent: 811, MinorFaults: 5310, MajorFaults: 7,
		User: 25 * time.Second, System: 1300 * time.Millisecond, Nice: -5, Threads: 3, Start: 9201330 * time.Millisecond,
		CPU: 6, Priority: 40, Policy: 2,
	}
	with := func(change func(*tasks.Stat)) tasks.Stat {
		st := full
		change(&st)
		return st
	}
	named := func(name string) string { return strings.Replace(statText, "worker", name, 1) }
	for _, c := range []struct {
		name, text string
		want       tasks.Stat
	}{
		{"a thread", statText, full},
		{"no newline", strings.TrimSpace(statText), full},
		{"a name with everything in it", named(") R 1 (\n2) S"), with(func(st *tasks.Stat) { st.Name = ") R 1 (\n2) S" })},
		{"no name", named(""), with(func(st *tasks.Stat) { st.Name = "" })},
		{"a kernel thread", strings.Replace(statText, "4194304", "69238880", 1), with(func(st *tasks.Stat) { st.Kernel = true })},
		{"kernel 2.4: no CPU", strings.Join(strings.Fields(statText)[:38], " "), with(func(st *tasks.Stat) { st.CPU, st.Priority, st.Policy = -1, -1, -1 })},
		{"a CPU that cannot be", strings.Replace(statText, "17 6 40", "17 70000 40", 1), with(func(st *tasks.Stat) { st.CPU = -1 })},
		{"more than 63 bits", strings.Replace(statText, "5310", "18446744073709551615", 1), with(func(st *tasks.Stat) { st.MinorFaults = math.MaxInt64 })},
		{"ticks beyond a duration", strings.Replace(statText, "2500", "18446744073709551615", 1),
			with(func(st *tasks.Stat) { st.User = math.MaxInt64 / tasks.Tick * tasks.Tick })},
	} {
		got, err := tasks.ParseStat([]byte(c.text))
		if err != nil || got != c.want {
			t.Errorf("%s:\n%+v, %v; want\n%+v", c.name, got, err, c.want)
		}
	}
	for _, c := range []struct{ text, says string }{
		{"", "no name"},
		{"1 worker R", "no name"},
		{"1 )worker( R", "no name"},
		{"1 (worker", "no name"},
		{"1 (worker)", "field 3"},
		{"1 (worker) 17 1", "field 3"},
		{"1 (worker) R x", "field 4"},
		{"1 (worker) R 1 1 1 0 -1 4194304 5 0 0 0 1 1 0 0 20 0 1 0", "ends after field 21"},
		{strings.Replace(statText, "2500", "25e2", 1), "field 14"},
	} {
		if got, err := tasks.ParseStat([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %+v, %v; want an error with %q", c.text, got, err, c.says)
		}
	}
}

func TestNamesOfStates(t *testing.T) {
	for p, want := range map[tasks.Policy]string{0: "other", 1: "fifo", 3: "batch", 4: "4", 6: "deadline", 99: "99", -1: "unknown"} {
		if p.String() != want {
			t.Errorf("policy %d is %q, want %q", int(p), p, want)
		}
	}
	if got := fmt.Sprint(tasks.Blocked); got != "D" {
		t.Errorf("state %q", got)
	}
}

func TestParseStatus(t *testing.T) {
	want := tasks.Status{UID: 1000, EUID: 0, Allowed: cpuset.Of(0, 1, 6, 7), Mems: "0-1", Voluntary: 151, Involuntary: 7}
	got, err := tasks.ParseStatus([]byte(statusText))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	unknown := tasks.Status{UID: -1, EUID: -1, Voluntary: -1, Involuntary: -1}
	for _, text := range []string{"", "\n\n", "Name:\tx\nno colon\n"} {
		if got, err := tasks.ParseStatus([]byte(text)); err != nil || !reflect.DeepEqual(got, unknown) {
			t.Errorf("%q: %+v, %v; want all unknown", text, got, err)
		}
	}
	for _, text := range []string{
		"Uid:\t1000\n", "Uid:\tx y\n", "Cpus_allowed_list:\t3-1\n", "Mems_allowed_list:\tx\n", "voluntary_ctxt_switches:\t-1\n", "nonvoluntary_ctxt_switches:\n",
	} {
		if got, err := tasks.ParseStatus([]byte(text)); err == nil || !strings.Contains(err.Error(), "parse status") {
			t.Errorf("%q: %+v, %v; want an error", text, got, err)
		}
	}
}

func TestParseSchedStat(t *testing.T) {
	got, err := tasks.ParseSchedStat([]byte("5000000001 48235 12\n"))
	if want := (tasks.SchedStat{OnCPU: 5*time.Second + 1, RunDelay: 48235, Timeslices: 12}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, text := range []string{"", "1 2", "1 2 x", "-1 2 3", "1.5 2 3"} {
		if got, err := tasks.ParseSchedStat([]byte(text)); err == nil {
			t.Errorf("%q: %+v; want an error", text, got)
		}
	}
}

func TestParseMigrations(t *testing.T) {
	if got, err := tasks.ParseMigrations([]byte(schedText)); err != nil || got != 42 {
		t.Errorf("%d, %v", got, err)
	}
	for _, text := range []string{"", "nr_switches : 1\n", "se.nr_migrations 42\n", "se.nr_migrations :\n", "se.nr_migrations : 1.5\n"} {
		if got, err := tasks.ParseMigrations([]byte(text)); err == nil || got != -1 {
			t.Errorf("%q: %d, %v; want -1 and an error", text, got, err)
		}
	}
}

const systemText = `cpu  300 10 200 4000 50 3 7 20 40 2
cpu0 100 10 100 2000 50 1 2 15 40 2
cpu5 200 0 100 2000 0 2 5 5 0 0
intr 9000 0 0 5000
ctxt 777
btime 1700000000
processes 4321
procs_running 2
procs_blocked 1
softirq 99 1 2
`

func TestParseSystemStat(t *testing.T) {
	s, err := tasks.ParseSystemStat([]byte(systemText))
	if err != nil {
		t.Fatal(err)
	}
	if s.Switches != 777 || s.Forks != 4321 || s.Interrupts != 9000 || s.Runnable != 2 || s.Blocked != 1 || len(s.CPUs) != 2 {
		t.Errorf("%+v", s)
	}
	five := s.CPUs[5]
	if five.User != 2*time.Second || five.Steal != 50*time.Millisecond || five.Busy() != 3070*time.Millisecond || five.IOWait != 0 {
		t.Errorf("cpu5 %+v, busy %v", five, five.Busy())
	}
	if s.All.GuestNice != 20*time.Millisecond || s.All.Busy() != 5200*time.Millisecond {
		t.Errorf("all %+v, busy %v", s.All, s.All.Busy())
	}

	old, err := tasks.ParseSystemStat([]byte("cpu 1 2 3 4\n"))
	if want := (tasks.CPUTimes{User: 10e6, Nice: 20e6, System: 30e6, Idle: 40e6, IOWait: -1, IRQ: -1, SoftIRQ: -1, Steal: -1, Guest: -1, GuestNice: -1}); err != nil ||
		old.All != want || old.All.Busy() != 60*time.Millisecond || old.Switches != -1 || old.Runnable != -1 {
		t.Errorf("old kernel: %+v, %v", old, err)
	}
	for _, text := range []string{"", "cpu0 1 2 3 4\n", "cpu 1 2 3\n", "cpu 1 2 3 x\n", "cpux 1 2 3 4\ncpu 1 2 3 4\n", "cpu 1 2 3 4\ncpu70000 1 2 3 4\n"} {
		if s, err := tasks.ParseSystemStat([]byte(text)); err == nil {
			t.Errorf("%q: %+v; want an error", text, s)
		}
	}
}

func TestSince(t *testing.T) {
	is := tasks.CPUTimes{User: 50, Idle: 10, IOWait: 30, Steal: -1}
	got := is.Since(tasks.CPUTimes{User: 20, Idle: 25, IOWait: 10, Guest: -1})
	if want := (tasks.CPUTimes{User: 30, Idle: 0, IOWait: 20, Steal: -1, Guest: -1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if is.User != 50 {
		t.Error("Since changed what it was asked of")
	}
}

func TestParseInterrupts(t *testing.T) {
	got, err := tasks.ParseInterrupts([]byte(`            CPU0       CPU2
   1:         10          0   IO-APIC   1-edge      i8042
 131:          5        600   PCI-MSI 1-edge      card 0
 NMI:          1          2   Non-maskable interrupts
 LOC:       1000       2000   Local timer interrupts
IPI0:          3          4   Rescheduling interrupts
 ERR:         77
 MIS:          0
a line without a colon
`))
	want := map[cpuset.CPU]tasks.Interrupts{0: {Device: 15, Other: 1004}, 2: {Device: 600, Other: 2006}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, text := range []string{"", "\n1: 5\n", "CPU0 XPU1\n", "CPU70000\n", "CPU\n"} {
		if got, err := tasks.ParseInterrupts([]byte(text)); err == nil {
			t.Errorf("%q: %v; want an error", text, got)
		}
	}
}

func TestParsePressure(t *testing.T) {
	some := "some avg10=1.50 avg60=0.25 avg300=0.00 total=35638052\n"
	p, err := tasks.ParsePressure([]byte(some + "full avg10=0.00 avg60=0.00 avg300=12.00 total=0\n"))
	if err != nil || *p.Some != (tasks.Stall{Avg10: 1.5, Avg60: 0.25, Total: 35638052 * time.Microsecond}) || *p.Full != (tasks.Stall{Avg300: 12}) {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := tasks.ParsePressure([]byte(some)); err != nil || p.Full != nil {
		t.Errorf("some alone: %+v, %v", p, err)
	}
	for _, text := range []string{"", "none avg10=0\n", "some avg10=x\n", "some avg60=-1\n", "full avg300=NaN\n", "some total=1.5\n", "some total=\n"} {
		if p, err := tasks.ParsePressure([]byte(text)); err == nil {
			t.Errorf("%q: %+v; want an error", text, p)
		}
	}
}

func TestParseLoadAvg(t *testing.T) {
	got, err := tasks.ParseLoadAvg([]byte("1.52 0.75 0.33 3/104 13475\n"))
	if want := (tasks.LoadAvg{One: 1.52, Five: 0.75, Fifteen: 0.33, Runnable: 3, Threads: 104, Newest: 13475}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, text := range []string{"", "1 2 3", "1 2 3 4 5", "1 2 3 4/x 5", "1 2 3 4/5", "x 2 3 4/5 6"} {
		if got, err := tasks.ParseLoadAvg([]byte(text)); err == nil {
			t.Errorf("%q: %+v; want an error", text, got)
		}
	}
}

func TestParseNUMAMaps(t *testing.T) {
	got, err := tasks.ParseNUMAMaps([]byte(`55ddb4787000 default file=/usr/bin/a\040N9\0757 mapped=2 N0=2 kernelpagesize_kB=4
55ddb4789000 bind:0-1 anon=5 dirty=5 active=0 N0=3 N1=2 kernelpagesize_kB=4
7f0000000000 prefer:1 file=/anon_hugepage\040(deleted) huge anon=3 dirty=3 N1=3 kernelpagesize_kB=2048
7ffd00000000 default stack
7ffe00000000 default =x
`))
	if want := map[int]int64{0: 5 * 4096, 1: 2*4096 + 3*2<<20}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, text := range []string{
		"7f default N0=1\n", "7f default N0=x kernelpagesize_kB=4\n", "7f default Nx=1 kernelpagesize_kB=4\n", "7f default N0=-1 kernelpagesize_kB=4\n",
		"7f default N0=1 kernelpagesize_kB=0\n", "7f default N0=9223372036854775807 kernelpagesize_kB=4\n",
	} {
		if got, err := tasks.ParseNUMAMaps([]byte(text)); err == nil {
			t.Errorf("%q: %v; want an error", text, got)
		}
	}
	if got, err := tasks.ParseNUMAMaps(nil); err != nil || len(got) != 0 {
		t.Errorf("a process without memory: %v, %v", got, err)
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte(statText))
	f.Add([]byte("1 (a) b) (c) S 0 0 0 0 0 2097152 0 0 0 0 0 0 0 0 20 0 1 0 5"))
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := tasks.ParseStat(data)
		if err != nil {
			return
		}
		if st.CPU < -1 || st.CPU >= cpuset.Limit || st.User < 0 || st.System < 0 || st.Start < 0 || len(st.Name) > len(data) {
			t.Fatalf("%+v", st)
		}
		// What it understood, written in the kernel's way, reads the same.
		flags := 0
		if st.Kernel {
			flags = 0x00200000
		}
		text := fmt.Sprintf("1 (%s) %s %d 0 0 0 0 %d %d 0 %d 0 %d %d 0 0 0 %d %d 0 %d 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 %d %d %d", st.Name, st.State, st.Parent, flags,
			st.MinorFaults, st.MajorFaults, st.User/tasks.Tick, st.System/tasks.Tick, st.Nice, st.Threads, st.Start/tasks.Tick, st.CPU, st.Priority, int(st.Policy))
		if again, err := tasks.ParseStat([]byte(text)); st.State < 0x80 && (err != nil || again != st) {
			t.Fatalf("%q reads as\n%+v, %v; not\n%+v", text, again, err, st)
		}
	})
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte(statusText))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := tasks.ParseStatus(data)
		if err == nil && (s.Voluntary < -1 || s.Involuntary < -1 || s.Allowed.Last() >= cpuset.Limit) {
			t.Fatalf("%+v", s)
		}
	})
}

func FuzzSchedStat(f *testing.F) {
	f.Add([]byte("1 2 3\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := tasks.ParseSchedStat(data)
		if err != nil {
			return
		}
		text := fmt.Sprintln(int64(s.OnCPU), int64(s.RunDelay), s.Timeslices)
		if again, err := tasks.ParseSchedStat([]byte(text)); err != nil || again != s {
			t.Fatalf("%q reads as %+v, %v; not %+v", text, again, err, s)
		}
	})
}

func FuzzMigrations(f *testing.F) {
	f.Add([]byte(schedText))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, err := tasks.ParseMigrations(data); (err == nil) != (n >= 0) {
			t.Fatalf("%d, %v", n, err)
		}
	})
}

func FuzzSystemStat(f *testing.F) {
	f.Add([]byte(systemText))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := tasks.ParseSystemStat(data)
		if err != nil {
			return
		}
		if zero := s.All.Since(s.All); max(zero.User, zero.Idle, zero.Steal) > 0 {
			t.Fatalf("%+v", zero)
		}
		for c := range s.CPUs {
			if c < 0 || c >= cpuset.Limit {
				t.Fatalf("CPU %d", c)
			}
		}
	})
}

func FuzzInterrupts(f *testing.F) {
	f.Add([]byte("  CPU0 CPU1\n 1: 1 2 x\nLOC: 3 4\nERR: 0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := tasks.ParseInterrupts(data)
		if (err == nil) != (len(all) > 0) {
			t.Fatalf("%v, %v", all, err)
		}
		for c, n := range all {
			if c < 0 || c >= cpuset.Limit || n.Device < 0 || n.Other < 0 {
				t.Fatalf("CPU %d: %+v", c, n)
			}
		}
	})
}

func FuzzNUMAMaps(f *testing.F) {
	f.Add([]byte("7f default anon=1 N0=1 N1=2 kernelpagesize_kB=4\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		nodes, _ := tasks.ParseNUMAMaps(data)
		for n, bytes := range nodes {
			if n < 0 || bytes < 0 {
				t.Fatalf("node %d: %d bytes", n, bytes)
			}
		}
	})
}

func FuzzPressure(f *testing.F) {
	f.Add([]byte("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=1 total=5\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := tasks.ParsePressure(data); err == nil {
			for _, s := range []*tasks.Stall{p.Some, p.Full} {
				if s != nil && (s.Total < 0 || !(s.Avg10 >= 0)) {
					t.Fatalf("%+v", s)
				}
			}
		}
	})
}

func FuzzLoadAvg(f *testing.F) {
	f.Add([]byte("1.52 0.75 0.33 3/104 13475\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := tasks.ParseLoadAvg(data); err == nil && (l.Runnable < 0 || l.Newest < 0 || !(l.One >= 0)) {
			t.Fatalf("%+v", l)
		}
	})
}
