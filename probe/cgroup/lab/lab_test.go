//go:build lab

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/finding"
)

// limits are what a chain's levels are given: quotas in CPUs (0: none), and of
// which of the first two CPUs a set consists ("": all).
type limits struct {
	name   string
	quotas [depth]float64
	sets   [depth]string
	budget float64 // 0: all CPUs that this test has
	binds  int     // the level whose quota binds; 0: none does
	// only2 says that version 1 refuses it: there a group may have no more than
	// the one above it.
	only2 bool
}

func chains() []limits {
	all := []limits{
		{name: "no limit at all"},
		{name: "falling", quotas: [depth]float64{1.9, 1.5, 1.2, 0, 0.9, 0.6}, budget: 0.6, binds: 6},
		{name: "equal ones", quotas: [depth]float64{0.8, 0.8, 0, 0.8}, budget: 0.8, binds: 4},
		{name: "more below than above", quotas: [depth]float64{1.5, 0.4, 1, 0, 1.9, 1.5}, budget: 0.4, binds: 2, only2: true},
		{name: "more than the machine", quotas: [depth]float64{0, 0, 1000}, binds: 3},
		{name: "a set above", sets: [depth]string{"", "a"}, budget: 1},
		{name: "a set below", sets: [depth]string{"", "", "", "", "", "b"}, budget: 1},
		{name: "narrower sets", sets: [depth]string{"ab", "", "ab", "", "b", ""}, budget: 1},
		{name: "sets apart", sets: [depth]string{"", "a", "", "", "b", ""}, budget: 1, only2: true},
		{name: "a set below a tighter quota", quotas: [depth]float64{0, 0.7}, sets: [depth]string{"", "", "", "", "", "a"}, budget: 0.7, binds: 2},
		{name: "a set tighter than the quota", quotas: [depth]float64{1.6}, sets: [depth]string{"", "", "", "b"}, budget: 1, binds: 1},
	}
	for level := 1; level <= depth; level++ {
		one := limits{name: fmt.Sprintf("half a CPU at level %d", level), budget: 0.5, binds: level}
		one.quotas[level-1] = 0.5
		all = append(all, one)
	}
	return all
}

