//go:build linux

package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/probe/tasks"
	"berth/profiles"
)

// recorded is a process of a tree as that of /proc.
type recorded struct {
	pid, parent, threads int
	name, cmdline        string // of the arguments, with | between
	exe, maps, environ   string // exe and maps empty: not to be seen
	files                map[string]string
}

func (r recorded) write(t *testing.T, dir string) {
	t.Helper()
	write := func(name, content string) {
		path := filepath.Join(dir, strconv.Itoa(r.pid), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("stat", fmt.Sprintf("%d (%s) S %d 0 0 0 0 0 10 0 1 0 0 0 0 0 20 0 %d 0 5 0 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0\n", r.pid, r.name, r.parent, r.threads))
	write("status", fmt.Sprintf("Name:\t%s\nTgid:\t%d\nUid:\t7\t8\t7\t7\nCpus_allowed_list:\t0-5\nvoluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches:\t1\n", r.name, r.pid))
	if r.cmdline != "" {
		write("cmdline", strings.ReplaceAll(r.cmdline, "|", "\x00")+"\x00")
	}
	write("environ", r.environ)
	if r.maps != "" {
		write("maps", r.maps)
	}
	if r.exe != "" {
		if err := os.Symlink(r.exe, filepath.Join(dir, strconv.Itoa(r.pid), "exe")); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range r.files {
		write(name, content)
	}
}

func TestOfRecorded(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	libc := line("/lib/libc.so.6")
	tests := map[string]struct {
		is       recorded
		children []recorded
		runtime  profiles.Runtime
		guess    bool
		why      string // in it
		server   string
		settings []string // in them
	}{
		"java": {
			is:      recorded{name: "java", cmdline: "java|-XX:ParallelGCThreads=4|-jar|x", exe: "/nowhere/bin/java", maps: libc},
			runtime: profiles.Java, why: "its file is java", settings: []string{"-XX:ParallelGCThreads=4 (command line)"},
		},
		"java in a launcher": {
			is:      recorded{name: "app", cmdline: "app", exe: "/nowhere/app", maps: libc + line("/nowhere/libjvm.so"), environ: "JDK_JAVA_OPTIONS=-XX:ActiveProcessorCount=2"},
			runtime: profiles.Java, why: "libjvm.so is loaded", settings: []string{"-XX:ActiveProcessorCount=2 (environment, JDK_JAVA_OPTIONS)"},
		},
		"a replaced python": {
			is:      recorded{name: "python3", cmdline: "python3|x.py", exe: "/nowhere/python3.9 (deleted)", maps: libc},
			runtime: profiles.Python, why: "python3.9",
		},
		"OpenMP": {
			is:      recorded{name: "solver", cmdline: "solver", threads: 4, exe: "/nowhere/solver", maps: libc + line("/lib/libgomp.so.1.0.0")},
			runtime: profiles.OpenMP, why: "libgomp.so.1.0.0",
		},
		"OpenMP unused": {
			is:      recorded{name: "solver", cmdline: "solver", exe: "/nowhere/solver", maps: libc + line("/lib/libgomp.so.1.0.0")},
			runtime: profiles.Native, why: "one thread",
		},
		"maps not to be read": {
			is:      recorded{name: "solver", cmdline: "solver", exe: "/nowhere/solver"},
			runtime: profiles.Native, why: "could not be read",
		},
		"another user's python": {
			is:      recorded{name: "python3.11", cmdline: "/usr/bin/python3.11|x.py"},
			runtime: profiles.Python, guess: true, why: "a guess by its name",
		},
		"another user's gunicorn": {
			is:      recorded{name: "gunicorn", cmdline: "gunicorn: worker [app]"},
			runtime: profiles.Python, guess: true, why: "a guess by its name", server: "gunicorn",
		},
		"another user's program": {is: recorded{name: "solver", cmdline: "solver"}},
		"a thread of the kernel": {is: recorded{name: "java", cmdline: ""}},
		"Go": {
			is:      recorded{name: "x", cmdline: "x", exe: self, maps: libc, environ: "GODEBUG=containermaxprocs=0"},
			runtime: profiles.Go, why: "built by go", settings: []string{"GOMAXPROCS=6 (not set: the CPUs that it may use"},
		},
		"Go that minds the quota": {
			is:      recorded{name: "x", cmdline: "x", exe: self, maps: libc, environ: "GODEBUG=containermaxprocs=1\x00GOMAXPROCS=0"},
			runtime: profiles.Go, settings: []string{"GOMAXPROCS=0 (environment)", "GOMAXPROCS=auto (not set"},
		},
		"Go that was told": {
			is:      recorded{name: "x", cmdline: "x", exe: self, maps: libc, environ: "GOMAXPROCS=3"},
			runtime: profiles.Go, settings: []string{"GOMAXPROCS=3 (environment)"},
		},
		"nginx": {
			is: recorded{name: "nginx", cmdline: "nginx: master process /usr/sbin/nginx -c /opt/n.conf", exe: "/nowhere/nginx", maps: libc,
				files: map[string]string{"root/opt/n.conf": "worker_processes auto;\n", "root/etc/nginx/nginx.conf": "worker_processes 9;\n"}},
			children: []recorded{{name: "nginx", cmdline: "nginx: worker process"}, {name: "nginx", cmdline: "nginx: worker process"}, {name: "nginx", cmdline: "nginx: cache manager process"}},
			runtime:  profiles.Native, server: "nginx", settings: []string{"worker_processes=auto (/opt/n.conf)", "worker_processes=2 (its worker processes, counted)"},
		},
		"nginx with its usual file": {
			is: recorded{name: "nginx", cmdline: "nginx: master process nginx", exe: "/nowhere/nginx", maps: libc,
				files: map[string]string{"root/etc/nginx/nginx.conf": "worker_processes 9;\n"}},
			runtime: profiles.Native, server: "nginx", settings: []string{"worker_processes=9 (/etc/nginx/nginx.conf)"},
		},
		"nginx told by -g": {
			is:      recorded{name: "nginx", cmdline: "nginx: master process nginx -g daemon off; worker_processes 3;", exe: "/nowhere/nginx", maps: libc},
			runtime: profiles.Native, server: "nginx", settings: []string{"worker_processes=3 (command line)"},
		},
		"gunicorn by its title": {
			is:       recorded{name: "gunicorn", cmdline: "gunicorn: master [app]", exe: "/nowhere/python3.11", maps: libc},
			children: []recorded{{name: "gunicorn", cmdline: "gunicorn: worker [app]"}, {name: "gunicorn", cmdline: "gunicorn: worker [app]"}},
			runtime:  profiles.Python, server: "gunicorn", settings: []string{"--workers=2 (its worker processes, counted)"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			test.is.pid, test.is.threads = 7, max(test.is.threads, 1)
			test.is.write(t, dir)
			for i, c := range test.children {
				c.pid, c.parent, c.threads = 8+i, 7, 1
				c.write(t, dir)
			}
			x, err := Of(tasks.Proc(dir), 7)
			if err != nil {
				t.Fatal(err)
			}
			if x.Runtime != test.runtime || x.Guess != test.guess || x.Server != test.server || !strings.Contains(x.Why, test.why) || (x.Why == "") != (x.Runtime == "") {
				t.Errorf("%+v", x)
			}
			if len(x.Settings) != len(test.settings) {
				t.Errorf("%s", words(x.Settings))
			}
			for _, want := range test.settings {
				if got := words(x.Settings); !strings.Contains(got, want) {
					t.Errorf("%s lack %s", got, want)
				}
			}
		})
	}
}

// await tries until it holds, as what other processes do has no order.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 4000 {
		if holds() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("waited in vain until %s", what)
}

// TestOfServers starts servers with two workers.
func TestOfServers(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	conf := write("n.conf", fmt.Sprintf("daemon off;\nworker_processes 2;\npid %[1]s/pid;\nerror_log %[1]s/log;\nevents {}\n", dir))
	write("app.py", "def app(environ, start): return []\n")
	for _, test := range []struct {
		runtime  profiles.Runtime
		settings []string
		command  []string
	}{
		{profiles.Native, []string{"worker_processes=2 (" + conf + ")", "worker_processes=2 (its worker processes, counted)"}, []string{"nginx", "-c", conf, "-e", dir + "/log"}},
		{profiles.Python, []string{"--workers=2 ("}, []string{"gunicorn", "-w", "2", "--chdir", dir, "-b", "unix:" + dir + "/socket", "app:app"}},
	} {
		t.Run(test.command[0], func(t *testing.T) {
			path, err := exec.LookPath(test.command[0])
			if err != nil {
				if path = "/usr/sbin/" + test.command[0]; !exists(path) {
					t.Skip(err)
				}
			}
			cmd := exec.Command(path, test.command[1:]...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			defer func() {
				_ = cmd.Process.Signal(os.Interrupt)
				select {
				case <-ended:
				case <-time.After(30 * time.Second):
					_ = cmd.Process.Kill()
				}
			}()
			var x *Program
			await(t, test.command[0]+" has its workers", func() bool {
				select {
				case err := <-ended:
					ended <- err
					t.Skipf("%s ended: %v", path, err)
				default:
				}
				var err error
				if x, err = Of("", cmd.Process.Pid); err != nil {
					return false
				}
				for _, want := range test.settings {
					if !strings.Contains(words(x.Settings), want) {
						return false
					}
				}
				return true
			})
			if x.Runtime != test.runtime || x.Server != test.command[0] || x.Guess {
				t.Errorf("%+v", x)
			}
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
