//go:build lab

package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"berth/affinity/fleet"
)

const floatWork = "schema: berth.profile/v1\nname: work\nmodel: processes\nwork: {kind: float}\n"

func TestMPI(t *testing.T) {
	long(t)
	need(t, "mpirun")
	berth := built(t)
	l := startHosts(t, berth, "h1", "h2", "h3")
	f := looked(t, l.env, 1, berth, "fleet", "inspect", "--engine", "mpi", "--limit", "60s", "--nodes", "h[1-3],dead1")
	check(t, f, map[string]fleet.TroubleCode{"h1": "", "h2": "", "h3": "", "dead1": fleet.Unreachable})
	if lastCPU() > 0 && len(f.Shapes) != 2 {
		t.Errorf("%d shapes, and h3 may use one CPU alone", len(f.Shapes))
	}
	f = looked(t, l.env, 1, berth, "fleet", "inspect", "--engine", "mpi", "--limit", "60s", "--nodes", "h[1-3]", "--bring", "never")
	check(t, f, map[string]fleet.TroubleCode{"h1": "", "h2": fleet.NoBerth, "h3": fleet.NoBerth})
	// Where mpirun itself refuses, its words are told.
	env := slices.DeleteFunc(slices.Clone(l.env), func(v string) bool { return strings.HasPrefix(v, "OMPI_ALLOW") })
	if f = looked(t, env, 1, berth, "fleet", "inspect", "--engine", "mpi", "--nodes", "h1"); !strings.Contains(f.Nodes[0].Error, "attempt to run as root") {
		t.Errorf("%+v", f.Nodes)
	}
}

// A host that takes the connection and says nothing costs its time, and no more;
// so does a berth that hangs.
func TestMPIHangs(t *testing.T) {
	long(t)
	need(t, "mpirun")
	berth := built(t)
	l := startHosts(t, berth, "h1", "slow1")
	f := looked(t, l.env, 1, berth, "fleet", "inspect", "--engine", "mpi", "--limit", "24s", "--nodes", "h1,slow1")
	check(t, f, map[string]fleet.TroubleCode{"h1": "", "slow1": fleet.TimedOut})
	eventually(t, "nothing runs on", func() bool { return !running(slowBerth) })
	f = looked(t, l.env, 1, berth, "fleet", "inspect", "--engine", "mpi", "--limit", "24s", "--nodes", "h1,mute1")
	check(t, f, map[string]fleet.TroubleCode{"h1": "", "mute1": fleet.TimedOut})
}

// planned writes a plan for a fleet, and is its path.
func planned(t *testing.T, l *lan, berth string, engine ...string) string {
	t.Helper()
	f := looked(t, l.env, 0, append([]string{berth, "fleet", "inspect"}, engine...)...)
	found := seatable(t, f, l.dir)
	profile := write(t, l.dir, "work.yaml", floatWork, 0o644)
	plan, said, status := run(t, l.env, berth, "fleet", "advise", profile, "--fleet", found, "-o", "json")
	if status != 0 {
		t.Fatalf("status %d\n%s", status, said)
	}
	return write(t, l.dir, "plan.json", plan, 0o644)
}

