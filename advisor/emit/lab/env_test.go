//go:build lab

package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/probe"
)

func sorted(lines []string) string {
	return strings.Join(slices.Sorted(slices.Values(lines)), "\n")
}

// sources says how sh is to read a file before it becomes a program.
func sourced(file string, program ...string) []string {
	return append([]string{"dash", "-eu", "-c", `. "$0"; exec "$@"`, file}, program...)
}

// seats builds the program that tells where OpenMP's threads sit, with GCC's
// runtime or with another that answers to its names.
func seats(t *testing.T, runtime ...string) string {
	t.Helper()
	need(t, "gcc", "dash")
	dir := t.TempDir()
	object, program := filepath.Join(dir, "seats.o"), filepath.Join(dir, "seats")
	output(t, command(t, ".", "gcc", "-Wall", "-Werror", "-fopenmp", "-c", "-o", object, "testdata/seats.c"))
	if runtime == nil {
		runtime = []string{"-fopenmp"}
	}
	output(t, command(t, ".", append([]string{"gcc", "-o", program, object}, runtime...)...))
	return program
}

// llvm is LLVM's OpenMP runtime.
func llvm(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/llvm-*/lib/libomp.so.5")
	if found == nil {
		t.Skip("no libomp.so.5: run advisor/emit/lab/setup")
	}
	return found[0]
}

// The environment of every plan is read by sh without a word.
func TestEnvIsRead(t *testing.T) {
	need(t, "dash", "bash")
	dir := t.TempDir()
	for _, f := range golden(t, "env") {
		file := write(t, dir, f.Name, string(f.Data))
		for _, sh := range [][]string{{"dash", "-eu"}, {"bash", "--posix", "-eu"}} {
			cmd := command(t, dir, append(sh, "-c", `. "$0"; eval "$(cat "$0")"`, file)...)
			cmd.Env = append(os.Environ(), "BERTH_WORKER=0")
			if err := quiet(t, cmd); err != nil {
				t.Errorf("%s: %v", f.Name, err)
			}
		}
	}
	if quiet(t, command(t, dir, "dash", "-c", `. "$0"`, write(t, dir, "bad", "export A-B=1\n"))) == nil {
		t.Error("sh takes anything")
	}
}

func TestEnvSeatsOpenMP(t *testing.T) {
	twoCPUs(t)
	dir := t.TempDir()
	text := emitted(t, "env", planFor(t, pair, "runtime: openmp\nwork: {kind: float}\n"))
	file := write(t, dir, "plan", text)
	swapped := write(t, dir, "swapped", replaced(t, text, `'\{0\},\{1\}'`, "'{1},{0}'"))
	old := write(t, dir, "old", replaced(t, replaced(t, text, `export OMP_P.*\n`, ""), "# .* instead: ", ""))
	for _, name := range []string{"GCC", "LLVM"} {
		t.Run(name, func(t *testing.T) {
			var program string
			if name == "GCC" {
				program = seats(t)
			} else {
				program = seats(t, llvm(t))
			}
			run := func(file string) string {
				out, err := command(t, dir, sourced(file, program)...).CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				return string(out) // with warnings, which are not wanted
			}
			same(t, "threads", run(file), "thread 0 of 2 place 0 cpus 0", "thread 1 of 2 place 1 cpus 1")
			same(t, "the other way round", run(swapped), "thread 0 of 2 place 0 cpus 1", "thread 1 of 2 place 1 cpus 0")
			if out := run(old); !strings.Contains(out, "thread 0 of 2 place 0 cpus 0\n") || !strings.Contains(out, "thread 1 of 2 place 1 cpus 1\n") {
				t.Errorf("by GOMP_CPU_AFFINITY alone:\n%s", out)
			}
			cmd := command(t, dir, sourced(file, program)...)
			cmd.Env = append(os.Environ(), "OMP_DISPLAY_ENV=true")
			shown, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(shown), "OMP_PLACES") || !strings.Contains(string(shown), "{0},{1}") || !strings.Contains(strings.ToUpper(string(shown)), "CLOSE") {
				t.Errorf("OMP_DISPLAY_ENV: %v\n%s", err, shown)
			}
		})
	}
}

