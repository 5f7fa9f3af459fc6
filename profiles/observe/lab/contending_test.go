//go:build lab

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"berth/profiles"
)

// contending are programs whose threads wait for each other.
func contending() []subject {
	return []subject{
		{name: "python-2", class: profiles.GILBound, needs: []string{"python3"}, quick: true,
			about: "two threads of pure Python: one computes at a time, the other waits for the interpreter, 5 ms at once",
			start: func(b *bench) *target { return at(b.run("", b.python("pure.py", "2")...)) }},
		{name: "python-4", class: profiles.GILBound, needs: []string{"python3"},
			about: "four threads of pure Python",
			start: func(b *bench) *target { return at(b.run("", b.python("pure.py", "4")...)) }},
		{name: "python-2-idle", class: profiles.GILBound, needs: []string{"python3"},
			about: "two threads of pure Python beside two that wait for an event and for a timer",
			start: func(b *bench) *target { return at(b.run("", b.python("pure.py", "2", "idle")...)) }},
		{name: "python-json", class: profiles.GILBound, needs: []string{"python3"},
			about: "three threads in json.loads, native code that keeps the interpreter",
			start: func(b *bench) *target { return at(b.run("", b.python("pure.py", "3", "json")...)) }},

		{name: "c-mutex", class: profiles.LockBound, needs: []string{"cc"}, quick: true,
			about: "four threads take turns at a mutex: 50 µs of computing inside, 10 µs outside",
			start: func(b *bench) *target {
				return claims(b.start(command{args: []string{b.compile("lock"), "4", "compute"}}), 0.5, 1)
			}},
		{name: "c-mutex-sleeps", class: profiles.LockBound, needs: []string{"cc"},
			about: "eight threads take turns at a mutex whose holder sleeps for 50 µs",
			start: func(b *bench) *target {
				return claims(b.start(command{args: []string{b.compile("lock"), "8", "sleep"}}), 0.6, 1)
			}},
		{name: "go-mutex", class: profiles.LockBound,
			about: "eight goroutines take turns at a sync.Mutex: 50 µs of computing inside, 10 µs outside",
			start: func(b *bench) *target {
				t := claims(b.child("", "mutex", "8"), 0.6, 1.05)
				t.parks = true
				return t
			}},
		{name: "java-synchronized", class: profiles.LockBound, needs: []string{"javac", "java"},
			about: "four Java threads take turns at a monitor: 50 µs of computing inside, 10 µs outside",
			start: func(b *bench) *target {
				t := claims(b.start(command{args: b.java("lock", "4")}), 0.5, 1)
				t.settle = 3 * time.Second
				return t
			}},
		{name: "python-lock", class: profiles.LockBound, needs: []string{"python3"}, quick: true,
			about: "eight Python threads take turns at a threading.Lock whose holder sleeps for 2 ms",
			start: func(b *bench) *target { return claims(b.start(command{args: b.python("lock.py", "8", "2")}), 0.6, 1) }},
		{name: "postgres-row", class: profiles.LockBound, needs: []string{"psql", "pgbench"}, children: true,
			about: "eight clients update the same row of PostgreSQL on a slow disk: all but one backend wait for its lock",
			start: func(b *bench) *target {
				group := b.slowDisk()
				s := b.postgres()
				if group != "" { // of those to come too
					b.check(os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(s.pid())), 0))
				}
				s.ask("CREATE TABLE hot (id int PRIMARY KEY, v int); INSERT INTO hot VALUES (1, 0)")
				b.start(command{args: s.to("pgbench", "-n", "-c", "8", "-j", "1", "-T", "600", "-f", b.source("hot.sql")), cpus: b.far})
				t := at(s.pid())
				t.settle = 2 * time.Second
				t.parks = true // PostgreSQL sleeps on its latch in epoll_wait
				t.label = func(e *evidence) error {
					locked, active := 0, 0
					for range 10 {
						for _, event := range strings.Fields(s.ask("SELECT coalesce(wait_event_type, 'none') FROM pg_stat_activity WHERE application_name = 'pgbench' AND state = 'active'")) {
							active++
							if event == "Lock" {
								locked++
							}
						}
						time.Sleep(30 * time.Millisecond)
					}
					e.note("pg_stat_activity: %d of %d times an active backend waits for a lock", locked, active)
					if locked*3 < active*2 {
						return fmt.Errorf("backends wait for locks %d of %d times", locked, active)
					}
					return nil
				}
				return t
			}},
	}
}
