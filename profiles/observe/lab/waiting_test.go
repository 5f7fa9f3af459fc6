//go:build lab

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"berth/profiles"
)

// blocking are programs in which a thread itself waits for a peer, a disk or
// another process.
func blocking() []subject {
	return []subject{
		{name: "curl", class: profiles.IOBoundBlocking, needs: []string{"curl"},
			about: "curl fetches one page after the other over one connection; the server takes 20 ms",
			start: func(b *bench) *target {
				_, web := b.slow()
				return at(b.run(b.near, "curl", "-s", "-o", "/dev/null", "http://127.0.0.1:"+web+"/20?[1-1000000]"))
			}},
		{name: "python-client", class: profiles.IOBoundBlocking, needs: []string{"python3"}, quick: true,
			about: "one Python thread asks an HTTP server that takes 10 ms",
			start: func(b *bench) *target {
				_, web := b.slow()
				return claims(b.start(command{args: b.python("client.py", web, "/10", "1"), cpus: b.near}), 0.6, 1)
			}},
		{name: "python-clients", class: profiles.IOBoundBlocking, needs: []string{"python3"}, quick: true,
			about: "eight Python threads ask an HTTP server that takes 50 ms",
			start: func(b *bench) *target {
				_, web := b.slow()
				return claims(b.start(command{args: b.python("client.py", web, "/50", "8"), cpus: b.near}), 0.6, 1)
			}},
		{name: "epoll-one", class: profiles.IOBoundBlocking, needs: []string{"cc"}, quick: true,
			about: "one connection in an epoll of its own with a time-out; the server takes 10 ms",
			start: func(b *bench) *target {
				lines, _ := b.slow()
				return claims(b.start(command{args: []string{b.compile("client"), lines, "10", "1"}, cpus: b.near}), 0.6, 1)
			}},
		{name: "pgbench", class: profiles.IOBoundBlocking, needs: []string{"psql", "pgbench"},
			about: "pgbench -c 1: a client that waits for each answer of PostgreSQL, which waits for its disk",
			start: func(b *bench) *target {
				s := b.postgres()
				return at(b.start(command{args: s.to("pgbench", "-n", "-c", "1", "-T", "600"), cpus: b.near}).pid())
			}},
		{name: "postgres-backend", class: profiles.IOBoundBlocking, needs: []string{"psql", "pgbench"},
			about: "the backend of that client at 100 transactions a second: it waits for the client and for commits",
			start: func(b *bench) *target {
				s := b.postgres()
				b.start(command{args: s.to("pgbench", "-n", "-c", "1", "-R", "100", "-T", "600"), cpus: b.far})
				return at(s.backend("pgbench"))
			}},
		{name: "gunicorn", class: profiles.IOBoundBlocking, needs: []string{"gunicorn"}, children: true,
			about: "two sync workers of gunicorn, each waiting 30 ms for an upstream per request; the master sleeps",
			start: func(b *bench) *target {
				_, web := b.slow()
				port := b.port()
				p := b.start(command{args: []string{"/usr/bin/gunicorn", "-w", "2", "-b", "127.0.0.1:" + port, "--chdir", filepath.Dir(b.source("app.py")), "app:application"},
					env: []string{"UPSTREAM=" + web, "PYTHONDONTWRITEBYTECODE=1"}, cpus: b.near})
				b.answers(port, p)
				for range 3 {
					b.run(b.far, "sh", "-c", `while :; do curl -s -o /dev/null "http://127.0.0.1:$0/?[1-1000]"; done`, port)
				}
				return at(p.pid())
			}},
		{name: "sqlite", class: profiles.IOBoundBlocking, needs: []string{"python3"},
			about: "SQLite writes each transaction through to a slow disk (synchronous=FULL)",
			start: func(b *bench) *target {
				return claims(b.start(command{args: b.python("commits.py", b.dir), cpus: b.near, group: b.slowDisk()}), 0.6, 1)
			}},
		{name: "dd-dsync", class: profiles.IOBoundBlocking, needs: []string{"dd"},
			about: "dd oflag=dsync writes 4 KiB after the other through to a slow disk",
			start: func(b *bench) *target {
				return at(b.start(command{args: []string{"dd", "if=/dev/zero", "of=" + filepath.Join(b.dir, "file"), "bs=4k", "oflag=dsync", "count=1000000", "status=none"},
					cpus: b.near, group: b.slowDisk()}).pid())
			}},
		{name: "fio-randread", class: profiles.IOBoundBlocking, needs: []string{"fio"}, children: true,
			about: "fio reads 4 KiB at random places of a slow disk past the page cache (psync, direct)",
			start: func(b *bench) *target {
				t := at(b.start(command{args: []string{"fio", "--name=lab", "--filename=" + filepath.Join(b.dir, "file"), "--size=64m", "--rw=randread", "--bs=4k",
					"--direct=1", "--ioengine=psync", "--time_based", "--runtime=600", "--output=" + filepath.Join(b.dir, "fio")}, cpus: b.near, group: b.slowDisk()}).pid())
				b.until("fio lays out no file", func() bool {
					s, err := os.Stat(filepath.Join(b.dir, "file"))
					return err == nil && s.Size() == 64<<20
				})
				t.settle = 4 * time.Second
				return t
			}},
		{name: "gzip-slow-pipe", class: profiles.IOBoundBlocking, needs: []string{"gzip"},
			about: "gzip reads from a pipe that gets 64 KiB every 20 ms: it waits for another process",
			start: func(b *bench) *target {
				r, w, err := os.Pipe()
				b.check(err)
				b.Cleanup(func() { r.Close() })
				text, err := os.ReadFile(b.corpus())
				b.check(err)
				t := at(b.start(command{args: []string{"gzip", "-6", "-c"}, stdin: r, cpus: b.near}).pid())
				go func() {
					defer w.Close()
					for i := 0; ; i = (i + 1<<16) % (len(text) - 1<<16) {
						if _, err := w.Write(text[i : i+1<<16]); err != nil {
							return
						}
						time.Sleep(20 * time.Millisecond)
					}
				}()
				return t
			}},

		{name: "c-half", class: profiles.Mixed, needs: []string{"cc"}, quick: true,
			about: "computes 10 ms, then waits 10 ms for a server, by its own clocks",
			start: func(b *bench) *target {
				lines, _ := b.slow()
				return claims(b.start(command{args: []string{b.compile("client"), lines, "10", "10"}, cpus: b.near}), 0.42, 0.58)
			}},
		{name: "python-half", class: profiles.Mixed, needs: []string{"python3"},
			about: "Python computes 10 ms, then waits 10 ms for an HTTP server",
			start: func(b *bench) *target {
				_, web := b.slow()
				return claims(b.start(command{args: b.python("client.py", web, "/10", "1", "10"), cpus: b.near}), 0.42, 0.58)
			}},
		{name: inTurns, class: profiles.Mixed, needs: []string{"python3"},
			about: "computes for 3 s, then asks a server for 3 s, in turns: both must show as phases",
			start: func(b *bench) *target {
				_, web := b.slow()
				p := b.start(command{args: b.python("phases.py", web, "/20", "3"), cpus: b.near})
				return &target{pid: p.pid(), changes: true, label: func(e *evidence) error {
					computes, waits := 0, 0
					for range 16 {
						before := count(p.pid(), false)
						time.Sleep(400 * time.Millisecond)
						after := count(p.pid(), false)
						switch cpus := (after.cpu - before.cpu) / after.at.Sub(before.at).Seconds(); {
						case cpus > 0.8:
							computes++
						case cpus < 0.3:
							waits++
						}
					}
					e.note("by stat it computes in %d of 16 looks and waits in %d", computes, waits)
					if computes < 5 || waits < 5 {
						return fmt.Errorf("it computes in %d of 16 looks and waits in %d", computes, waits)
					}
					return nil
				}}
			}},
	}
}

