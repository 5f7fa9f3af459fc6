package emit

import (
	"encoding/json"
	"fmt"
	"go/format"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"berth/advisor"
	"berth/probe/cpuset"
)

// unseated are the targets that give no process its CPUs.
var unseated = []string{"kubernetes", "nomad", "spark", "java", "go", "postgresql", "pgbouncer"}

// composed is what these tests know of a Compose file.
type composed struct {
	Name     string
	Services map[string]struct {
		Image, Cpuset, Cpus string
		MemLimit            string `yaml:"mem_limit"`
		Environment         map[string]string
	}
}

func compositionOf(t *testing.T, text string) composed {
	t.Helper()
	var c composed
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// seatsOf are the seats that a target's text should have and has, where workers
// have want and mems, and event loops have loops.
func seatsOf(t *testing.T, target string, p *advisor.Plan, s Settings, want []cpuset.Set, mems []string, loops []cpuset.Set) (_, got []cpuset.Set) {
	t.Helper()
	pinned := p.Placement.Pin != advisor.NoPin
	all := []cpuset.Set{p.Placement.CPUs}
	if slices.Contains(unseated, target) {
		if named := slices.ContainsFunc(s.Lost, func(l string) bool { return strings.Contains(l, p.Placement.CPUs.String()) }); pinned && !named && !(target == "go" && p.Workers.Processes > 1) {
			t.Error("the seats are lost without a word")
		}
		return nil, nil
	}
	lost := func(what string) bool {
		return slices.ContainsFunc(s.Lost, func(l string) bool { return strings.HasPrefix(l, what) })
	}
	memory := func(pattern, prefix string) {
		t.Helper()
		nodes := func(lists []string) string {
			return strs(parseAll(t, []string{strings.Join(slices.DeleteFunc(cut(slices.Clone(lists), prefix), func(l string) bool { return l == "" }), ",")}))
		}
		if got := find(pattern, s.Text); nodes(got) != nodes(mems) {
			t.Errorf("memory on %s, planned %s", got, mems)
		}
	}
	switch target {
	case "blas":
		if lost("seats") {
			return nil, nil
		}
		for _, list := range find(`proclist=\[([{}0-9,]+)\]`, s.Text) {
			got = append(got, parseAll(t, []string{strings.NewReplacer("{", "", "}", "").Replace(list)})...)
		}
	case "hwloc-bind":
		got = parseAll(t, cut(find(`--cpubind ((?:pu:\S+ )+)`, s.Text), "pu:"))
		memory(`--membind ((?:node:\S+ )+)`, "node:")
	case "likwid-pin":
		if lost("seats") {
			return nil, nil
		}
		got = parseAll(t, find(`likwid-pin -q -c (\S+)`, s.Text))
		for i, list := range find(`likwid-pin -q -c (\S+)`, s.Text) {
			var named []string
			for _, seat := range p.Placement.Seats {
				if seat.Worker == i && seat.Thread != nil {
					named = append(named, seat.CPUs.String())
				}
			}
			if len(named) > 1 && list != strings.Join(named, ",") && want[i].Len() > 1 {
				t.Errorf("threads of worker %d on %s, planned %s", i, list, named)
			}
		}
	case "docker", "podman":
		got = parseAll(t, find(`--cpuset-cpus=(\S+)`, s.Text))
		memory(`--cpuset-mems=(\S+)`, "")
	case "compose":
		c := compositionOf(t, s.Text)
		for i := range len(c.Services) {
			if service, ok := c.Services[fmt.Sprintf("worker-%d", i)]; ok {
				got = append(got, parseAll(t, []string{service.Cpuset})...)
				if service.Environment["BERTH_WORKER"] != strconv.Itoa(i) || service.Environment["BERTH_PROCESSES"] == "" {
					t.Errorf("service %d has the environment %v", i, service.Environment)
				}
			}
		}
	case "mpirun":
		got = parseAll(t, find(`rank [0-9]+=localhost slot=(\S+)`, s.Text))
	case "dask":
		got = parseAll(t, find(`taskset -c (\S+) dask`, s.Text))
	case "uvicorn", "nginx", "haproxy":
		return servers(t, target, p, s, loops)
	case "node":
		if p.Workers.EventLoops > 0 || p.Workers.Threads == 1 {
			return servers(t, target, p, s, loops)
		}
		got = parseAll(t, javaScript(t, s.Text))
	case "make", "ninja":
		want, got = all, parseAll(t, find(`taskset -c (\S+)`, s.Text))
	case "parallel":
		for _, list := range find(`BERTH_SEATS='?([0-9, -]+)'?`, s.Text) {
			got = parseAll(t, strings.Fields(list))
		}
		if pinned && len(got) != p.Workers.Processes*p.Workers.Threads {
			t.Errorf("%d seats of jobs", len(got))
		}
		want, got = all, []cpuset.Set{cpuset.UnionAll(got...)}
	case "irqbalance":
		want, got = all, parseAll(t, find(`CPULIST=(\S+)`, s.Text))
	case "irq":
		want, got = all, parseAll(t, find(`plan=(\S+)`, s.Text))
	case "kernel":
		own := p.Placement.CPUs.Minus(cpuset.Range(0, 0))
		if want = nil; !own.IsEmpty() {
			want = []cpuset.Set{own, own, own}
		}
		got = parseAll(t, slices.Concat(find(`isolcpus=domain,managed_irq,(\S+)`, s.Text), find(`nohz_full=(\S+)`, s.Text), cut(find(`rcu_nocbs=(\S+)`, s.Text), `"`)))
	case "cpuset":
		got = parseAll(t, find(`echo (\S+) >"\$group/worker-[0-9]+/cpuset.cpus"`, s.Text))
		group := parseAll(t, find(`echo (\S+) >"\$group/cpuset.cpus"`, s.Text))
		if pinned && strs(group) != strs(all) {
			t.Errorf("the group has %s", group)
		}
		if len(want) == 1 {
			got = group
		}
	default:
		t.Fatal("a target that this test does not know")
	}
	return want, got
}

// cut takes a prefix or what else is in the way out of every text.
func cut(texts []string, what string) []string {
	for i, text := range texts {
		if what != "" {
			text = strings.ReplaceAll(text, what, "")
		}
		texts[i] = strings.Join(strings.Fields(text), ",")
	}
	return texts
}

// javaScript are the seats of the Node program.
func javaScript(t *testing.T, text string) []string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "const SEATS = ")
	list, _, _ := strings.Cut(rest, ";")
	var out []string
	if err := json.Unmarshal([]byte(list), &out); err != nil || !ok {
		t.Fatal(err)
	}
	return out
}

