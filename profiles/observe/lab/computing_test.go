//go:build lab

package lab

import (
	"fmt"
	"runtime"
	"time"

	"berth/profiles"
)

// computing are programs that compute.
func computing() []subject {
	return []subject{
		{name: "xz-1", class: profiles.CPUBound, needs: []string{"xz"},
			about: "xz -T1 compresses source text out of a pipe that is always full",
			start: func(b *bench) *target {
				return at(b.start(command{args: []string{"xz", "-T1", "-6", "-c"}, stdin: b.feed(b.far)}).pid())
			}},
		{name: "xz-2", class: profiles.CPUBound, needs: []string{"xz"},
			about: "xz -T2: two threads compress, a third deals out",
			start: func(b *bench) *target {
				t := at(b.start(command{args: []string{"xz", "-T2", "-6", "--block-size=2MiB", "-c"}, stdin: b.feed(b.far)}).pid())
				t.settle = 3 * time.Second
				return t
			}},
		{name: "zstd-2", class: profiles.CPUBound, needs: []string{"zstd"},
			about: "zstd -T2: two threads compress, one reads, one writes",
			start: func(b *bench) *target {
				t := at(b.start(command{args: []string{"zstd", "-q", "-T2", "-15", "-c"}, stdin: b.feed(b.far)}).pid())
				t.settle = 3 * time.Second
				return t
			}},
		{name: "gzip-loop", class: profiles.CPUBound, needs: []string{"gzip"}, children: true,
			about: "a shell starts gzip -9 on a file over and over: each computes for less than a second or two",
			start: func(b *bench) *target {
				return at(b.run("", "sh", "-c", `while :; do gzip -9 -c "$0" >/dev/null; done`, b.corpus()))
			}},
		{name: "openssl-speed", class: profiles.CPUBound, needs: []string{"openssl"}, children: true,
			about: "openssl speed -multi 1: a parent that waits for a child that computes hashes in memory",
			start: func(b *bench) *target {
				return at(b.run("", "openssl", "speed", "-multi", "1", "-seconds", "120", "-bytes", "16384", "sha256"))
			}},
		{name: "java-busy", class: profiles.CPUBound, needs: []string{"javac", "java"},
			about: "a JVM in which one thread computes and allocates; some twenty of its threads park",
			start: func(b *bench) *target {
				t := at(b.run("", b.java("spin")...))
				t.settle = 3 * time.Second
				return t
			}},
		{name: "node-busy", class: profiles.CPUBound, needs: []string{"node"},
			about: "Node in an endless loop; its helper threads park",
			start: func(b *bench) *target {
				return at(b.run("", "node", "-e", "let n = 1; for (;;) n = (n * 31 + 7) % 1000003"))
			}},
		{name: "go-busy", class: profiles.CPUBound, quick: true,
			about: "two goroutines compute; other threads of the runtime park",
			start: func(b *bench) *target { return at(b.child("", "busy", "2").pid()) }},
		{name: "python-1", class: profiles.CPUBound, needs: []string{"python3"}, quick: true,
			about: "one thread of Python computes",
			start: func(b *bench) *target { return at(b.run("", b.python("pure.py", "1")...)) }},
		{name: "python-pool", class: profiles.CPUBound, needs: []string{"python3"}, children: true,
			about: "multiprocessing.Pool of two processes that compute; the parent deals out over pipes",
			start: func(b *bench) *target { return at(b.run("", b.python("pool.py", "2")...)) }},
		{name: "python-sha", class: profiles.CPUBound, needs: []string{"python3"}, quick: true,
			about: "two threads hash a megabyte at a time with the interpreter let go: no fight for it",
			start: func(b *bench) *target {
				t := at(b.run("", b.python("native.py", "2", "sha")...))
				t.label = fills
				return t
			}},
		{name: "python-zlib", class: profiles.CPUBound, needs: []string{"python3"},
			about: "four threads compress a megabyte at a time with the interpreter let go: they want more CPUs than there are",
			start: func(b *bench) *target {
				t := at(b.run(b.far+","+b.near, b.python("native.py", "4", "zlib")...))
				t.label = fills
				return t
			}},
		{name: "c-oversubscribed", class: profiles.CPUBound, needs: []string{"cc"}, quick: true,
			about: "eight threads compute on two CPUs: they wait for a CPU because of each other, which is not starvation",
			start: func(b *bench) *target {
				t := at(b.run(b.far+","+b.near, b.compile("spin"), "8"))
				t.label = func(e *evidence) error {
					if e.cpus < 1.8 || e.busy != 8 {
						return fmt.Errorf("%d threads use %.2f CPUs", e.busy, e.cpus)
					}
					e.note("its eight threads fill both CPUs")
					return nil
				}
				return t
			}},
		{name: "redis-saturated", class: profiles.CPUBound, needs: []string{"redis-server", "redis-benchmark"},
			about: "redis under redis-benchmark -c 50 -P 64 without a pause: an event loop that always has work",
			start: func(b *bench) *target {
				port := b.redis(b.near)
				t := at(port.pid())
				b.run(b.far, "redis-benchmark", "-p", port.port, "-c", "50", "-P", "64", "-n", "2000000000", "-t", "set", "-r", "100000", "-q")
				t.label = func(e *evidence) error {
					if e.cpus < 0.7 {
						return fmt.Errorf("it uses %.2f CPUs: the load is too light", e.cpus)
					}
					return nil
				}
				return t
			}},
		{name: "postgres-query", class: profiles.CPUBound, needs: []string{"psql", "pgbench"},
			about: "the backend of one long query without input: it computes while its client waits",
			start: func(b *bench) *target {
				s := b.postgres()
				query := "SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b WHERE a % 7 = b % 11"
				b.start(command{args: s.to("psql", "-c", query), env: []string{"PGAPPNAME=query"}})
				return at(s.backend("query"))
			}},
	}
}

// fills is the evidence that threads compute side by side.
func fills(e *evidence) error {
	n := min(2, runtime.NumCPU())
	if e.cpus < 0.8*float64(n) {
		return fmt.Errorf("it uses %.2f CPUs: its threads do not run side by side", e.cpus)
	}
	e.note("more than one CPU, so the interpreter is let go")
	return nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// service is a server with its port.
type service struct {
	*process
	port string
}

func (b *bench) redis(cpus string) *service {
	port := b.port()
	s := &service{b.start(command{cpus: cpus, args: []string{"redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", b.dir}}), port}
	b.answers(port, s.process)
	return s
}
