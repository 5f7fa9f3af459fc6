//go:build linux

package affinity

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"berth/probe/cgroup"
	"berth/probe/cpuset"
)

// limit writes the group's limits and reads them back.
func (g *Group) limit(cpus, mems cpuset.Set, q quota) error {
	for _, p := range g.parts {
		if slices.Contains(p.controllers, "cpuset") {
			if err := g.confine(p, cpus, mems); err != nil {
				return err
			}
		}
		if slices.Contains(p.controllers, "cpu") {
			if err := g.ration(p, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// confine writes the sets of a part.
func (g *Group) confine(p *part, cpus, mems cpuset.Set) error {
	above, _ := p.parent.Read(cgroup.CPUSet)
	if above.CPUSet == nil {
		return fmt.Errorf("control group %s: the CPUs of the group above are not known", p.Dir)
	}
	want := cpus
	if want.IsEmpty() && !p.V2 { // no thread can enter without
		want = *above.CPUSet
	}
	give := want.Intersect(*above.CPUSet)
	lacking := func(got cpuset.Set) *Trimmed {
		t := trimmed(0, cpus, got)
		t.Group = p.parent.Path
		return t
	}
	if !want.IsEmpty() {
		if give.IsEmpty() {
			return fmt.Errorf("control group %s: cpuset.cpus: %w", p.Dir, lacking(give))
		}
		if err := p.write("cpuset.cpus", give.String()); err != nil {
			return err
		}
	}
	if err := g.confineMemory(p, mems); err != nil {
		return err
	}
	if cpus.IsEmpty() {
		return nil
	}
	now, _ := p.Read(cgroup.CPUSet)
	if now.CPUSet == nil {
		return fmt.Errorf("control group %s: what became of cpuset.cpus %s cannot be read", p.Dir, give)
	}
	g.CPUs = *now.CPUSet
	switch {
	case !g.CPUs.SubsetOf(cpus): // version 2 gives all CPUs where it can give none of those wanted
		return fmt.Errorf("control group %s: the kernel made %s of cpuset.cpus %s: %w", p.Dir, g.CPUs, give, lacking(cpuset.Set{}))
	case !g.CPUs.Equal(cpus):
		g.Trim = lacking(g.CPUs)
	}
	return nil
}

// confineMemory writes the NUMA nodes of a part. In version 1 no thread can
// enter a group without.
func (g *Group) confineMemory(p *part, want cpuset.Set) error {
	above, source, err := nodes(p.parent)
	if err != nil {
		return fmt.Errorf("control group %s: the memory nodes of the group above are not known: %w", p.Dir, err)
	}
	if outside := want.Minus(above); !outside.IsEmpty() {
		are := "nodes " + outside.String() + " are"
		if outside.Len() == 1 {
			are = "node " + outside.String() + " is"
		}
		return fmt.Errorf("control group %s: cpuset.mems %s: %s not in %s, which has %s", p.Dir, want, are, source, above)
	}
	give := want
	if give.IsEmpty() {
		if p.V2 {
			return nil
		}
		give = above
	}
	if err := p.write("cpuset.mems", give.String()); err != nil {
		return err
	}
	got, source, err := nodes(p.Group)
	if err != nil {
		return err
	}
	if !got.Equal(give) {
		return fmt.Errorf("control group %s: cpuset.mems %s: %s has %s", p.Dir, give, source, got)
	}
	if !want.IsEmpty() {
		g.Mems = got
	}
	return nil
}

// nodes reads the NUMA nodes that a group really has, and tells in which file:
// kernels before 3.17 have but the one asked for.
func nodes(of cgroup.Group) (set cpuset.Set, file string, err error) {
	names := []string{"cpuset.effective_mems", "cpuset.mems"}
	if of.V2 {
		names = []string{"cpuset.mems.effective"}
	}
	for _, name := range names {
		file = filepath.Join(of.Dir, name)
		var text []byte
		if text, err = os.ReadFile(file); err == nil {
			set, err = cpuset.Parse(string(text))
			break
		}
	}
	return set, file, err
}

// ration writes the quota of a part.
func (g *Group) ration(p *part, q quota) error {
	above, _ := p.parent.Read(cgroup.CPU)
	for _, l := range above.Chain {
		if l.Binding && q.cpus() > l.Limit.(float64)*(1+1e-9) {
			return fmt.Errorf("control group %s: a quota of %g CPUs: %s of %s, above it, allows %g: ask for no more", p.Dir, q.cpus(), l.Source, l.Path, l.Limit)
		}
	}
	var err error
	if p.V2 {
		err = p.write("cpu.max", fmt.Sprint(q.us, " ", q.periodUS))
	} else if err = p.write("cpu.cfs_period_us", fmt.Sprint(q.periodUS)); err == nil {
		err = p.write("cpu.cfs_quota_us", fmt.Sprint(q.us))
	}
	if err != nil {
		return err
	}
	now, _ := p.Read(cgroup.CPU)
	if now.QuotaCPUs == nil || math.Abs(*now.QuotaCPUs-q.cpus()) > 1e-9 {
		got := "none"
		if now.QuotaCPUs != nil {
			got = fmt.Sprintf("%g CPUs", *now.QuotaCPUs)
		}
		return fmt.Errorf("control group %s: the kernel made a quota of %s of %g CPUs", p.Dir, got, q.cpus())
	}
	g.QuotaCPUs, g.PeriodMS = *now.QuotaCPUs, *now.QuotaPeriodMS
	return nil
}

// quota is CPU time per period, both in microseconds.
type quota struct{ us, periodUS int64 }

func (q quota) cpus() float64 { return float64(q.us) / float64(q.periodUS) }

// newQuota keeps to the kernel's bounds (Documentation/scheduler/sched-bwc.rst):
// a period of 1 ms to 1 s, and no less than 1 ms of time in it.
func newQuota(cpus, periodMS float64) (quota, error) {
	if periodMS == 0 {
		periodMS = 100
	}
	switch {
	case !(cpus > 0 && cpus <= cpuset.Limit):
		return quota{}, fmt.Errorf("a quota of %g CPUs: it is a number above 0 and up to %d", cpus, cpuset.Limit)
	case !(periodMS >= 1 && periodMS <= 1000):
		return quota{}, fmt.Errorf("a quota's period of %g ms: the kernel takes 1 to 1000", periodMS)
	}
	q := quota{periodUS: int64(math.Round(periodMS * 1000))}
	q.us = int64(cpus*float64(q.periodUS) + 1e-6) // rounded down: a group above may have the same quota
	if q.us < 1000 {
		if cpus < 0.001 {
			return quota{}, fmt.Errorf("a quota of %g CPUs: the kernel takes no less than 0.001", cpus)
		}
		return quota{}, fmt.Errorf("a quota of %g CPUs in %g ms: the kernel takes no less than 1 ms; make the period %g ms or more", cpus, periodMS, math.Ceil(1/cpus))
	}
	return q, nil
}

// write writes a file of the part, and says so on failure.
func (p *part) write(name, text string) error {
	err := put(p.Dir, name, text)
	if err == nil {
		return nil
	}
	why := ""
	switch {
	case name == "cpuset.cpus" && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBUSY)):
		why = ": another group beside it has one of them for itself alone"
	case name == "cpu.cfs_quota_us" && errors.Is(err, unix.EINVAL):
		why = ": more than a group above it has"
	}
	return fmt.Errorf("write %q to a control group: %w%s", text, err, why)
}
