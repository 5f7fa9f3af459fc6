//go:build linux

package program

import (
	"bytes"
	"strings"
	"testing"
)

func TestServer(t *testing.T) {
	for command, want := range map[string]string{
		"nginx: master process /usr/sbin/nginx -g daemon on;":       "nginx",
		"gunicorn:|master|[app]":                                    "gunicorn",
		"/usr/bin/python3|/usr/bin/gunicorn|-w|4|app:app":           "gunicorn",
		"python3|-m|uvicorn|app:app|--workers|3":                    "uvicorn",
		"python3|-u|-m|celery.bin|worker":                           "celery",
		"python3|app.py|gunicorn":                                   "",
		"python3|-X|dev|-m|hypercorn":                               "hypercorn",
		"python3|-c|x|gunicorn":                                     "",
		"[celeryd: celery@host:MainProcess] -active- (worker -c 5)": "celery",
		"php-fpm: pool www":                                         "php-fpm",
		"/usr/sbin/php-fpm8.2|-F":                                   "php-fpm",
		"uWSGI worker 1":                                            "uwsgi",
		"nginx2":                                                    "",
		"python3|-m":                                                "",
		"/usr/bin/redis-server|*:6379":                              "redis-server",
		"redis-server *:6379":                                       "redis-server",
		"postgres: walwriter":                                       "postgres",
		"/usr/local/bin/envoy|-c|x":                                 "envoy",
		"sh|-c|nginx":                                               "",
		"":                                                          "",
	} {
		if got := server(strings.Split(command, "|"), ""); got != want {
			t.Errorf("%q: %q, want %q", command, got, want)
		}
	}
	if got := server(nil, "nginx"); got != "nginx" {
		t.Errorf("by its name alone: %q", got)
	}
}

func TestCommandSettings(t *testing.T) {
	for command, want := range map[string]string{
		"gunicorn|-w|4|--threads=8|app":              "--workers=4 (command line) --threads=8 (command line)",
		"/usr/bin/python3|/usr/bin/gunicorn|-w4|a":   "--workers=4 (command line)",
		"gunicorn|--workers|many":                    "",
		"java|-XX:ActiveProcessorCount=6|-jar|x":     "-XX:ActiveProcessorCount=6 (command line)",
		"make|-j8|all":                               "--jobs=8 (command line)",
		"make|-j|all":                                "",
		"xz|-T2|-9":                                  "--threads=2 (command line)",
		"xz|-T|2|-9":                                 "--threads=2 (command line)",
		"ninja|-j|3|--|-j|9":                         "-j=3 (command line)",
		"sleep|-j|3":                                 "",
		"celery|-A|app|worker|-c|5":                  "--concurrency=5 (command line)",
		"python3|-m|uvicorn|app:app|--workers|3":     "--workers=3 (command line)",
		"java|-XX:ActiveProcessorCount|-XX:Parallel": "",
		"node|--v8-pool-size=2|x.js":                 "--v8-pool-size=2 (command line)",
		"unxz|-T0":                                   "--threads=0 (command line)",
		"[celeryd: celery@host:MainProcess] -active- (worker -c 5)":          "--concurrency=5 (command line)",
		"python3.13|-X|cpu_count=2|-Xgil=0|-W|ignore|-u|x.py|-X|cpu_count=9": "-X cpu_count=2 (command line) -X gil=0 (command line)",
		"python3.13|-X":         "",
		"python3.13|-c|-Xgil=0": "",
	} {
		args := strings.Split(command, "|")
		if got := words(commandSettings(server(args, ""), args)); got != want {
			t.Errorf("%q: %q, want %q", command, got, want)
		}
	}
}

func TestEnvironSettings(t *testing.T) {
	got := words(environSettings([]byte("PATH=/bin\x00OMP_NUM_THREADS=4,2\x00JAVA_TOOL_OPTIONS=-Xmx1g -XX:ActiveProcessorCount=3\x00GUNICORN_CMD_ARGS=-w 5\x00GOMAXPROCS=\x00odd\x00OMP_NUM_THREADS=9\x00NODE_OPTIONS=--v8-pool-size=3")))
	want := "OMP_NUM_THREADS=4,2 (environment) -XX:ActiveProcessorCount=3 (environment, JAVA_TOOL_OPTIONS) --workers=5 (environment, GUNICORN_CMD_ARGS) --v8-pool-size=3 (environment, NODE_OPTIONS)"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestVariable(t *testing.T) {
	environ := []byte("XGODEBUG=0\x00GODEBUG=a=1\x00GODEBUG=a=2\x00")
	if got := variable(environ, "GODEBUG"); got != "a=1" {
		t.Errorf("%q", got)
	}
	if got := variable(nil, "GODEBUG"); got != "" {
		t.Errorf("%q", got)
	}
}

func TestMindsQuota(t *testing.T) {
	for _, test := range []struct {
		version, debug, environment string
		want                        bool
	}{
		{"go1.24.3", "", "", false},
		{"go1.25", "", "", true},
		{"go1.26.8", "", "", true},
		{"go1.25rc1", "", "", true},
		{"devel", "", "", false},
		{"", "", "", false},
		{"go1.26.8", "updatemaxprocs=0,containermaxprocs=0", "", false},
		{"go1.26.8", "containermaxprocs=0", "containermaxprocs=1", true},
		{"go1.26.8", "", "containermaxprocs=1,containermaxprocs=0", false},
		{"go1.26.8", "", "x=1", true},
	} {
		if got := (&goBuild{test.version, test.debug}).mindsQuota(test.environment); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

func TestWorkerProcesses(t *testing.T) {
	for file, want := range map[string]string{
		"user www;\nworker_processes auto;\n":                   "auto",
		"# worker_processes 2;\n  worker_processes  4 ; # or 8": "4",
		"daemon off; worker_processes 3;":                       "3",
		"worker_processes;":                                     "",
		"worker_processes_x 2;":                                 "",
		"":                                                      "",
	} {
		if got := workerProcesses([]byte(file)); got != want {
			t.Errorf("%q: %q, want %q", file, got, want)
		}
	}
}

func FuzzWorkerProcesses(f *testing.F) {
	f.Add([]byte("worker_processes 4; # or 8\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if strings.ContainsAny(workerProcesses(file), " ;#") {
			t.Errorf("%q", file)
		}
	})
}

func FuzzEnviron(f *testing.F) {
	f.Add([]byte("GOMAXPROCS=4\x00JDK_JAVA_OPTIONS=-XX:ParallelGCThreads=2\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, s := range environSettings(data) {
			if s.Name == "" || s.Value == "" {
				t.Errorf("%q: %+v", data, s)
			}
		}
	})
}

func FuzzCommand(f *testing.F) {
	f.Add("python3|-m|uvicorn|--workers|3")
	f.Add("nginx: master process")
	f.Fuzz(func(t *testing.T, command string) {
		args := strings.Split(command, "|")
		commandSettings(server(args, command), args)
		byName(command)
	})
}

func FuzzMaps(f *testing.F) {
	f.Add([]byte("7f0000000000-7f0000001000 r--p 00000000 00:1f 1234   /usr/lib/libpython3.11.so.1.0\n"))
	f.Fuzz(func(t *testing.T, maps []byte) {
		x, err := byMaps(bytes.NewReader(maps))
		if err == nil && x.runtime != "" && (x.library == "" || !x.any) {
			t.Errorf("%q: %+v", maps, x)
		}
	})
}
