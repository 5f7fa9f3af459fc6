//go:build lab

package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"berth/profiles"
)

// held are programs that are kept from their CPUs, and those with nothing to do.
func held() []subject {
	return []subject{
		{name: "quota", class: profiles.Throttled, needs: []string{"xz"},
			about: "xz in a control group with a quota of half a CPU",
			start: func(b *bench) *target { return b.throttled(false) }},
		{name: "quota-above", class: profiles.Throttled, needs: []string{"xz"},
			about: "xz in a group without a quota, inside one with half a CPU",
			start: func(b *bench) *target { return b.throttled(true) }},
		{name: "nice-19", class: profiles.Starved, needs: []string{"xz", "cc"},
			about: "xz at nice 19 beside two busy loops on its CPU, in one session, so that nice counts",
			start: func(b *bench) *target {
				spin := b.compile("spin")
				others := []int{b.run(b.near, spin, "1"), b.run(b.near, spin, "1")}
				p := b.start(command{args: []string{"nice", "-n", "19", "xz", "-T1", "-6", "-c"}, stdin: b.feed(b.far), cpus: b.near})
				return b.starved(p.pid(), others)
			}},
		{name: "crowded-cpu", class: profiles.Starved, needs: []string{"cc"}, quick: true,
			about: "a program that computes, pinned to a CPU that two others use",
			start: func(b *bench) *target {
				spin := b.compile("spin")
				others := []int{b.run(b.near, spin, "1"), b.run(b.near, spin, "1")}
				return b.starved(b.run(b.near, spin, "1"), others)
			}},

		{name: "sleep", class: profiles.Idle, quick: true,
			about: "sleep infinity",
			start: func(b *bench) *target { return at(b.run("", "sleep", "infinity")) }},
		{name: "redis-idle", class: profiles.Idle, needs: []string{"redis-server"},
			about: "redis without clients: its clock wakes it ten times a second",
			start: func(b *bench) *target { return at(b.redis("").pid()) }},
		{name: "nginx-idle", class: profiles.Idle, needs: []string{"nginx"}, children: true,
			about: "nginx without requests: master and worker",
			start: func(b *bench) *target {
				s, _ := b.nginx()
				return at(s.pid())
			}},
		{name: "java-idle", class: profiles.Idle, needs: []string{"javac", "java"},
			about: "a JVM that waits for a client; its own clock ticks",
			start: func(b *bench) *target {
				t := at(b.run("", b.java("idle")...))
				t.settle = 4 * time.Second
				return t
			}},
		{name: "node-idle", class: profiles.Idle, needs: []string{"node"},
			about: "an HTTP server on Node without requests",
			start: func(b *bench) *target {
				port := b.port()
				p := b.start(command{args: []string{"node", b.source("server.js"), port, "1"}})
				b.answers(port, p)
				t := at(p.pid())
				t.settle = 3 * time.Second
				return t
			}},
		{name: "python-input", class: profiles.Idle, needs: []string{"python3"}, quick: true,
			about: "Python at input()",
			start: func(b *bench) *target {
				r, w, err := os.Pipe()
				b.check(err)
				b.Cleanup(func() { w.Close() })
				defer r.Close()
				return at(b.start(command{args: []string{python(), "-c", "input()"}, stdin: r}).pid())
			}},
		{name: "go-ticker", class: profiles.Idle,
			about: "a Go program in a select with a clock that ticks once a second",
			start: func(b *bench) *target { return at(b.child("", "ticker").pid()) }},
		{name: "postgres-idle", class: profiles.Idle, needs: []string{"psql", "pgbench"}, children: true,
			about: "PostgreSQL without clients: five helper processes wake up now and then",
			start: func(b *bench) *target {
				s := b.postgres()
				s.ask("CHECKPOINT")
				t := at(s.pid())
				t.settle = 4 * time.Second
				return t
			}},
	}
}

// throttled is xz below a quota; the group's own count is the evidence.
func (b *bench) throttled(outer bool) *target {
	inner, limited := b.quota(outer)
	pid := b.start(command{args: []string{"xz", "-T1", "-6", "-c"}, stdin: b.feed(b.far), group: inner}).pid()
	return &target{pid: pid, label: func(e *evidence) error {
		before := throttledSeconds(limited)
		time.Sleep(2 * time.Second)
		share := (throttledSeconds(limited) - before) / 2
		e.note("cpu.stat of the group: stopped %.0f %% of the time", 100*share)
		if share < 0.3 || e.cpus > 0.6 {
			return fmt.Errorf("cpu.stat says that it was stopped for %.2f of the time, and it used %.2f CPUs", share, e.cpus)
		}
		return nil
	}}
}

// throttledSeconds is how long a group was stopped (cpu.stat, in both versions).
func throttledSeconds(group string) float64 {
	text, _ := os.ReadFile(group + "/cpu.stat")
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "throttled_time":
			return n / 1e9
		case "throttled_usec":
			return n / 1e6
		}
	}
	return 0
}

// starved is a program whose CPU others use; what they use is the evidence.
func (b *bench) starved(pid int, others []int) *target {
	return &target{pid: pid, label: func(e *evidence) error {
		used := func() (sum float64) {
			for _, other := range others {
				sum += count(other, false).cpu
			}
			return sum
		}
		before, from := used(), time.Now()
		time.Sleep(time.Second)
		share := (used() - before) / time.Since(from).Seconds()
		e.note("the others on its CPU use %.2f of it", share)
		if share < 0.5 || e.delay < 0.5 {
			return fmt.Errorf("others use %.2f of its CPU, and it waits %.2f of its time for it", share, e.delay)
		}
		return nil
	}}
}
