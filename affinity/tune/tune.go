//go:build linux

package tune

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"berth/affinity"
	"berth/affinity/measured"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/finding"
)

// Schema names the JSON document that a [Report] marshals to.
const Schema = "berth.tune/v1"

// Settings say what to run and how long.
type Settings struct {
	// Machine, if known, is as [probe.Probe] gives it for the live system.
	Machine *probe.Machine
	// Command is run with {n} and {cpus} replaced in its arguments, and BERTH_N
	// and BERTH_CPUS in its environment; Path is its file, by default the one
	// that PATH finds. Env are further variables that hold the count.
	Command []string
	Path    string
	Env     []string
	// Counts to choose from, and Placements; without the latter, unpinned.
	Counts     Counts
	Placements []Placement
	Metric     Metric
	// For is when a command that runs until it is stopped gets SIGTERM; 0: it
	// ends by itself.
	For time.Duration
	// Limit is the time after which nothing goes on; 0: five minutes.
	Limit time.Duration
	// Width is how far the ends of the 95 % interval may be from the median, as
	// a share of it, for an arm to be known; 0: 0.03.
	Width float64
	// Seed decides the order of the runs; 0: another each time.
	Seed uint64
	// Advised is a choice to compare with the best.
	Advised *Choice
	// Observe, if any, is called for the first run, which has one worker, to say
	// what is to be compared; ctx is done when the run has ended. Nil is nothing.
	Observe func(ctx context.Context, pid int) (*Choice, error)
	// State is a file to which every run is appended, and from which an earlier
	// search of the same command is taken up; empty: none.
	State string
	// Progress, if any, is told now and then how much of the limit is gone, and
	// what is being done.
	Progress func(share float64, doing string)
}

func (s *Settings) limit() time.Duration { return cmp.Or(s.Limit, 5*time.Minute) }
func (s *Settings) width() float64       { return cmp.Or(s.Width, 0.03) }

// Choice is a number of workers and where they are.
type Choice struct {
	N         int    `json:"n" yaml:"n"`
	Placement string `json:"placement" yaml:"placement"`
	// CPUs of an advised placement that is none of those compared; empty: any.
	CPUs cpuset.Set `json:"-" yaml:"-"`
}

// Advice is what was advised, and what it loses against the best.
type Advice struct {
	N         int    `json:"n" yaml:"n"`
	Placement string `json:"placement" yaml:"placement"`
	// RegretPct is 1 - X(advised)/X(best), in per cent; nil: not known.
	RegretPct *float64 `json:"regret_pct,omitempty" yaml:"regret_pct,omitempty"`
	// Interpolated: there was no time to measure it, and the fitted law says so.
	Interpolated bool `json:"interpolated,omitempty" yaml:"interpolated,omitempty"`
	// Outside: it is less or more than any count to choose from, and was not tried.
	Outside bool `json:"outside,omitempty" yaml:"outside,omitempty"`
}

// Point is one count on one placement.
type Point struct {
	N         int    `json:"n" yaml:"n"`
	Placement string `json:"placement" yaml:"placement"`
	// Also are placements that are the same CPUs for this count.
	Also  []string        `json:"also,omitempty" yaml:"also,omitempty"`
	CPUs  cpuset.Set      `json:"cpus" yaml:"cpus"` // that it could use
	Value *measured.Value `json:"value,omitempty" yaml:"value,omitempty"`
	WallS *float64        `json:"wall_s,omitempty" yaml:"wall_s,omitempty"` // median of one run
	// Dropped: it was seen to be worse than the best, and not measured further.
	Dropped bool `json:"dropped,omitempty" yaml:"dropped,omitempty"`
	// CutS is after how many seconds a run was stopped, since it could no longer
	// reach a quarter of the best; nil: none was.
	CutS   *float64 `json:"cut_s,omitempty" yaml:"cut_s,omitempty"`
	Failed *Failure `json:"failed,omitempty" yaml:"failed,omitempty"`
}

// Failure is a run that gave no value.
type Failure struct {
	Status int      `json:"status" yaml:"status"` // by a shell's rule
	Why    string   `json:"why" yaml:"why"`
	Output []string `json:"output" yaml:"output"` // its last lines
}

