//go:build lab

package lab

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/profiles"
)

// subject is a program of known class.
type subject struct {
	name     string
	class    profiles.Class
	about    string // what it does, and why that is its class
	needs    []string
	quick    bool
	children bool // watch its children, too
	start    func(b *bench) *target
}

// target is what to watch of a subject that runs.
type target struct {
	pid    int
	settle time.Duration // until it is steady; default a second
	parks  bool          // strace cannot tell its waits apart, as with Go, which parks
	// changes: its class changes, and only label can tell.
	changes bool
	label   func(e *evidence) error
}

func at(pid int) *target { return &target{pid: pid} }

// claims takes from what a program prints of itself which share of its time it
// waits: it must lie between the two.
func claims(p *process, low, high float64) *target {
	return &target{pid: p.cmd.Process.Pid, label: func(e *evidence) error {
		share, err := p.last("waited")
		if err != nil {
			return err
		}
		e.note("by its own clocks it waits %.0f %% of its time", 100*share)
		if share < low || share > high {
			return fmt.Errorf("by its own clocks it waits %.2f of its time, not %.2f to %.2f", share, low, high)
		}
		return nil
	}}
}

// answer is what this lab reads of a berth.observation/v1.
type answer struct {
	PID        int
	Class      profiles.Class
	Confidence float64
	Phases     []struct {
		FromS float64 `json:"from_s"`
		ToS   float64 `json:"to_s"`
		Class profiles.Class
	}
}

// same allows for the classes that only a PMU tells apart.
func same(right, got profiles.Class) bool {
	if right == profiles.CPUBound {
		return got == right || got == profiles.MemoryLatencyBound || got == profiles.MemoryBandwidthBound
	}
	return got == right
}

// row is what came of a subject; the answers lie beside the durations.
type row struct {
	subject
	evidence string
	answers  []answer
}

func TestClasses(t *testing.T) {
	var durations []time.Duration
	for _, text := range strings.Fields(cmp.Or(os.Getenv("DURATIONS"), "10s 3s")) {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			t.Fatalf("DURATIONS: %q is no duration", text)
		}
		durations = append(durations, d)
	}
	watchAll(t, subjects(), durations)
}

// TestQuick is for every day: programs that need Python and a C compiler.
func TestQuick(t *testing.T) {
	quick := slices.DeleteFunc(subjects(), func(s subject) bool { return !s.quick })
	watchAll(t, quick, []time.Duration{3 * time.Second})
}

// TestLabels checks the classes by their evidence, without berth.
func TestLabels(t *testing.T) { watchAll(t, subjects(), nil) }

// TestStarted has berth start what it observes, and end it.
func TestStarted(t *testing.T) {
	b := newBench(t)
	args := append([]string{"observe", "--for", "3s", "-o", "json", "--"}, b.python("pure.py", "2")...)
	text, got := ask(t, build(t), 3*time.Second, args...)
	if got.Class != profiles.GILBound {
		t.Errorf("%s, and %s is right:\n%s", got.Class, profiles.GILBound, text)
	}
	if !over(got.PID) {
		t.Errorf("process %d is left", got.PID)
	}
}

// subjects are all of them.
func subjects() []subject {
	return slices.Concat(computing(), contending(), blocking(), awaiting(), held())
}

// build returns the program to try: BERTH, or what the source makes now.
func build(t *testing.T) (berth string) {
	t.Helper()
	if berth = os.Getenv("BERTH"); berth != "" {
		return berth
	}
	berth = filepath.Join(t.TempDir(), "berth")
	if out, err := exec.Command("go", "build", "-o", berth, "../../../cmd/berth").CombinedOutput(); err != nil {
		t.Fatalf("build berth: %v\n%s", err, out)
	}
	return berth
}