// seats are those of a plan: NODE WORKER CPUS.
func seats(t *testing.T, plan string) []string {
	t.Helper()
	f, err := os.Open(plan)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := fleet.ReadPlan(f, plan)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, part := range p.Parts {
		for _, node := range part.Nodes {
			for _, s := range part.Plan.Placement.Seats {
				out = append(out, fmt.Sprintf("%s %d %s", node, s.Worker, s.CPUs))
			}
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		t.Fatal("the plan has no seats")
	}
	return out
}

const tellSeat = `echo "$(uname -n) $BERTH_WORKER $(sed -n "s/^Cpus_allowed_list:.//p" /proc/self/status)"`

var prefixOfLine = regexp.MustCompile(`^[^:]+: (\d+: )?`)

// told are the lines of output without the names before them, in order.
func told(out string) []string {
	var lines []string
	for s := bufio.NewScanner(strings.NewReader(out)); s.Scan(); {
		lines = append(lines, prefixOfLine.ReplaceAllString(s.Text(), ""))
	}
	slices.Sort(lines)
	return lines
}

// A plan's program, by the engine: each worker finds itself on its seat, and the
// receipts say the same.
func TestMPIRun(t *testing.T) {
	need(t, "mpirun")
	berth := built(t)
	l := startHosts(t, berth, "h1", "h2", "h3")
	plan := planned(t, l, berth, "--engine", "mpi", "--nodes", "h[1-3]")
	receipt := filepath.Join(l.dir, "receipt.json")
	out, said, status := run(t, l.env, berth, "fleet", "run", "--plan", plan, "--engine", "mpi", "--receipt", receipt, "--full", "--", "sh", "-c", tellSeat)
	t.Logf("%s%s", out, said)
	if want := seats(t, plan); status != 0 || !slices.Equal(told(out), want) {
		t.Errorf("status %d, %q, want %q", status, told(out), want)
	}
	sameSeats(t, receipt, plan)
	// One host lost while all run: mpirun ends the others, and it is known which was lost.
	c := exec.Command(berth, "fleet", "run", "--plan", plan, "--engine", "mpi", "--receipt", receipt, "--", "sleep", "3597.0119")
	var text strings.Builder
	c.Env, c.Stdout, c.Stderr = l.env, &text, &text
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it runs on h2 and h3", func() bool { return len(l.onHost("h2", "3597.0119")) > 0 && len(l.onHost("h3", "3597.0119")) > 0 })
	for _, pid := range l.onHost("h2", "orted") {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	c.Wait()
	t.Logf("$ kill -9 of h2's orted: status %d\n%s", c.ProcessState.ExitCode(), text.String())
	if c.ProcessState.ExitCode() == 0 {
		t.Error("status 0")
	}
	eventually(t, "nothing runs on", func() bool { return !running("3597.0119") })
	exec.Command("sh", "-c", "rm -rf "+l.dir+"/h2/tmp/ompi.*").Run() // a killed orted leaves its own
}

// sameSeats holds the receipts of a run against its plan.
func sameSeats(t *testing.T, receipt, plan string) {
	t.Helper()
	text, err := os.ReadFile(receipt)
	if err != nil {
		t.Fatal(err)
	}
	o := &fleet.Outcome{}
	if err := json.Unmarshal(text, o); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range o.Nodes {
		receipt := o.Receipt(n.Name)
		if receipt == nil {
			t.Errorf("%s has no receipt: %s", n.Name, n.Error)
			continue
		}
		for _, w := range receipt.Workers {
			got = append(got, fmt.Sprintf("%s %d %s", n.Name, w.Index, w.Asked))
			for _, th := range w.Threads {
				if th.Set.String() != w.Asked.String() {
					t.Errorf("%s: thread %d sits on %s", n.Name, th.TID, th.Set)
				}
			}
		}
	}
	slices.Sort(got)
	if want := seats(t, plan); !slices.Equal(got, want) {
		t.Errorf("the receipts have %q, the plan %q", got, want)
	}
}

// The script that a plan for the fleet becomes: each rank's CPUs in /proc, the
// report of mpirun's own and the plan say the same.
func TestEmittedMPIRun(t *testing.T) {
	need(t, "mpirun")
	berth := built(t)
	l := startHosts(t, berth, "h1", "h2", "h3")
	f := looked(t, l.env, 0, berth, "fleet", "inspect", "--engine", "mpi", "--nodes", "h[1-3]")
	found := seatable(t, f, l.dir)
	for name, profile := range map[string]string{
		"work":   floatWork,
		"hybrid": "schema: berth.profile/v1\nname: hybrid\nruntime: openmp\nwork: {kind: float}\nload: {ranks_per: node}\n",
	} {
		profile := write(t, l.dir, name+".yaml", profile, 0o644)
		text, said, status := run(t, l.env, berth, "fleet", "advise", profile, "--fleet", found, "--emit", "mpirun")
		if status != 0 {
			t.Fatalf("status %d\n%s", status, said)
		}
		want := map[string]string{} // by rank
		for _, m := range regexp.MustCompile(`(?m)^rank (\d+)=(\S+) slot=(\S+)$`).FindAllStringSubmatch(text, -1) {
			want[m[1]] = m[2] + " " + m[3]
		}
		out, said, status := run(t, l.env, "sh", write(t, l.dir, name+".sh", text, 0o644),
			"sh", "-c", `echo "$OMPI_COMM_WORLD_RANK $(uname -n) $(sed -n "s/^Cpus_allowed_list:.//p" /proc/self/status)"`)
		t.Logf("$ sh %s.sh\n%s%s", name, out, said)
		got := map[string]string{}
		for line := range strings.Lines(out) {
			rank, seat, _ := strings.Cut(strings.TrimSpace(line), " ")
			got[rank] = seat
		}
		if status != 0 || len(want) == 0 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: status %d, %v, want %v", name, status, got, want)
		}
		for rank, seat := range want {
			host, cpus, _ := strings.Cut(seat, " ")
			bound := regexp.MustCompile(`(?m)^\[` + host + `:\d+\] MCW rank ` + rank + ` (bound to .*|is not bound \(or bound to all available processors\))$`).FindStringSubmatch(said)
			if bound == nil {
				t.Errorf("%s: mpirun does not report rank %s on %s", name, rank, host)
				continue
			}
			if all := reported(bound[1]); all != "" && all != cpus {
				t.Errorf("%s: mpirun reports rank %s on cores %s, the plan has %s", name, rank, all, cpus)
			}
		}
	}
}

// reported are the cores of a report of bindings, which on a machine of one
// thread to a core are its CPUs; empty: all, or not to be said.
func reported(bound string) string {
	var cores []string
	for _, m := range regexp.MustCompile(`core (\d+)\[hwt 0\]`).FindAllStringSubmatch(bound, -1) {
		cores = append(cores, m[1])
	}
	if out, _ := os.ReadFile("/sys/devices/system/cpu/smt/active"); strings.TrimSpace(string(out)) == "1" || len(cores) != 1 {
		return ""
	}
	return cores[0]
}
