package check

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"berth/advisor"
	"berth/advisor/emit"
	"berth/probe"
	"berth/profiles"
)

var update = flag.Bool("update", false, "write the wanted findings anew")

func plan(t testing.TB, machine, profile string, quota float64) *advisor.Plan {
	t.Helper()
	source, err := probe.Synthetic(machine)
	if err != nil {
		t.Fatal(err)
	}
	m, err := probe.Probe(context.Background(), source)
	if err != nil {
		t.Fatal(err)
	}
	if quota > 0 {
		m.Limits.QuotaCPUs = &quota
	}
	p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: site\n"+profile), "test")
	if err != nil {
		t.Fatal(err)
	}
	out, err := advisor.Advise(m, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const machine = "numa:1(memory=8GiB) core:4 pu:1"

var profilesOf = map[string]string{
	"processes": "runtime: python\nmodel: processes\nlimits: {memory_per_worker_mib: 256}\n",
	"openmp":    "runtime: openmp\nwork: {kind: float}\n",
	"java":      "runtime: java\n",
	"loops":     "runtime: python\nwork: {cpu_ms: 1, wait_ms: 9, blocking: false}\n",
}

// The two engines' scripts differ in the engine's name only.
func TestRunEngines(t *testing.T) {
	p := plan(t, machine, profilesOf["processes"], 0)
	for _, engine := range []string{"docker", "podman"} {
		for _, line := range []string{engine + " run -it x", "exec /usr/bin/" + engine + " container create x", "A=1 sudo " + engine + " \\\n  run x"} {
			if r, err := Check(p, "start", []byte("#!/bin/sh\n"+line+"\n"), ""); err != nil || r.Format != engine {
				t.Errorf("%q is of %+v, %v", line, r, err)
			}
		}
	}
	for _, line := range []string{"# docker run x", "docker ps", "echo"} {
		if _, err := Check(p, "start", []byte(line+"\n"), ""); err == nil {
			t.Errorf("%q is known", line)
		}
	}
}

// What threads of HAProxy get of lines that say the same in several ways.
func TestThreadSets(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"nbthread 4\ncpu-map auto:1/1-4 0-3", "0 1 2 3"},
		{"nbthread 4\ncpu-map auto:1/all 0-7", "0 1 2 3"},
		{"nbthread 4\ncpu-map 1/1 3\ncpu-map 1/2 2\ncpu-map 1/3 1\ncpu-map 1/4 0", "0 1 2 3"},
		{"nbthread 4\ncpu-map 1/odd 0\ncpu-map 1/even 1", "0 0 1 1"},
		{"nbthread 2\ncpu-map 1/all 0-1 4", "0-1,4 0-1,4"},
		{"nbthread 2\ncpu-map 1 0-1", "0-1 0-1"},
		{"nbthread 3\ncpu-map 1/1-2 0-1", "unseated 0-1 0-1"},
		{"thread-groups 2\nnbthread 4\ncpu-map auto:1/1-2 0-1\ncpu-map auto:2/1-2 2-3", "0 1 2 3"},
		{"cpu-map 1/1 0", ""},
		{"nbthread 1\ncpu-map all 0", ""},
		{"nbthread 1\ncpu-map 1/0 0", ""},
		{"nbthread 1\ncpu-map 1/1 x", ""},
	} {
		facts, err := readHAProxy("global\n" + c.text + "\ndefaults\n nbthread 9\n")
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		for _, f := range facts {
			if f.setting == "cpu-map" && f.value != c.want {
				t.Errorf("%q: %q, want %q", c.text, f.value, c.want)
			}
		}
	}
}

// What emit writes for a plan agrees with it, in every format and for every plan;
// and what it writes for another plan does not.
func TestOwnSettingsAgree(t *testing.T) {
	for _, format := range Formats() {
		target, _ := emit.Find(format)
		for name, profile := range profilesOf {
			for _, quota := range []float64{0, 1.5} {
				p := plan(t, machine, profile, quota)
				text := target.Emit(p).Text
				r, err := Check(p, "site", []byte(text), "")
				if err != nil {
					t.Errorf("%s, %s: %v\n%s", format, name, err, text)
					continue
				}
				if r.Format != format || len(r.Findings) == 0 || !r.Agrees() {
					t.Errorf("%s, %s, quota %g: %+v\n%s", format, name, quota, r, text)
				}
				for _, f := range r.Findings {
					if lines := strings.Split(text, "\n"); f.Line < 1 || f.Line > len(lines) || f.Found == "" {
						t.Errorf("%s: a finding %+v", format, f)
					}
				}
				if quota > 0 {
					continue
				}
				other, err := Check(plan(t, "core:3 pu:1", profile, 0), "site", []byte(text), format)
				if err != nil || other.Agrees() {
					t.Errorf("%s, %s, quota %g agrees with a plan for another machine: %v\n%s", format, name, quota, err, text)
				}
			}
		}
	}
	if got, want := fmt.Sprint(Formats()), "[systemd docker podman compose kubernetes slurm gunicorn nginx haproxy postgresql]"; got != want {
		t.Errorf("formats %s, want %s", got, want)
	}
}

