//go:build lab

package lab

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestMpirunSeats(t *testing.T) {
	twoCPUs(t)
	need(t, "mpirun.openmpi", "dash")
	program := seats(t)
	dir := t.TempDir()
	run := func(text string) (out, bindings string) {
		t.Helper()
		// Open MPI is not the only mpirun there is.
		cmd := command(t, dir, "dash", write(t, dir, "plan", replaced(t, text, "exec mpirun ", "exec mpirun.openmpi ")), "sh", "-c", `exec "$0" | sed "s/^/rank $OMPI_COMM_WORLD_RANK /"`, program)
		cmd.Env = append(os.Environ(), "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "TMPDIR="+dir)
		var said strings.Builder
		cmd.Stderr = &said
		printed, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s%s", err, printed, said.String())
		}
		return string(printed), said.String()
	}
	processes := emitted(t, "mpirun", planFor(t, pair, "model: processes\nwork: {kind: float}\n"))
	out, bindings := run(processes)
	same(t, "ranks", out, "rank 0 thread 0 of 1 place -1 cpus 0", "rank 1 thread 0 of 1 place -1 cpus 1")
	if strings.Count(bindings, " bound to ") != 2 {
		t.Errorf("--report-bindings says\n%s", bindings)
	}
	out, _ = run(replaced(t, replaced(t, replaced(t, processes, "slot=0", "slot=X"), "slot=1", "slot=0"), "slot=X", "slot=1"))
	same(t, "the other way round", out, "rank 0 thread 0 of 1 place -1 cpus 1", "rank 1 thread 0 of 1 place -1 cpus 0")
	out, _ = run(emitted(t, "mpirun", planFor(t, pair, "runtime: openmp\nload: {ranks_per: node}\n")))
	same(t, "a rank of two threads", out, "rank 0 thread 0 of 2 place 0 cpus 0", "rank 0 thread 1 of 2 place 1 cpus 1")
	for _, bad := range []string{"slot=4095", "solt=1"} {
		cmd := command(t, dir, "dash", write(t, dir, "bad", replaced(t, processes, "slot=1", bad)), "true")
		cmd.Env = append(os.Environ(), "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
		if exitCode(t, cmd) == 0 {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestDaskSeats(t *testing.T) {
	twoCPUs(t)
	need(t, "dask", "dash", python)
	dir := t.TempDir()
	scheduler := fmt.Sprintf("tcp://127.0.0.1:%d", ports(t, 1)[0])
	daemon := func(args ...string) func() {
		cmd := command(t, dir, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return func() {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		}
	}
	defer daemon("dask", "scheduler", "--host", scheduler, "--no-dashboard")()
	const ask = `
import os, sys
from distributed import Client
with Client(sys.argv[1], timeout=60) as client:
    client.wait_for_workers(int(sys.argv[2]), timeout=60)
    threads = {w["nthreads"] for w in client.scheduler_info()["workers"].values()}
    memory = {w["memory_limit"] >> 20 for w in client.scheduler_info()["workers"].values()}
    for cpus, below in client.run(lambda: (sorted(os.sched_getaffinity(0)), os.environ["OMP_NUM_THREADS"])).values():
        print("cpus", cpus, "threads", threads, "memory", memory, "below", below)
`
	program := write(t, dir, "ask.py", ask)
	for _, c := range []struct {
		profile string
		want    []string
	}{
		{"runtime: python\nlimits: {memory_per_worker_mib: 400}\n", []string{"cpus [0] threads {1} memory {400} below 1", "cpus [1] threads {1} memory {400} below 1"}},
		{"runtime: python\nload: {nested: true, tasks: 1}\nlimits: {memory_per_worker_mib: 300}\n", []string{"cpus [0, 1] threads {1} memory {300} below 2"}},
	} {
		stop := daemon("dash", write(t, dir, "plan", emitted(t, "dask", planFor(t, "numa:1(memory=4GiB) core:2 pu:1", c.profile))), scheduler, "--no-dashboard")
		same(t, c.profile, output(t, command(t, dir, python, program, scheduler, fmt.Sprint(len(c.want)))), c.want...)
		stop()
	}
}

// OpenBLAS's number of threads, and where LLVM's OpenMP puts them.
func TestBlas(t *testing.T) {
	need(t, "dash", python)
	dir := t.TempDir()
	t.Run("OpenBLAS", func(t *testing.T) {
		const ask = `import ctypes; print(ctypes.CDLL("libopenblas.so.0").openblas_get_num_threads())`
		for profile, want := range map[string]string{"runtime: python\n": "1", "runtime: python\nload: {nested: true, tasks: 1}\n": "2"} {
			file := write(t, dir, "plan", emitted(t, "blas", planFor(t, pair, profile)))
			same(t, profile, output(t, command(t, dir, sourced(file, python, "-c", ask)...)), want)
		}
	})
	t.Run("LLVM", func(t *testing.T) {
		twoCPUs(t)
		program := seats(t, llvm(t))
		text := emitted(t, "blas", planFor(t, pair, "runtime: openmp\nwork: {kind: float}\n"))
		run := func(text string) string {
			out, err := command(t, dir, sourced(write(t, dir, "plan", text), program)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return string(out)
		}
		same(t, "threads", run(text), "thread 0 of 2 place 0 cpus 0", "thread 1 of 2 place 1 cpus 1")
		same(t, "the other way round", run(replaced(t, text, `\[0,1\]`, "[1,0]")), "thread 0 of 2 place 0 cpus 1", "thread 1 of 2 place 1 cpus 0")
	})
}
