package advisor

import (
	"slices"

	"berth/probe"
	"berth/profiles"
)

// Step is a count near a plan's, and what it would yield.
type Step struct {
	Workers   Workers    `json:"workers" yaml:"workers"`
	Predicted Prediction `json:"predicted" yaml:"predicted"`
}

// Around shows how the yield grows with the count: from one worker over the
// plan's to four times as many. It takes what made the plan.
func Around(m *probe.Machine, p *profiles.Profile, c *probe.Calibration, plan *Plan) ([]Step, error) {
	room, err := newRoom(m, p)
	if err != nil {
		return nil, err
	}
	t := newTask(room, p, c)
	r := t.chooseRule()
	w := plan.Workers
	n := w.Processes
	if w.Threads > 1 {
		n = w.Threads
	}
	if w.EventLoops > 0 {
		n = w.EventLoops
	}
	var counts []int
	for _, k := range [...]int{1, n / 4, n / 2, n * 3 / 4, n - 1, n, n + 1, n * 3 / 2, n * 2, n * 4} {
		if k > 0 {
			counts = append(counts, k)
		}
	}
	slices.Sort(counts)
	var out []Step
	for _, k := range slices.Compact(counts) {
		now := w
		switch a, async := r.(*asyncRule); {
		case async:
			now = a.loops(k, max(1, w.InFlight/w.EventLoops*k))
		case w.Threads > 1:
			now.Threads = k
		default:
			now.Processes = k
		}
		out = append(out, Step{now, t.predict(r, now)})
	}
	return out, nil
}