// servers checks the seats of processes or threads that have one loop each:
// those of the plan's loops, or within the plan's seats, and all of its CPUs.
func servers(t *testing.T, target string, p *advisor.Plan, s Settings, loops []cpuset.Set) (want, got []cpuset.Set) {
	t.Helper()
	number := ""
	switch target {
	case "uvicorn":
		_, seats, _ := strings.Cut(s.Text, "SEATS = [")
		seats, _, _ = strings.Cut(seats, "]")
		got = parseAll(t, find(`\{([0-9, ]+)\}`, seats))
		number = `PROCESSES = (\d+)`
	case "node":
		got = parseAll(t, javaScript(t, s.Text))
		number = `const PROCESSES = (\d+)`
	case "haproxy":
		for _, line := range find(`cpu-map (\S+ \S+)`, s.Text) {
			m := regexp.MustCompile(`^(auto:)?[0-9]+/([0-9]+)-([0-9]+) (\S+)$`).FindStringSubmatch(line)
			first, _ := strconv.Atoi(m[2])
			last, _ := strconv.Atoi(m[3])
			set := parseAll(t, m[4:])[0]
			for range last - first + 1 {
				if m[1] == "" {
					got = append(got, set)
				}
			}
			for c := range set.All() {
				if m[1] != "" {
					got = append(got, cpuset.Range(c, c))
				}
			}
		}
		slices.SortFunc(got, cpuset.Set.Compare)
		slices.SortFunc(loops, cpuset.Set.Compare)
		number = `nbthread (\d+)`
	case "nginx":
		number = `worker_processes (\d+);`
		_, list, _ := strings.Cut(strings.Join(code(s.Text), "\n"), "worker_cpu_affinity ")
		list, _, _ = strings.Cut(list, ";")
		mask, auto := strings.CutPrefix(list, "auto ")
		for _, digits := range strings.Fields(mask) {
			var set []cpuset.CPU
			for i := range len(digits) {
				if digits[len(digits)-1-i] == '1' {
					set = append(set, cpuset.CPU(i))
				}
			}
			got = append(got, cpuset.Of(set...))
		}
		if auto {
			whole := got[0]
			got = nil
			for c := range whole.All() {
				got = append(got, cpuset.Range(c, c))
			}
			slices.SortFunc(loops, cpuset.Set.Compare) // nobody tells its workers apart
		}
	}
	n, err := strconv.Atoi(strings.Join(find(number, s.Text), ""))
	if err != nil || n < 1 || n > p.Workers.Total() && p.Workers.EventLoops == 0 {
		t.Fatalf("%d workers, %v", n, err)
	}
	if p.Placement.Pin == advisor.NoPin {
		return nil, got
	}
	if len(got) != n {
		t.Errorf("%d seats of %d workers", len(got), n)
	}
	if p.Workers.EventLoops > 0 {
		if n > 1 && loops[0].Len() == n && loops[0].Equal(loops[n-1]) { // a CPU for each
			var spread []cpuset.Set
			for c := range loops[0].All() {
				spread = append(spread, cpuset.Range(c, c))
			}
			loops = spread
		}
		return loops, got
	}
	for _, set := range got {
		if !slices.ContainsFunc(p.Placement.Seats, func(s advisor.Seat) bool { return set.SubsetOf(s.CPUs) }) {
			t.Errorf("%s is no seat", set)
		}
	}
	if p.Quota() > 0 { // fewer workers than CPUs
		return got, got
	}
	return []cpuset.Set{p.Placement.CPUs}, []cpuset.Set{cpuset.UnionAll(got...)}
}