// Report is the answer.
type Report struct {
	Schema      string           `json:"schema" yaml:"schema"`
	Command     []string         `json:"command" yaml:"command"`
	Metric      string           `json:"metric" yaml:"metric"`
	Unit        string           `json:"unit,omitempty" yaml:"unit,omitempty"`
	Better      string           `json:"better" yaml:"better"` // higher or lower
	Fingerprint string           `json:"machine_fingerprint,omitempty" yaml:"machine_fingerprint,omitempty"`
	MeasuredAt  time.Time        `json:"measured_at" yaml:"measured_at"`
	Verdict     affinity.Verdict `json:"verdict" yaml:"verdict"`
	Stopped     Stop             `json:"stopped" yaml:"stopped"`
	BudgetCPUs  *float64         `json:"budget_cpus,omitempty" yaml:"budget_cpus,omitempty"`
	WallS       float64          `json:"wall_s" yaml:"wall_s"` // seconds
	Runs        int              `json:"runs" yaml:"runs"`     // of all points, those taken up from a state included
	Points      []Point          `json:"points" yaml:"points"` // in the order of counts
	Best        *Choice          `json:"best,omitempty" yaml:"best,omitempty"`
	// Tied are those whose intervals overlap that of the best, and Fewest the
	// one of them, or the best, with the fewest workers.
	Tied   []Choice `json:"tied,omitempty" yaml:"tied,omitempty"`
	Fewest *Choice  `json:"fewest,omitempty" yaml:"fewest,omitempty"`
	// Knee is the least count with 95 % of the best.
	Knee     *Choice           `json:"knee,omitempty" yaml:"knee,omitempty"`
	USL      *Law              `json:"usl,omitempty" yaml:"usl,omitempty"`
	Advised  *Advice           `json:"advised,omitempty" yaml:"advised,omitempty"`
	Noise    affinity.Noise    `json:"noise" yaml:"noise"`
	Findings []finding.Finding `json:"findings" yaml:"findings"`
}

// Stop says why a search ended.
type Stop string

const (
	Settled     Stop = "settled"     // the best is known
	OutOfTime   Stop = "time"        // the limit was reached
	OutOfRuns   Stop = "runs"        // many runs did not tell the best ones apart
	Interrupted Stop = "interrupted" // its context ended
)

// Finding codes.
const (
	FindSame   = "same-cpus"        // placements that are the same CPUs here
	FindFew    = "few-runs"         // too few for an interval of the best
	FindNoisy  = "noisy"            // others used the CPUs
	FindQuota  = "quota-bound"      // a CPU quota stopped the command
	FindShort  = "short-runs"       // mostly start-up
	FindFailed = "failed"           // some counts failed
	FindFlaky  = "failed-sometimes" // a count failed after it had worked
	FindLaw    = "no-law"           // no law was fitted
	FindBreak  = "law-breaks"       // the law does not hold on both sides of the budget
	FindEdge   = "best-at-edge"     // more workers may be better still
	FindFloat  = "vcpus-float"      // pinning promises nothing physical here
	FindAdvice = "advice-unknown"   // observing the first run gave none
	FindUnused = "count-not-used"   // the command never hears of the count
	FindState  = "state-lost"       // the state file could not be written to its end
	FindTaken  = "taken-up"         // runs of a state file count
	FindTrim   = "seat-trimmed"     // the kernel gave fewer CPUs
	FindEarly  = "ended-by-itself"  // before --for was over
)

// Failed is the error of a search in which no run gave a value.
type Failed struct {
	Points int // that were tried
	Last   Failure
}

func (e *Failed) Error() string {
	of := "the run"
	if e.Points > 1 {
		of = fmt.Sprintf("the runs at all of %d counts", e.Points)
	}
	return fmt.Sprintf("%s failed: %s%s", of, e.Last.Why, e.Last.said())
}

func (f *Failure) said() string {
	if len(f.Output) == 0 {
		return "; it printed nothing"
	}
	text := "; its last output:"
	for _, line := range f.Output {
		text += "\n  " + line
	}
	return text
}

// Run searches. Its error leaves nothing to report; that the time is up, or that
// ctx ends, is none as soon as something was measured.
func Run(ctx context.Context, s Settings) (*Report, error) {
	r, err := newCommand(&s)
	if err != nil {
		return nil, err
	}
	defer r.close()
	return newSearch(&s, r, r.allowed, time.Now).run(ctx)
}