// A worker takes the seat of its number, whichever launcher gives it.
func TestEnvSeatsWorkers(t *testing.T) {
	twoCPUs(t)
	program := seats(t)
	dir := t.TempDir()
	file := write(t, dir, "plan", emitted(t, "env", planFor(t, pair, "model: processes\nwork: {kind: float}\n")))
	for _, number := range []string{"BERTH_WORKER", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"} {
		for worker, want := range []string{"thread 0 of 1 place 0 cpus 0", "thread 0 of 1 place 0 cpus 1"} {
			cmd := command(t, dir, sourced(file, program)...)
			cmd.Env = append(os.Environ(), number+"="+string(rune('0'+worker)))
			same(t, number, output(t, cmd), want)
		}
	}
	for _, worker := range []string{"", "BERTH_WORKER=2", "BERTH_WORKER=x"} {
		cmd := command(t, dir, sourced(file, "true")...)
		cmd.Env = append(os.Environ(), worker)
		if err := quiet(t, cmd); err == nil || !strings.Contains(err.Error(), "BERTH_WORKER") {
			t.Errorf("a worker without a seat (%q): %v", worker, err)
		}
	}
	both := []string{"thread 0 of 1 place 0 cpus 0", "thread 0 of 1 place 0 cpus 1"}
	t.Run("Open MPI", func(t *testing.T) {
		need(t, "mpirun.openmpi")
		args := append([]string{"mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "2"}, sourced(file, program)...)
		same(t, "ranks", output(t, command(t, dir, args...)), both...)
	})
	t.Run("MPICH", func(t *testing.T) {
		need(t, "mpiexec.hydra")
		args := append([]string{"mpiexec.hydra", "-bind-to", "none", "-n", "2"}, sourced(file, program)...)
		same(t, "ranks", output(t, command(t, dir, args...)), both...)
	})
}

// Ranks of several threads each.
func TestEnvSeatsRanks(t *testing.T) {
	twoCPUs(t)
	program := seats(t)
	dir := t.TempDir()
	file := write(t, dir, "plan", emitted(t, "env", planFor(t, pair, "runtime: openmp\nload: {ranks_per: node}\n")))
	same(t, "a rank of two threads", output(t, command(t, dir, sourced(file, program)...)),
		"thread 0 of 2 place 0 cpus 0", "thread 1 of 2 place 1 cpus 1")
	crowd := write(t, dir, "crowd", emitted(t, "env", planFor(t, "package:1 l3:2 core:1 pu:1", "model: processes\nwork: {cpu_ms: 10, wait_ms: 10}\nload: {tasks: 4}\n")))
	for worker, want := range []string{"0", "1", "0", "1"} {
		cmd := command(t, dir, sourced(crowd, program)...)
		cmd.Env = append(os.Environ(), "BERTH_WORKER="+string(rune('0'+worker)))
		same(t, "four workers on two caches", output(t, cmd), "thread 0 of 1 place 0 cpus "+want)
	}
}

// What the runtimes themselves say.
func TestEnvCounts(t *testing.T) {
	dir := t.TempDir()
	one := "load: {tasks: 1}\n"
	quota := func(m *probe.Machine) { q := 1.0; m.Limits.QuotaCPUs = &q }
	t.Run("Go", func(t *testing.T) {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		file := write(t, dir, "go", emitted(t, "env", planFor(t, pair, "runtime: go\n", quota)))
		for want, args := range map[string][]string{"1": sourced(file, self), "3": {"env", "GOMAXPROCS=3", self}} {
			cmd := command(t, dir, args...)
			cmd.Env = append(os.Environ(), "BERTH_LAB_CHILD=1")
			same(t, "GOMAXPROCS", output(t, cmd), want)
		}
	})
	t.Run("Java", func(t *testing.T) {
		need(t, "java")
		file := write(t, dir, "java", emitted(t, "env", planFor(t, pair, "runtime: java\n"+one)))
		for _, own := range []string{"", "-Dlab=kept"} {
			cmd := command(t, dir, sourced(file, "java", "-Xlog:gc+init", "-XshowSettings:properties", "-version")...)
			cmd.Env = append(os.Environ(), "JAVA_TOOL_OPTIONS="+own)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), ", 1 available") || own != "" && !strings.Contains(string(out), "lab = kept") {
				t.Errorf("own options %q: %v\n%s", own, err, out)
			}
		}
	})
	t.Run("Python", func(t *testing.T) {
		file := write(t, dir, "python", emitted(t, "env", planFor(t, pair, "runtime: python\n")))
		same(t, "variables", output(t, command(t, dir, sourced(file, python, "-c", `import os; print(*(os.environ[n] for n in ("BERTH_PROCESSES", "OMP_NUM_THREADS", "PYTHON_CPU_COUNT")))`)...)), "2 1 2")
	})
	t.Run("Node", func(t *testing.T) {
		need(t, "node")
		file := write(t, dir, "node", emitted(t, "env", planFor(t, pair, "runtime: node\nwork: {cpu_ms: 1, wait_ms: 9, blocking: false}\n")))
		same(t, "processes", output(t, command(t, dir, sourced(file, "node", "-p", "process.env.BERTH_PROCESSES")...)), "2")
	})
}

// python is Debian's: another one that comes first in PATH may lack its packages.
const python = "/usr/bin/python3"
