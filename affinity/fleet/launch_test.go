//go:build linux

package fleet

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// launched runs a job through an engine and returns what its programs said.
func launched(t *testing.T, ctx context.Context, e Launcher, j *Job, nodes ...string) (o *Outcome, said []string) {
	t.Helper()
	j.Plan = seatedPlan(nodes...)
	j.Output = func(node string, stream int, line []byte) {
		said = append(said, node+" "+string("?12"[stream])+" "+string(line))
	}
	o, err := j.Do(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(said)
	return o, said
}

func holds(t *testing.T, o *Outcome, want map[string]TroubleCode) {
	t.Helper()
	if len(o.Nodes) != len(want) {
		t.Errorf("%d nodes, want %d", len(o.Nodes), len(want))
	}
	for name, code := range want {
		if n := outcomeOf(t, o, name); n.Trouble != code {
			t.Errorf("%s: %q %s, want %q", name, n.Trouble, n.Error, code)
		}
	}
}

func TestSSHLaunch(t *testing.T) {
	dir := sshNodes(t)
	o, said := launched(t, t.Context(), &SSH{FanOut: 2}, &Job{Program: []string{"say", "hello"}, Environment: []string{"SAID=x y"}, Ready: 20 * time.Second},
		"real-there1", "real-there2", "real-none1", "refused", "garbage", "other", "bsd", "dies", "aged")
	holds(t, o, map[string]TroubleCode{"real-there1": "", "real-there2": "", "real-none1": "", "refused": Unreachable,
		"garbage": Garbage, "other": Architecture, "bsd": Architecture, "dies": Unreachable, "aged": OtherSchema})
	if n := outcomeOf(t, o, "garbage"); !strings.Contains(n.Error, "Please log in") {
		t.Errorf("%+v", n)
	}
	want := []string{"real-none1 1 hello x y", "real-none1 2 to the other", "real-there1 1 hello x y", "real-there1 2 to the other", "real-there2 1 hello x y", "real-there2 2 to the other"}
	if !slices.Equal(said, want) {
		t.Errorf("they said %q", said)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(left) > 0 {
		t.Errorf("%v is left on the node", left)
	}
	for program, want := range map[string]struct {
		trouble TroubleCode
		status  int
		text    string
	}{
		"fail":  {"", 3, ""},
		"none":  {Failed, 127, "there is no program none"},
		"die":   {Failed, 137, "signal: killed"},
		"leave": {"", 0, "left 1 processes"},
	} {
		o, _ := launched(t, t.Context(), &SSH{}, &Job{Program: []string{program}}, "real-there1")
		if n := o.Nodes[0]; n.Trouble != want.trouble || *n.Status != want.status || !strings.Contains(n.Error+strings.Join(n.Notes, ""), want.text) {
			t.Errorf("%s: %+v", program, n)
		}
	}
}

// When the run is ended, so are the programs, which still report.
func TestSSHLaunchEnds(t *testing.T) {
	dir := sshNodes(t)
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	j := &Job{Program: []string{"wait"}, Progress: func(ready, _, of int) {
		if ready == of {
			once.Do(func() { time.AfterFunc(500*time.Millisecond, cancel) })
		}
	}}
	o, said := launched(t, ctx, &SSH{}, j, "real-there1", "real-none1")
	holds(t, o, map[string]TroubleCode{"real-there1": "", "real-none1": ""})
	if o.Early == "" || *o.Nodes[0].Status != 143 || !slices.Equal(said, []string{"real-none1 1 ends", "real-none1 1 waits", "real-there1 1 ends", "real-there1 1 waits"}) {
		t.Errorf("%+v, %q", o, said)
	}
	eventually(t, "the folder is removed", func() bool {
		left, err := os.ReadDir(filepath.Join(dir, "tmp"))
		return err == nil && len(left) == 0
	})
}

func TestSlurmLaunch(t *testing.T) {
	dir := slurmNodes(t, "n1|idle|all*\nn2|idle|all*\nn3|down|all*\nbare1|idle|all*\nother1|idle|all*\nsilent1|idle|all*\n", "")
	all := map[string]TroubleCode{"n1": "", "n2": "", "bare1": "", "n3": Down, "n9": Unreachable, "other1": Architecture, "silent1": Unreachable}
	names := []string{"n1", "n2", "n3", "n9", "bare1", "other1", "silent1"}
	o, said := launched(t, t.Context(), &Slurm{}, &Job{Program: []string{"say", "hello"}, Limit: time.Minute, Ready: 30 * time.Second}, names...)
	holds(t, o, all)
	if len(said) != 6 {
		t.Errorf("they said %q", said)
	}
	record, _ := os.ReadFile(filepath.Join(dir, "srun"))
	if s := string(record); !strings.HasPrefix(s, "--exclusive") || strings.Contains(s, "--input") || !strings.Contains(s, "--bcast=") || !strings.HasSuffix(s, " fleet node --serve --brought\n") {
		t.Errorf("the step was %s", s)
	}
	all["bare1"] = NoBerth
	o, _ = launched(t, t.Context(), &Slurm{Bring: BringNever}, &Job{Program: []string{"say"}}, names...)
	holds(t, o, all)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(2*time.Second, cancel)
	o, _ = launched(t, ctx, &Slurm{}, &Job{Program: []string{"wait"}}, "n1", "n2")
	holds(t, o, map[string]TroubleCode{"n1": "", "n2": ""})
	if o.Early == "" || *o.Nodes[0].Status != 143 {
		t.Errorf("%+v", o)
	}
}