// awaiting are programs in which an event loop waits for many.
func awaiting() []subject {
	return []subject{
		{name: "asyncio-1000", class: profiles.IOBoundAsync, needs: []string{"python3"}, quick: true,
			about: "1,000 tasks of asyncio wait for a server that takes two seconds",
			start: func(b *bench) *target {
				lines, _ := b.slow()
				t := at(b.run(b.near, b.python("many.py", lines, "1000", "2000")...))
				t.settle = 3 * time.Second
				return t
			}},
		{name: "asyncio-server", class: profiles.IOBoundAsync, needs: []string{"python3"},
			about: "an HTTP server on asyncio with an upstream of 20 ms, 400 requests a second over 50 connections",
			start: func(b *bench) *target {
				lines, _ := b.slow()
				port := b.port()
				p := b.start(command{args: b.python("server.py", port, lines, "20"), cpus: b.near})
				return b.under(p, port, "http", 400)
			}},
		{name: "node-server", class: profiles.IOBoundAsync, needs: []string{"node"},
			about: "an HTTP server on Node with an upstream of 10 ms, 400 requests a second over 50 connections",
			start: func(b *bench) *target {
				_, web := b.slow()
				port := b.port()
				p := b.start(command{args: []string{"node", b.source("server.js"), port, web}, cpus: b.near})
				t := b.under(p, port, "http", 400)
				t.parks = true             // the threads that compile park
				t.settle = 5 * time.Second // and are at it in the beginning
				return t
			}},
		{name: "nginx", class: profiles.IOBoundAsync, needs: []string{"nginx"},
			about: "the worker of nginx, 1,000 requests a second over 50 connections",
			start: func(b *bench) *target {
				s, worker := b.nginx()
				t := b.under(s.process, s.port, "http", 1000)
				t.pid = worker
				return t
			}},
		{name: "haproxy", class: profiles.IOBoundAsync, needs: []string{"haproxy"},
			about: "haproxy before a server that takes 20 ms, 400 requests a second over 50 connections",
			start: func(b *bench) *target {
				_, web := b.slow()
				port := b.port()
				conf := filepath.Join(b.dir, "haproxy.cfg")
				b.check(os.WriteFile(conf, []byte(`global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend lab
  bind 127.0.0.1:`+port+`
  default_backend slow
backend slow
  http-request set-path /20
  server slow 127.0.0.1:`+web+"\n"), 0o644))
				return b.under(b.start(command{args: []string{"haproxy", "-db", "-f", conf}, cpus: b.near}), port, "http", 400)
			}},
		{name: "pgbouncer", class: profiles.IOBoundAsync, needs: []string{"psql", "pgbench", "pgbouncer"},
			about: "PgBouncer between PostgreSQL and pgbench -S -c 50, 400 transactions a second",
			start: func(b *bench) *target {
				s := b.postgres()
				port := b.port()
				conf := filepath.Join(b.dir, "pgbouncer.ini")
				b.check(os.WriteFile(conf, []byte("[databases]\npostgres = host=127.0.0.1 port="+s.port+" user=lab\n"+
					"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = "+port+"\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n"), 0o644))
				p := b.start(command{args: []string{"pgbouncer", conf}, as: b.postgresUser(conf), cpus: b.near})
				b.answers(port, p)
				b.start(command{args: []string{"pgbench", "-n", "-S", "-c", "50", "-R", "400", "-T", "600", "-h", "127.0.0.1", "-p", port, "-U", "lab", "postgres"}, cpus: b.far})
				t := at(p.pid())
				t.settle = 2 * time.Second
				return t
			}},
		{name: "redis", class: profiles.IOBoundAsync, needs: []string{"redis-server"},
			about: "redis, 2,000 requests a second over 50 connections; its helper threads park",
			start: func(b *bench) *target {
				s := b.redis(b.near)
				return b.under(s.process, s.port, "redis", 2000)
			}},
		{name: "go-server", class: profiles.IOBoundAsync,
			about: "net/http with an upstream of 20 ms, 400 requests a second over 50 connections: goroutines wait in the netpoller",
			start: func(b *bench) *target {
				_, web := b.slow()
				port := b.port()
				t := b.under(b.child(b.near, "server", port, web), port, "http", 400)
				t.parks = true
				return t
			}},
		{name: "curl-parallel", class: profiles.IOBoundAsync, needs: []string{"curl"},
			about: "curl --parallel with 50 transfers at once from a server that takes 50 ms",
			start: func(b *bench) *target {
				_, web := b.slow()
				return at(b.run(b.near, "curl", "-s", "--parallel", "--parallel-immediate", "--parallel-max", "50", "-o", "/dev/null", "http://127.0.0.1:"+web+"/50?[1-1000000]"))
			}},
	}
}

