//go:build linux

package experiment

import (
	"context"
	"errors"
	"time"

	"berth/affinity"
	"berth/affinity/experiment/python"
	"berth/affinity/measured"
	"berth/probe/cpuset"
)

// StudyOptions say with which Python the claims about it are tested.
type StudyOptions struct {
	Python string // path or name; empty: the first that is found
}

// StudyReport is what a machine says of claims that are often taught.
type StudyReport struct {
	Report `yaml:",inline"`
	Claims []Claim `json:"claims" yaml:"claims"`
}

// Study tests each claim by the other experiments, made short, and by single
// looks at Python. Its verdict is inconclusive if that of any claim is.
func Study(ctx context.Context, s Settings, o StudyOptions) (*StudyReport, error) {
	cpus, err := s.cpus()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	rep := &StudyReport{Report: s.newReport("study", cpus)}
	cores, _ := s.cores(cpus)
	e := &evidence{machine: s.Machine, cores: len(cores), why: map[string]string{}}

	// Shares of the time, for the parts in their order.
	part := func(of, from float64) Settings {
		p := s
		p.Limit = time.Duration(of * float64(s.Limit))
		if s.Progress != nil {
			p.Progress = func(share float64, doing string) { s.Progress(from+of*share, doing) }
		}
		return p
	}
	if e.modes, e.mixed, err = part(0.35, 0).studyModes(ctx, cpus); err != nil {
		return nil, err
	}
	rep.take(&e.modes.Report)
	if ctx.Err() == nil {
		p := part(0.1, 0.35)
		if e.handed, err = Switch(ctx, p); err != nil {
			return nil, err
		}
		rep.take(&e.handed.Report)
	}
	interpreter, why := choosePython(ctx, o.Python)
	if o.Python != "" && why != nil {
		return nil, why
	}
	if why != nil {
		e.why["gil"] = why.Error()
	} else if ctx.Err() == nil {
		p := part(0.3, 0.45)
		if e.gil, err = p.gil(ctx, cpus, *interpreter, true); err != nil {
			return nil, err
		}
		rep.take(&e.gil.Report)
		if ctx.Err() == nil {
			p = part(0.25, 0.75)
			look := s.newReport("single looks at Python", cpus)
			if e.python, err = p.lookAtPython(ctx, &look, cpus, *interpreter); err != nil {
				return nil, err
			}
			rep.take(&look)
		}
	}
	rep.Claims = judge(e)
	rep.WallS = time.Since(began).Seconds()
	for _, c := range rep.Claims {
		if c.Verdict == Inconclusive {
			rep.Verdict = affinity.Inconclusive
		}
	}
	return rep, nil
}

// take adds what a part saw of noise; the claims have verdicts of their own.
func (rep *StudyReport) take(part *Report) {
	rep.Trials += part.Trials
	rep.Disturbed += part.Disturbed
	addNoise(&rep.Noise, part.Noise)
	for _, f := range part.Findings {
		if f.Code == FindWide {
			continue // the claims' intervals say it
		}
		if f.Code == FindNoisy {
			f.Message = part.Kind + ": " + f.Message
		}
		rep.add(f.Code, f.Severity, "%s", f.Message)
	}
}

// studyModes compares what the claims ask for, and where there are siblings a
// worker that computes beside one that mostly waits.
func (s Settings) studyModes(ctx context.Context, cpus cpuset.Set) (*ModesReport, *measured.Value, error) {
	rep := &ModesReport{Report: s.newReport("modes", cpus), Runs: []ModeRun{}, Skipped: []Skipped{}}
	kernels := DefaultKernels()
	arms := s.modeArms(rep, cpus, &ModesOptions{Kernels: kernels, Carriers: []Carrier{Processes}, Over: []int{4}})
	threads := &ModesReport{}
	arms = append(arms, s.modeArms(threads, cpus, &ModesOptions{Kernels: []string{"integer"}, Carriers: []Carrier{Threads}, Over: []int{4}})...)
	var mixed *modeArm
	for _, a := range arms {
		if a.run.Mode == SMT && a.run.Kernel == "integer" && a.run.Carrier == Processes && len(a.seats) == 2 {
			c := *a
			c.each, c.bound, c.name = []string{"integer", "service"}, false, "integer and service on siblings"
			mixed = &c
			mixed.run.Kernel = "integer beside service"
		}
	}
	if mixed != nil {
		alone := *mixed
		alone.run.Mode, alone.run.Workers, alone.seats, alone.run.CPUs = Alone, 1, mixed.seats[:1], cpuset.Of(mixed.seats[0])
		alone.each, alone.bound, alone.name = []string{"integer"}, true, "integer alone"
		arms = append(arms, &alone, mixed)
	}
	if err := s.runModes(ctx, rep, arms, kernels); err != nil {
		return nil, nil, err
	}
	if mixed == nil {
		return rep, nil, nil
	}
	var service *modeArm
	for _, a := range arms {
		if a.run.Mode == Alone && a.run.Kernel == "service" && a.run.Carrier == Processes {
			service = a
		}
	}
	integer := findArm(arms, mixed, Alone)
	var sums []float64
	for round, m := range mixed.round {
		i, ok := integer.round[round]
		w, also := service.round[round]
		if ok && also && i.value > 0 && w.value > 0 {
			sums = append(sums, m.more["worker 0"]/i.value+m.more["worker 1"]/w.value)
		}
	}
	if len(sums) < measured.Fewest {
		return rep, nil, nil
	}
	v := measured.Of(sums)
	return rep, &v, nil
}

func choosePython(ctx context.Context, path string) (*python.Interpreter, error) {
	if path != "" {
		p, err := python.Open(ctx, path)
		return &p, err
	}
	found := python.Find(ctx)
	if len(found) == 0 {
		return nil, errors.New(noPython)
	}
	return &found[0], nil
}