// Formats of which there is a parser at hand.
func TestFormats(t *testing.T) {
	forRandom(t, func(t *testing.T, target Target, p *advisor.Plan, s Settings) {
		switch target.Name() {
		case "go":
			text, err := format.Source([]byte(s.Text))
			if err != nil || string(text) != s.Text {
				t.Errorf("not as gofmt writes it: %v", err)
			}
		case "compose":
			c := compositionOf(t, s.Text)
			for _, service := range c.Services {
				cpus, err := strconv.ParseFloat(service.Cpus, 64)
				if service.Image != "IMAGE" || service.Cpus != "" && (err != nil || cpus < p.Quota() || cpus > p.Quota()+0.011) || (p.MemoryMiB == nil) != (service.MemLimit == "") {
					t.Errorf("a service %+v", service)
				}
			}
		case "java":
			for _, line := range code(s.Text) {
				if !regexp.MustCompile(`^(-(XX:|D)[A-Za-z.]+=[0-9]+)?$`).MatchString(line) {
					t.Errorf("an option %s", line)
				}
			}
		case "postgresql", "pgbouncer":
			for _, line := range code(s.Text) {
				if !regexp.MustCompile(`^([a-z_]+ = [a-z0-9]+)?$`).MatchString(line) {
					t.Errorf("a line %s", line)
				}
			}
		case "haproxy":
			for _, last := range find(`cpu-map \S+-([0-9]+) `, s.Text) {
				if n, err := strconv.Atoi(last); err != nil || n > haproxyGroup {
					t.Errorf("thread %s of a group", last)
				}
			}
		}
	})
}

