//go:build lab

package lab

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"berth/probe"
)

// seat is an sh program that says which worker it is, where it may run, and
// which policy its memory has.
const seat = `awk -v worker="$BERTH_WORKER" '
	/^Cpus_allowed_list/ {cpus = $2}
	FILENAME ~ /numa_maps/ && policy == "" {policy = $2}
	END {print "worker", worker, "cpus", cpus, "memory", policy}' /proc/self/status /proc/self/numa_maps`

func TestLaunchersAreRead(t *testing.T) {
	need(t, "dash", "bash")
	dir := t.TempDir()
	for _, target := range []string{"taskset", "numactl", "hwloc-bind", "likwid-pin", "docker", "podman", "srun", "mpirun", "dask", "make", "ninja", "parallel", "irq", "cpuset", "kernel", "blas"} {
		for _, f := range golden(t, target) {
			file := write(t, dir, f.Name, string(f.Data))
			for _, sh := range []string{"dash", "bash"} {
				if err := quiet(t, command(t, dir, sh, "-n", file)); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if quiet(t, command(t, dir, "dash", "-n", write(t, dir, "bad", "case x in\n"))) == nil {
		t.Error("sh takes anything")
	}
}

func TestLaunchersSeat(t *testing.T) {
	twoCPUs(t)
	need(t, "dash", "awk")
	dir := t.TempDir()
	processes := planFor(t, pair, "model: processes\nwork: {kind: float}\n")
	threads := planFor(t, pair, "runtime: go\n")
	free := planFor(t, pair, "model: processes\nwork: {kind: float}\n", func(m *probe.Machine) { m.Host.Hypervisor = "kvm" })
	for target, memory := range map[string]string{"taskset": "default", "numactl": "bind:0", "hwloc-bind": "bind:0"} {
		t.Run(target, func(t *testing.T) {
			need(t, target)
			run := func(file string) string { return output(t, command(t, dir, "dash", "-eu", file, "dash", "-c", seat)) }
			text := emitted(t, target, processes)
			same(t, "processes", run(write(t, dir, "processes", text)), "worker 0 cpus 0 memory "+memory, "worker 1 cpus 1 memory "+memory)
			same(t, "threads", run(write(t, dir, "threads", emitted(t, target, threads))), "worker 0 cpus 0-1 memory "+memory)
			may := statusOf(t, "self", "Cpus_allowed_list")
			same(t, "not pinned", run(write(t, dir, "free", emitted(t, target, free))), "worker 0 cpus "+may+" memory default", "worker 1 cpus "+may+" memory default")
			wrong := write(t, dir, "wrong", replaced(t, text, `(-c |bind=|pu:)1 `, "${1}4095 "))
			if exitCode(t, command(t, dir, "dash", wrong, "true")) == 0 {
				t.Error("a CPU that there is not is taken without a word")
			}
		})
	}
}

// OpenMP's threads sit within the mask, one on each CPU.
func TestLaunchersSeatOpenMP(t *testing.T) {
	twoCPUs(t)
	program := seats(t)
	dir := t.TempDir()
	for _, target := range []string{"taskset", "numactl", "hwloc-bind"} {
		need(t, target)
		// By cores, and by CPUs as if both were of one core.
		for name, plan := range map[string]string{"cores": "numa:1 core:2 pu:1", "threads": "core:1 pu:2"} {
			text := emitted(t, target, planFor(t, plan, "runtime: openmp\nwork: {kind: integer}\n"))
			if !strings.Contains(text, "OMP_PLACES="+name) {
				t.Errorf("%s: no places by %s", target, name)
			}
			same(t, target+" by "+name, output(t, command(t, dir, "dash", write(t, dir, target, text), program)),
				"thread 0 of 2 place 0 cpus 0", "thread 1 of 2 place 1 cpus 1")
		}
	}
}

// likwid-pin itself seats threads, in the order in which they are made.
func TestLikwidSeats(t *testing.T) {
	twoCPUs(t)
	program := seats(t)
	need(t, "likwid-pin")
	dir := t.TempDir()
	run := func(text string) string {
		return output(t, command(t, dir, "dash", write(t, dir, "plan", text), program))
	}
	threads := emitted(t, "likwid-pin", planFor(t, pair, "runtime: openmp\nwork: {kind: float}\n"))
	same(t, "threads", run(threads), "thread 0 of 2 place -1 cpus 0", "thread 1 of 2 place -1 cpus 1")
	same(t, "the other way round", run(replaced(t, threads, "-c 0,1", "-c 1,0")), "thread 0 of 2 place -1 cpus 1", "thread 1 of 2 place -1 cpus 0")
	processes := emitted(t, "likwid-pin", planFor(t, pair, "model: processes\nwork: {kind: float}\n"))
	same(t, "processes", run(processes), "thread 0 of 1 place -1 cpus 0", "thread 0 of 1 place -1 cpus 1")
	if exitCode(t, command(t, dir, "dash", write(t, dir, "wrong", replaced(t, threads, "-c 0,1", "-c 4095")), "true")) == 0 {
		t.Error("a CPU that there is not is taken")
	}
}

func TestLaunchersEnd(t *testing.T) {
	twoCPUs(t)
	need(t, "dash", "taskset")
	dir := t.TempDir()
	file := write(t, dir, "plan", emitted(t, "taskset", planFor(t, pair, "model: processes\nwork: {kind: float}\n")))
	one := write(t, dir, "one", emitted(t, "taskset", planFor(t, pair, "load: {tasks: 1}\n")))
	for program, want := range map[string]int{
		`exit 0`: 0, `[ $BERTH_WORKER = 0 ] || exit 3`: 3, `[ $BERTH_WORKER = 1 ] || exit 4`: 4, `exit $((5 + BERTH_WORKER))`: 6,
	} {
		if got := exitCode(t, command(t, dir, "dash", file, "sh", "-c", program)); got != want {
			t.Errorf("%s: status %d, want %d", program, got, want)
		}
	}
	if got := exitCode(t, command(t, dir, "dash", one, "sh", "-c", "exit 7")); got != 7 {
		t.Errorf("one worker: status %d", got)
	}
	for _, file := range []string{file, one} {
		if got := exitCode(t, command(t, dir, "dash", file)); got != 2 {
			t.Errorf("without a program: status %d", got)
		}
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		cmd := command(t, dir, "dash", file, "sh", "-c", `trap 'sleep 0.2; touch ended$BERTH_WORKER; exit 0' TERM; touch began$BERTH_WORKER; while :; do sleep 0.05; done`)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		files := func(pattern string) int {
			found, _ := filepath.Glob(filepath.Join(dir, pattern))
			return len(found)
		}
		eventually(t, "both begin", func() bool { return files("began*") == 2 })
		cmd.Process.Signal(signal) // the script alone
		err := cmd.Wait()
		if _, ok := err.(*exec.ExitError); !ok || files("ended*") != 2 {
			t.Errorf("after %s: %v, and %d workers had ended", signal, err, files("ended*"))
		}
		output(t, command(t, dir, "sh", "-c", "rm -f began* ended*"))
	}
}