// watchAll observes one subject after the other for each of some durations.
func watchAll(t *testing.T, all []subject, durations []time.Duration) {
	berth := ""
	if len(durations) > 0 {
		berth = build(t)
	}
	var rows []row
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			for _, program := range s.needs {
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("%v: run the setup of this folder", err)
				}
			}
			rows = append(rows, watch(t, berth, s, durations))
		})
	}
	tables := table(rows, durations) + confusion(rows, durations)
	t.Log("\n" + tables)
	if file := os.Getenv("REPORT"); file != "" {
		if err := os.WriteFile(file, []byte(tables), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// watch starts a subject, checks its label and observes it.
func watch(t *testing.T, berth string, s subject, durations []time.Duration) row {
	b := newBench(t)
	to := s.start(b)
	time.Sleep(max(to.settle, time.Second))
	e := b.collect(to.pid, &s)
	var err error
	if !to.changes {
		err = e.supports(s.class, to.parks)
	}
	if to.label != nil && err == nil {
		err = to.label(e)
	}
	if err != nil {
		t.Errorf("the label is in doubt: %v", err)
	}
	t.Logf("%s is %s: %s\nevidence: %s", s.name, s.class, s.about, e)
	r := row{subject: s, evidence: e.String()}
	for _, d := range durations {
		text, got := observe(t, berth, to.pid, s.children, d)
		r.answers = append(r.answers, got)
		switch wrong := !s.accepts(got); {
		case wrong && (d >= 10*time.Second || s.quick && len(durations) == 1):
			t.Errorf("at %s: %s (%.2f), and %s is right:\n%s", d, got.Class, got.Confidence, s.class, text)
		case wrong:
			t.Logf("at %s: %s (%.2f), and %s is right:\n%s", d, got.Class, got.Confidence, s.class, text)
		default:
			t.Logf("at %s: %s (%.2f)", d, got.Class, got.Confidence)
		}
	}
	return r
}

// inTurns is the subject whose class changes: any of those that its phases have
// is right, if the phases are there.
const inTurns = "python-phases"

func (s *subject) accepts(got answer) bool {
	if s.name != inTurns {
		return same(s.class, got.Class)
	}
	has := func(class profiles.Class) bool {
		for _, p := range got.Phases {
			if p.Class == class {
				return true
			}
		}
		return false
	}
	return has(profiles.CPUBound) && has(profiles.IOBoundBlocking)
}

func observe(t *testing.T, berth string, pid int, children bool, d time.Duration) (string, answer) {
	t.Helper()
	args := []string{"observe", "--pid", strconv.Itoa(pid), "--for", d.String(), "-o", "json"}
	if children {
		args = append(args, "--children")
	}
	return ask(t, berth, d, args...)
}

// ask runs berth and returns what it printed, as text and read.
func ask(t *testing.T, berth string, d time.Duration, args ...string) (string, answer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d+30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, berth, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var got answer
	if err != nil {
		t.Errorf("berth %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	} else if err := json.Unmarshal(out, &got); err != nil {
		t.Errorf("berth %s: %v", strings.Join(args, " "), err)
	}
	return string(out), got
}

// table has a line for every subject.
func table(rows []row, durations []time.Duration) string {
	var text strings.Builder
	text.WriteString("| program | class |")
	for _, d := range durations {
		fmt.Fprintf(&text, " at %s |", d)
	}
	text.WriteString(" what it does | evidence |\n|---|---|" + strings.Repeat("---|", len(durations)) + "---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&text, "| %s | %s |", r.name, r.class)
		for _, a := range r.answers {
			if r.accepts(a) {
				fmt.Fprintf(&text, " right (%.2f) |", a.Confidence)
			} else {
				fmt.Fprintf(&text, " %s (%.2f) |", a.Class, a.Confidence)
			}
		}
		fmt.Fprintf(&text, " %s | %s |\n", r.about, r.evidence)
	}
	return text.String()
}

// confusion counts, for each duration, the answers to each class.
func confusion(rows []row, durations []time.Duration) string {
	var text strings.Builder
	for i, d := range durations {
		var classes []profiles.Class
		counts := map[[2]profiles.Class]int{}
		right := 0
		for _, r := range rows {
			got := r.answers[i].Class
			if r.accepts(r.answers[i]) {
				got = r.class
				right++
			}
			counts[[2]profiles.Class{r.class, got}]++
			for _, c := range []profiles.Class{r.class, got} {
				if !slices.Contains(classes, c) {
					classes = append(classes, c)
				}
			}
		}
		fmt.Fprintf(&text, "\nAt %s %d of %d are right.\n\n| right, and below what came out |", d, right, len(rows))
		for _, c := range classes {
			fmt.Fprintf(&text, " %s |", cmp.Or(string(c), "failed"))
		}
		text.WriteString("\n|---|" + strings.Repeat("---:|", len(classes)) + "\n")
		for _, right := range classes {
			fmt.Fprintf(&text, "| %s |", right)
			for _, got := range classes {
				if n := counts[[2]profiles.Class{right, got}]; n > 0 {
					fmt.Fprintf(&text, " %d |", n)
				} else {
					text.WriteString(" |")
				}
			}
			text.WriteString("\n")
		}
	}
	return text.String()
}