// under puts an event loop under a load and takes its count as evidence.
func (b *bench) under(p *process, port, kind string, rate int) *target {
	b.Helper()
	b.answers(port, p)
	load := b.load(kind, port, 50, rate)
	return &target{pid: p.pid(), settle: 2 * time.Second, label: func(e *evidence) error {
		served, err := load.last("served")
		if err != nil {
			return err
		}
		e.note("%.0f requests/s served", served)
		if served < 0.7*float64(rate) {
			return fmt.Errorf("it serves %.0f of %d requests a second", served, rate)
		}
		return nil
	}}
}

// nginx starts one worker and returns its pid.
func (b *bench) nginx() (s *service, worker int) {
	b.Helper()
	port := b.port()
	conf := filepath.Join(b.dir, "nginx.conf")
	text := "daemon off; worker_processes 1; pid " + b.dir + "/pid; error_log stderr;\nevents {}\nhttp { access_log off; keepalive_requests 1000000;\n"
	for _, dir := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		text += dir + "_temp_path " + b.dir + "/" + dir + ";\n"
	}
	text += "server { listen 127.0.0.1:" + port + "; return 200 ok; } }\n"
	b.check(os.WriteFile(conf, []byte(text), 0o644))
	s = &service{b.start(command{args: []string{"nginx", "-e", "stderr", "-c", conf}, cpus: b.near}), port}
	b.answers(port, s.process)
	b.until("nginx has no worker", func() bool {
		if all := tree(s.pid(), true); len(all) > 1 {
			worker = all[1]
		}
		return worker > 0
	})
	return s, worker
}