// The numbers of the plan arrive.
func TestMoreCounts(t *testing.T) {
	forRandom(t, func(t *testing.T, target Target, p *advisor.Plan, s Settings) {
		w := p.Workers
		tasks := w.Processes * w.Threads
		if w.InFlight > 0 {
			tasks = w.InFlight
		}
		is := func(pattern string, want int) {
			t.Helper()
			if got := strings.Join(find(pattern, s.Text), " "); got != strconv.Itoa(want) {
				t.Errorf("%s: %s, planned %d", pattern, got, want)
			}
		}
		switch target.Name() {
		case "spark":
			is(`spark\.executor\.instances +(\d+)`, w.Processes)
			is(`spark\.cores\.max +(\d+)`, w.Total())
		case "dask":
			if p.Placement.Pin == advisor.NoPin {
				is(`--nworkers (\d+)`, w.Processes)
			} else if n := len(find(`(--nworkers 1) `, s.Text)); n != w.Processes {
				t.Errorf("%d workers of %d", n, w.Processes)
			}
		case "mpirun":
			is(` -n (\d+) `, w.Processes)
		case "make", "ninja":
			is(` -j (\d+) `, tasks)
		case "parallel":
			is(`--jobs (\d+) `, tasks)
		case "postgresql":
			is(`max_connections = (\d+)`, tasks+3)
			is(`max_parallel_workers = (\d+)`, w.Processes*w.Threads*max(0, w.Inner-1))
		case "pgbouncer":
			is(`default_pool_size = (\d+)`, tasks)
		case "java":
			is(`-Dberth\.threads=(\d+)`, p.Workers.Each())
			is(`ActiveProcessorCount=(\d+)`, p.Running())
		case "go":
			is(`maxProcs = (\d+)`, p.Running())
		}
	})
}

// No thread of HAProxy is left out or named twice where there are several groups.
func TestHAProxyGroups(t *testing.T) {
	for cores := 60; cores < 300; cores += 7 {
		p := testPlan{"large", fmt.Sprintf("package:1 core:%d pu:1", cores), "runtime: go\nwork: {cpu_ms: 1, wait_ms: 9, blocking: false}\n", nil}.advise(t)
		text := haproxy{}.Emit(p).Text
		var sizes []int
		total := 0
		for _, last := range find(`cpu-map auto:[0-9]+/1-([0-9]+) `, text) {
			n, err := strconv.Atoi(last)
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, n)
			total += n
		}
		slices.Sort(sizes)
		if len(sizes) != (total+haproxyGroup-1)/haproxyGroup || sizes[len(sizes)-1]-sizes[0] > 1 || sizes[len(sizes)-1] > haproxyGroup || !strings.Contains(text, fmt.Sprintf("nbthread %d\n", total)) {
			t.Errorf("%d cores: groups of %d", cores, sizes)
		}
	}
}

// FuzzQuotes holds every way to quote against a reader of that format.
func FuzzQuotes(f *testing.F) {
	for _, text := range []string{"", "a b", `"`, `\`, "'", "$(id)", "${x}", "%{if}", "a\nb", "\x00", "ü…", "\u2028", "\U0001f680", `\"`, "$$${", "$${{", "%%{", "\ufeff", "-x", "~", "null"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "")
		var read string
		if err := yaml.Unmarshal([]byte(yamlQuote(text)), &read); err != nil || read != text {
			t.Errorf("YAML: %q is read as %q, %v", text, read, err)
		}
		if quoted := hclQuote(text); unHCL(t, quoted) != text {
			t.Errorf("HCL: %q is %s, read as %q", text, quoted, unHCL(t, quoted))
		}
		if quoted := shellQuote(text); unShell(t, quoted) != text {
			t.Errorf("sh: %q is %s", text, quoted)
		}
	})
}

// unHCL reads a quoted template that has no parts to fill in.
func unHCL(t *testing.T, quoted string) string {
	t.Helper()
	body := quoted[1 : len(quoted)-1]
	if strings.Contains(strings.NewReplacer("$${", " ", "%%{", " ").Replace(body), "${") {
		t.Errorf("%s has a part to fill in", quoted)
	}
	plain, err := strconv.Unquote(`"` + strings.NewReplacer("$${", "${", "%%{", "%{").Replace(body) + `"`)
	if err != nil {
		t.Errorf("%s: %v", quoted, err)
	}
	return plain
}

// unShell reads a word of sh in which only single quotes and, between them,
// backslashes quote.
func unShell(t *testing.T, word string) string {
	t.Helper()
	var out strings.Builder
	within := false
	for i := 0; i < len(word); i++ {
		switch c := word[i]; {
		case c == '\'':
			within = !within
		case within:
			out.WriteByte(c)
		case c == '\\' && i+1 < len(word):
			i++
			out.WriteByte(word[i])
		case strings.IndexByte(" \t\n\"$`&|;<>()*?[]#~!{}", c) >= 0:
			t.Fatalf("%q stands open in %s", c, word)
		default:
			out.WriteByte(c)
		}
	}
	if within {
		t.Fatalf("%s does not end", word)
	}
	return out.String()
}