// own is the CPUs that this test may use.
func own(t *testing.T) cpuset.Set {
	t.Helper()
	set, err := probe.Affinity(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if set.Len() < 2 {
		t.Skip("it needs two CPUs")
	}
	return set
}

// list turns a and b into the first two CPUs.
func list(own cpuset.Set, letters string) string {
	var names []string
	i := 0
	for c := range own.All() {
		if i < 2 && strings.Contains(letters, string(rune('a'+i))) {
			names = append(names, fmt.Sprint(c))
		}
		i++
	}
	return strings.Join(names, ",")
}

// TestBudget lets busy loops show, in chains of groups, that they get what berth
// says they may.
func TestBudget(t *testing.T) {
	if testing.Verbose() {
		fmt.Println("| limits from the top down | berth | measured | off |\n|---|---|---|---|")
	}
	for _, l := range chains() {
		t.Run(l.name, func(t *testing.T) {
			all := own(t)
			c := newChain(t)
			if refused := c.apply(l, all); refused != nil {
				if !l.only2 || c.cpu.v2 && c.set.v2 {
					t.Fatal(refused)
				}
				t.Skipf("as it should be in version 1: %v", refused)
			} else if l.only2 && !c.cpu.v2 {
				t.Fatal("version 1 takes limits that it should refuse")
			}
			want := l.budget
			if want == 0 {
				want = float64(all.Len())
			}
			if *above > 0 {
				want = min(want, *above)
			}
			m := c.inspect()
			if math.Abs(m.Limits.EffectiveCPUs-want) > 1e-9 {
				t.Fatalf("the limits leave %g CPUs, and berth says %g: %+v", want, m.Limits.EffectiveCPUs, m.Limits)
			}
			binds := l.binds
			if *above > 0 && binds > 0 && l.quotas[binds-1] > *above {
				binds = 0
			}
			if at := bindingLevel(c, m); at != binds {
				t.Errorf("the quota of level %d binds, and berth says that of %d: %+v", binds, at, m.Limits.Chain)
			}
			got, ok := c.got(want)
			if !ok {
				t.Skipf("not measured: something else kept the loops from a budget of %g CPUs", want)
			}
			off := 100 * (got/want - 1)
			if testing.Verbose() {
				fmt.Printf("| %s | %g | %.3f | %+.1f %% |\n", l, want, got, off)
			}
			if math.Abs(off) > *tolerance {
				t.Errorf("a budget of %g CPUs, and busy loops got %.3f: %+.1f %%", want, got, off)
			}
		})
	}
}

func (l limits) String() string {
	var parts []string
	for i := range depth {
		text := "–"
		if l.quotas[i] > 0 {
			text = fmt.Sprintf("%g", l.quotas[i])
		}
		if l.sets[i] != "" {
			text = strings.TrimPrefix(text, "–") + "{" + l.sets[i] + "}"
		}
		parts = append(parts, text)
	}
	return l.name + ": " + strings.Join(parts, " ")
}

// apply writes the limits, and returns the kernel's refusal: quotas from the top
// down, and sets from the bottom up, as version 1 lets no group have less than
// one below it.
func (c *chain) apply(l limits, all cpuset.Set) error {
	sets := l.sets
	for i := range depth {
		if l.quotas[i] > 0 {
			if err := c.quota(i+1, l.quotas[i]); err != nil {
				return err
			}
		}
		if !c.set.v2 && sets[i] == "" && i > 0 { // version 1 inherits nothing
			sets[i] = sets[i-1]
		}
	}
	for i := depth - 1; i >= 0; i-- {
		if sets[i] == "" {
			continue
		}
		if err := c.cpus(i+1, list(all, sets[i])); err != nil {
			return err
		}
	}
	return nil
}

// bindingLevel is the level whose quota binds, by what berth says.
func bindingLevel(c *chain, m *probe.Machine) int {
	for _, l := range m.Limits.Chain {
		for level := 1; l.Binding && l.Resource == "cpus" && level <= depth; level++ {
			if strings.HasSuffix(c.cpu.group(level), l.Path) {
				return level
			}
		}
	}
	return 0
}

// TestNoQuota reads files that tell of no quota: max, none at the root of
// version 2, and an empty one, as some sandboxes show it.
func TestNoQuota(t *testing.T) {
	c := newChain(t)
	if err := c.quota(depth, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.quota(2, 0.5); err != nil {
		t.Fatal(err)
	}
	if m := c.inspect(); m.Limits.EffectiveCPUs != 0.5 {
		t.Errorf("max below a quota of 0.5: %+v", m.Limits)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root lies a file over another")
	}
	name := "cpu.cfs_quota_us"
	if c.cpu.v2 {
		name = "cpu.max"
	}
	m := c.inspect("alone", "empty="+filepath.Join(c.cpu.group(2), name))
	if want := float64(own(t).Len()); m.Limits.EffectiveCPUs != want && (*above == 0 || m.Limits.EffectiveCPUs != *above) {
		t.Errorf("an empty file: %g CPUs, not %g: %+v", m.Limits.EffectiveCPUs, want, m.Limits)
	}
}

// TestNamespaces hides the limits above: the budget is then more than loops get,
// and berth says that it may be.
func TestNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it needs root, for namespaces")
	}
	c := newChain(t)
	kind, point := "cgroup,cpu", mountPoint(t, c.cpu.dir)
	if c.cpu.v2 {
		kind = "cgroup2"
	}
	for name, options := range map[string][]string{
		"a cgroup namespace":                        {"apart"},
		"and a mount of its own, as in a container": {"apart", "alone", "anew=" + kind + ":" + point},
	} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			if err := errors.Join(c.quota(2, 0), c.quota(depth, 0)); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.quota(2, 0.5), c.quota(depth, 0.4)); err != nil {
				t.Fatal(err)
			}
			mounted := len(options) > 1
			if m := c.inspect(options...); !hidden(m) || mounted && m.Limits.EffectiveCPUs != 0.4 {
				t.Errorf("the quota below the namespace's root: budget %g, findings %+v", m.Limits.EffectiveCPUs, m.Findings)
			}
			if err := c.quota(depth, 0); err != nil {
				t.Fatal(err)
			}
			if m := c.inspect(options...); !hidden(m) || m.Limits.EffectiveCPUs < 0.5 {
				t.Errorf("only a quota above the namespace's root: budget %g, findings %+v", m.Limits.EffectiveCPUs, m.Findings)
			}
			if m := c.inspect(); m.Limits.EffectiveCPUs != 0.5 {
				t.Errorf("seen from outside: %g", m.Limits.EffectiveCPUs)
			}
		})
	}
}