// Files that people have: each section of the archive named FILE is followed by
// one named want, with a line for each finding.
func TestFiles(t *testing.T) {
	path := filepath.Join("testdata", "files.txtar")
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(archive.Files); i += 2 {
		file, want := archive.Files[i], archive.Files[i+1]
		name, rest, _ := strings.Cut(file.Name, " ")
		p := plan(t, machine, profilesOf[rest], 0)
		r, err := Check(p, name, file.Data, "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got strings.Builder
		for _, f := range r.Findings {
			fmt.Fprintf(&got, "%d %s: %s", f.Line, f.Setting, f.Verdict)
			if f.Found != "" {
				fmt.Fprintf(&got, ", found %s", f.Found)
			}
			if f.Planned != "" && f.Planned != f.Found {
				fmt.Fprintf(&got, ", planned %s", f.Planned)
			}
			got.WriteString("\n")
		}
		archive.Files[i+1].Data = []byte(got.String())
		if diff := cmp.Diff(string(want.Data), got.String()); diff != "" && !*update {
			t.Errorf("%s (-want +got); -update accepts it\n%s", file.Name, diff)
		}
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestErrors(t *testing.T) {
	p := plan(t, machine, profilesOf["processes"], 0)
	for _, c := range []struct{ name, text, format, want string }{
		{"x.service", "[Service]\nCPUAffinity 0\n", "", "x.service:2: "},
		{"nginx.conf", "events {\n", "", "nginx.conf:2: a block does not end"},
		{"nginx.conf", "events {}\n}\n", "nginx", "nginx.conf:2: a block ends"},
		{"compose.yaml", "services: [\n", "", "compose.yaml: yaml: line"},
		{"compose.yaml", "services: 3\n", "", "compose.yaml: it has no services"},
		{"pod.yaml", "", "kubernetes", "pod.yaml: it is empty"},
		{"haproxy.cfg", "global\n  nbthread\n", "", "haproxy.cfg:2: nbthread takes a number"},
		{"postgresql.conf", "# x\nmax_connections\n", "", "postgresql.conf:2: "},
		{"postgresql.conf", "max_connections = # none\n", "", "postgresql.conf:1: max_connections has no value"},
		{"notes.txt", "hello\n", "", "notes.txt: it is not known as one of systemd, "},
		{"x", "", "taskset", "x: files for taskset cannot be checked; those of systemd, "},
	} {
		_, err := Check(p, c.name, []byte(c.text), c.format)
		var at *Error
		if !errors.As(err, &at) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s %q: %v, want %s", c.name, c.text, err, c.want)
		}
	}
}

func TestValues(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{cpus("2"), "2000 thousandths"}, {cpus("2.5"), "2500 thousandths"}, {cpus("2500m"), "2500 thousandths"}, {cpus("250%"), "2500 thousandths"}, {cpus("x"), ""}, {cpus("-1"), ""}, {cpus("NaN"), ""},
		{bytes("100M", 1, 1024), "104857600 bytes"}, {bytes("100Mi", 1, 1000), "104857600 bytes"}, {bytes("100M", 1, 1000), "100000000 bytes"}, {bytes("100", 1<<20, 1024), "104857600 bytes"},
		{bytes("0.5g", 1, 1024), "536870912 bytes"}, {bytes("5 loaves", 1, 1024), ""}, {bytes("", 1, 1024), ""}, {bytes("12MiB", 1, 1024), "12582912 bytes"}, {bytes("7b", 1024, 1024), "7 bytes"},
		{set("0 2-3,5"), "0,2-3,5"}, {set(""), ""}, {set("a"), ""}, {set("3,2,1,0"), "0-3"},
		{masks([]string{"auto"}), "auto"}, {masks([]string{"auto", "1101"}), "0 2 3"}, {masks([]string{"1000", "0100", "0001"}), "0 2 3"}, {masks([]string{"12"}), ""},
		{number(" 07"), "7"}, {number("auto"), ""}, {seats("[{1}, {0, 2}]"), "0,2 1"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// No file makes a reader fail in another way than by an error, and no line is
// outside of the file.
func FuzzCheck(f *testing.F) {
	p := plan(f, machine, profilesOf["processes"], 0)
	for _, format := range Formats() {
		target, _ := emit.Find(format)
		f.Add(target.Emit(p).Text)
	}
	for _, text := range []string{"a: &a [*a]\n", "services: &s {x: {<<: *s}}\n", "worker_processes 'a\\", "[Service]\nCPUAffinity=0 \\", "#SBATCH -n", "SEATS = [", "services: {a: {environment: [OMP_NUM_THREADS]}}", "apiVersion: v1\nspec: {containers: [3]}", "\x00", "a: *b", "services: {a: !!binary x}",
		"docker run -", "podman run -m", "docker run --cpu-quota=1 --cpu-period=0 x", "global\nnbthread 4\ncpu-map auto:1/even 0-65535\n", "global\ncpu-map", "global\nthread-groups 16\nnbthread 1024\ncpu-map 16/all 0", "max_connections", "= 3", "max_connections '"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(text, "\n") + 1
		for _, format := range Formats() {
			r, err := Check(p, "x", []byte(text), format)
			if err != nil {
				var at *Error
				if !errors.As(err, &at) || at.Line < 0 || at.Line > lines {
					t.Errorf("%s: %v", format, err)
				}
				continue
			}
			for _, found := range r.Findings {
				if (found.Line < 1 || found.Line > lines) != (found.Verdict == NotSaid) {
					t.Errorf("%s: %+v of %d lines", format, found, lines)
				}
			}
		}
	})
}

// A few lines of merges that name each other would be looked at a million
// million times.
func TestMergesWithoutEnd(t *testing.T) {
	text := "x0: &x0 {a: 1}\n"
	for i := range 40 {
		text += fmt.Sprintf("x%d: &x%d\n  <<: [*x%d, *x%d]\n", i+1, i+1, i, i)
	}
	facts, err := readCompose(text + "services:\n  one:\n    <<: [*x40, {cpus: \"2\"}]\n")
	if err != nil || len(facts) != 1 || facts[0].setting != "cpus" {
		t.Errorf("%+v, %v", facts, err)
	}
}
