//go:build linux

package program

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"berth/probe/tasks"
	"berth/profiles"
)

func TestOfThisProgram(t *testing.T) {
	x, err := Of("", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if x.Runtime != profiles.Go || x.Guess || !strings.Contains(x.Version, "go") && x.Version != "" || !strings.Contains(words(x.Settings), "GOMAXPROCS=") {
		t.Errorf("%+v", x)
	}
}

func TestOfOthers(t *testing.T) {
	tests := []struct {
		want     profiles.Runtime
		settings string
		command  []string
	}{
		{profiles.Python, "OMP_NUM_THREADS=3 (environment)", []string{"python3", "-c", "import time; print(1, flush=True); time.sleep(1000)"}},
		{profiles.Native, "OMP_NUM_THREADS=3 (environment)", []string{"sh", "-c", "echo; exec sleep 1000"}},
		{profiles.Node, "OMP_NUM_THREADS=3 (environment)", []string{"node", "-e", "console.log(1); setTimeout(() => 0, 1e6)"}},
	}
	for _, test := range tests {
		t.Run(test.command[0], func(t *testing.T) {
			if _, err := exec.LookPath(test.command[0]); err != nil {
				t.Skip(err)
			}
			cmd := exec.Command(test.command[0], test.command[1:]...)
			cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=3")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			if _, err := out.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
			x, err := Of("", cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			if x.Runtime != test.want || x.Why == "" || !strings.Contains(words(x.Settings), test.settings) {
				t.Errorf("%+v", x)
			}
		})
	}
	if _, err := Of("", 1<<22); !errors.Is(err, tasks.ErrGone) {
		t.Errorf("a process that is not there: %v", err)
	}
}

func words(all []Setting) string {
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "%s=%s (%s) ", s.Name, s.Value, s.Source)
	}
	return strings.TrimSpace(b.String())
}

func TestByName(t *testing.T) {
	for name, want := range map[string]string{
		"python3": "python 3", "python3.11": "python 3.11", "python": "python", "python3.13t": "python-free-threaded 3.13", "python3.7m": "python 3.7",
		"java": "java", "node": "node", "nodejs": "node", "pythonish": "", "bash": "", "": "",
	} {
		r, version := byName(name)
		if got := strings.TrimSpace(string(r) + " " + version); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func line(file string) string {
	return "7f0000000000-7f0000001000 r--p 00000000 00:1f 1234   " + file + "\n"
}

func TestByMaps(t *testing.T) {
	tests := []struct{ maps, want string }{
		{line("/usr/lib/jvm/lib/server/libjvm.so"), "java"},
		{line("/lib/libc.so.6") + line("/usr/lib/libpython3.11.so.1.0"), "python 3.11"},
		{line("/usr/lib/libpython3.13t.so.1.0"), "python-free-threaded 3.13"},
		{line("/usr/lib/libgomp.so.1.0.0") + line("/usr/lib/libpython3.11.so.1.0"), "python 3.11"},
		{line("/usr/lib/libgomp.so.1.0.0 (deleted)"), "openmp"},
		{line("/a wheel/numpy.libs/libgomp-a34b3233.so.1.0.0"), "openmp"},
		{line("/usr/lib/libiomp5.so"), "openmp"},
		{line("/usr/lib/libomp.so.5"), "openmp"},
		{line("/usr/lib/libnode.so.108"), "node"},
		{line("/lib/libc.so.6") + "7ffc0000-7ffd0000 rw-p 0 00:00 0 [stack]\n", ""},
		{"", ""},
	}
	for _, test := range tests {
		x, err := byMaps(strings.NewReader(test.maps))
		if got := strings.TrimSpace(string(x.runtime) + " " + x.version); got != test.want || err != nil || x.any != (test.maps != "") {
			t.Errorf("%q: %q, want %q, %v", test.maps, got, test.want, err)
		}
	}
}