func hidden(m *probe.Machine) bool {
	return slices.ContainsFunc(m.Findings, func(f finding.Finding) bool { return f.Code == "limits-hidden-above" })
}

// TestLimitsThatChange reads groups while their limits change: every answer must
// be one of those that were true.
func TestLimitsThatChange(t *testing.T) {
	all := own(t)
	c := newChain(t)
	wide, narrow := list(all, "ab"), list(all, "a")
	if err := errors.Join(c.apply(limits{sets: [depth]string{"ab", "ab", "ab", "ab", "ab", "ab"}}, all), c.quota(3, 0.5)); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	changes := 0
	go func() {
		for {
			for i, quota := range []float64{1.5, 0.5} {
				if err := errors.Join(c.quota(3, quota), c.cpus(depth, []string{narrow, wide}[i])); err != nil {
					stopped <- err
					return
				}
				changes++
			}
			select {
			case <-stop:
				stopped <- nil
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	find := func(h home) cgroup.Group {
		groups, err := cgroup.Find(h.group(depth))
		if err != nil {
			t.Fatal(err)
		}
		return groups[0]
	}
	cpu, set := find(c.cpu), find(c.set)
	const reads = 2000
	for range reads {
		q, found := cpu.Read(cgroup.CPU)
		if q.QuotaCPUs == nil || *q.QuotaCPUs != 0.5 && *q.QuotaCPUs != 1.5 && *q.QuotaCPUs != *above || len(found) > 0 {
			t.Fatalf("quota %v, findings %+v", q.QuotaCPUs, found)
		}
		s, found := set.Read(cgroup.CPUSet)
		if s.CPUSet == nil || s.CPUSet.String() != mustParse(t, wide) && s.CPUSet.String() != narrow || len(found) > 0 {
			t.Fatalf("set %v, findings %+v", s.CPUSet, found)
		}
	}
	for range 20 {
		if b := c.inspect().Limits.EffectiveCPUs; b != 0.5 && b != 1 && b != 1.5 && b != *above {
			t.Fatalf("budget %g", b)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d reads and 20 inspects during %d changes", reads, changes)
}

// mustParse writes a list in its usual form.
func mustParse(t *testing.T, list string) string {
	t.Helper()
	set, err := cpuset.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return set.String()
}

// TestRunWhileLimitsChange throttles a running program further up, and takes its
// CPU away: the receipt tells of both.
func TestRunWhileLimitsChange(t *testing.T) {
	all := own(t)
	c := newChain(t)
	if err := c.apply(limits{sets: [depth]string{"ab", "ab", "ab", "ab", "ab", "ab"}}, all); err != nil {
		t.Fatal(err)
	}
	receipt := filepath.Join(t.TempDir(), "receipt.json")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := c.start(berth(t), "run", "-c", list(all, "a"), "--receipt="+receipt, "--", self, "busy", "1")
	time.Sleep(time.Second)
	if err := c.quota(3, 0.2); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	if err := errors.Join(c.quota(3, 0), c.cpus(depth, list(all, "b"))); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	p.end(t)
	var r affinity.Receipt
	readJSON(t, receipt, &r)
	if r.ThrottledMS == nil || *r.ThrottledMS < 100 {
		t.Errorf("throttled for two seconds, a fifth of a CPU left, and the receipt says %v ms", r.ThrottledMS)
	} else {
		t.Logf("throttled for %.0f ms by the receipt", *r.ThrottledMS)
	}
	if r.Kept || !slices.ContainsFunc(r.Broken, func(v affinity.Violation) bool { return v.Code == affinity.SeatMoved }) {
		t.Errorf("the cpuset took the seat away, and the receipt says %+v", r.Broken)
	}
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
}
