//go:build linux

package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"berth/advisor"
	"berth/affinity"
	"berth/affinity/tune"
	"berth/probe"
	"berth/probe/place"
	"berth/probe/tasks"
	"berth/profiles"
	"berth/profiles/observe"
)

type tuneOptions struct {
	counts        string
	places        []string
	metric, units string
	lower         bool
	length        time.Duration
	limit         time.Duration
	width         float64
	seed          uint64
	env           []string
	profile       string
	state, save   string
	format        choice
	command       []string
	known         *profiles.Profile // of --profile
}

const usualTuning = 5 * time.Minute

func newTuneCmd() *cobra.Command {
	o := &tuneOptions{format: choice{"text", []string{"text", "json", "yaml", "csv"}}}
	cmd := &cobra.Command{
		Use:   "tune [flags] [--] COMMAND [ARG...]",
		Short: "Find the best number of workers for a command, and their CPUs, by running it",
		Long: `Run a command with different numbers of workers and placements, and find out
which does best. In its arguments {n} becomes the number and {cpus} the CPUs; in
its environment BERTH_N and BERTH_CPUS say the same.

Runs of all that is compared take turns in an order drawn anew each round. What
is clearly worse than the best is dropped, counts near the best are added, and it
ends when the best is known. The first run does not count. Output of the command
is kept from the terminal, its input is empty, and each run is pinned as a whole:
the command shares the CPUs out.

What is measured, --metric:

  wall        runs per second: each run does the same work, however many workers
  throughput  with --units the units of work in a run (100n: 100 by each worker),
              else the lines on standard output, per second
  REGEXP      a number that the command prints: the last match, in which one
              group may hold it, of the last 1 MiB of standard output, or else of
              standard error; ^ and $ are those of a line. --lower: less is better

A server or load generator that does not end gets SIGTERM --for so long after its
start. A count at which the command fails is marked, and the others go on.

Placements, --place:

  none        not pinned (default)
  spread      a core each, over all last-level caches and nodes, siblings last
  compact     one last-level cache filled, siblings too, before the next
  EXPRESSION  the first n places of an expression (berth place explains it)

Where cores are behind several last-level caches, the first three are compared by
default. Ctrl-C ends it early, with what is known.`,
		Example: `  berth tune -- xz -T{n} -k -c -6 data
  berth tune -n 1..64 --place none,spread -- ./build -j{n}
  berth tune --metric 'Requests/sec: +([\d.]+)' -- wrk -t{n} -c64 http://localhost:8080
  berth tune --metric throughput --units 100n -- python3 pool.py --workers {n}
  berth tune --env OMP_NUM_THREADS -- ./solver
  berth tune --profile service.yaml --save tuned.yaml -- ./bench {n}
  berth tune --state tune.state -o json -- ./bench {n}    goes on where it was`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.command = args
			return o.run(cmd)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the command is the command's
	flags.VarP(&o.format, "output", "o", "how to print")
	flags.StringVarP(&o.counts, "workers", "n", "", "the numbers to choose from, a `LIST` as 1,2,4 or 1..64, 2..16:2, 1..64:x2 (default: up to 8 for each CPU, and more if that is best)")
	flags.StringArrayVar(&o.places, "place", nil, "placements to compare, a `LIST` of none, spread, compact and expressions; repeatable")
	flags.StringVar(&o.metric, "metric", "wall", "what is measured: wall, throughput or a `REGEXP`")
	flags.BoolVar(&o.lower, "lower", false, "of the number that the command prints, less is better")
	flags.StringVar(&o.units, "units", "", "units of work in a run, `N` or, for each worker, Nn; the metric is throughput")
	flags.DurationVar(&o.length, "for", 0, "stop the command by SIGTERM after that `TIME`")
	flags.DurationVar(&o.limit, "time", usualTuning, "end after that `TIME` at the latest")
	flags.Float64Var(&o.width, "width", 3, "end once those in question are known to so many `PERCENT`")
	flags.StringArrayVar(&o.env, "env", nil, "set the variable `NAME` to the number of workers, as OMP_NUM_THREADS or GOMAXPROCS; repeatable")
	flags.StringVar(&o.profile, "profile", "", "compare with what berth advise says for a `PROFILE`")
	flags.StringVar(&o.state, "state", "", "keep every run in a `FILE`, and go on from what it holds")
	flags.StringVar(&o.save, "save", "", "write a profile with the fitted scaling to a `FILE`: that of --profile, or a new one")
	flags.Uint64Var(&o.seed, "seed", 0, "the `NUMBER` that decides the order of runs (default: another each time)")
	must(cmd.RegisterFlagCompletionFunc("output", o.format.complete))
	must(cmd.RegisterFlagCompletionFunc("place", completeOneOf(placementNames)))
	must(cmd.RegisterFlagCompletionFunc("metric", completeOneOf(func() []string { return []string{"wall", "throughput"} })))
	return cmd
}

func placementNames() []string {
	return []string{tune.NameNone, tune.NameSpread, tune.NameCompact}
}

func (o *tuneOptions) run(cmd *cobra.Command) error {
	s, err := o.settings(cmd)
	if err != nil {
		return err
	}
	if o.save != "" { // no measurement is to be lost for want of a place
		f, err := createAtomic(o.save)
		if err != nil {
			return fmt.Errorf("write profile %s: %w", o.save, err)
		}
		f.discard()
	}
	ctx, caught, stop := untilSignal(cmd.Context())
	defer stop()
	line := newStatusLine(cmd.ErrOrStderr())
	s.Progress = func(share float64, doing string) { line.say(fmt.Sprintf("%3.0f %%  %s", 100*share, doing)) }
	rep, err := tune.Run(ctx, *s)
	line.end()
	var early error
	if by := caught(); by != 0 {
		early = &statusError{128 + int(by), fmt.Errorf("ended by %s", unix.SignalName(by))}
	}
	var state *tune.StateError
	switch {
	case errors.As(err, &state):
		return usage("name another file, or remove this one", "--state: %w", err)
	case err != nil:
		return cmp.Or(early, err)
	}
	// What was measured is lost in neither place for want of the other.
	if err := errors.Join(o.print(cmd.OutOrStdout(), rep), o.saveLaw(cmd, rep)); err != nil {
		return err
	}
	return early
}

// settings are what the flags say.
func (o *tuneOptions) settings(cmd *cobra.Command) (*tune.Settings, error) {
	if len(o.command) == 0 {
		return nil, usage("for example: berth tune -- xz -T{n} -k -c data", "tune needs a command to run")
	}
	path, err := exec.LookPath(o.command[0])
	if err != nil {
		return nil, usage("give the path of a program, or a name that is on PATH", "there is no program to run: %w", err)
	}
	s := &tune.Settings{Command: o.command, Path: path, Env: o.env, For: o.length, Limit: o.limit, Width: o.width / 100, Seed: o.seed, State: o.state}
	if cmd.Flags().Changed("workers") {
		if s.Counts, err = tune.ParseCounts(o.counts); err != nil {
			return nil, usage("for example -n 1..64, -n 1,2,4,8 or -n 1..64:x2", "-n %w", err)
		}
	}
	if s.Metric, err = o.measure(cmd); err != nil {
		return nil, err
	}
	switch {
	case o.limit < leastLimit:
		return nil, usage("for example --time 5m", "--time %s: nothing is known after less than %s", o.limit, leastLimit)
	case !(o.width > 0 && o.width < 100):
		return nil, usage("for example --width 1", "--width %g is not a share of the median, in per cent", o.width)
	case cmd.Flags().Changed("for") && o.length <= 0:
		return nil, usage("for example --for 10s", "--for %s is not a time above 0", o.length)
	case o.length > o.limit/2:
		return nil, usage("give a longer --time, or a shorter --for", "--for %s leaves no room for two runs in %s", o.length, o.limit)
	case o.length > 0 && s.Metric.Timed():
		return nil, usage("give --metric throughput or a REGEXP", "--for ends every run after the same time, and the metric is that time")
	}
	for _, name := range o.env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return nil, usage("for example --env OMP_NUM_THREADS", "--env %q is not the name of a variable", name)
		}
	}
	if s.Machine, err = (&machineFlags{}).probe(cmd, 0); err != nil { // all: the fingerprint is of all
		return nil, err
	}
	if s.Placements, err = o.placements(s.Machine); err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("profile") {
		if o.known, err = loadProfile(cmd, o.profile); err != nil {
			return nil, err
		}
		s.Advised, err = advisedChoice(cmd, s.Machine, o.known)
		return s, err
	}
	s.Observe = func(ctx context.Context, pid int) (*tune.Choice, error) {
		p, err := observedProfile(ctx, pid)
		if p == nil || err != nil {
			return nil, err
		}
		return advisedChoice(cmd, s.Machine, p)
	}
	return s, nil
}

// observedProfile watches a run with one worker until ctx is done, and gives its
// profile; nil: nothing can be said of it.
func observedProfile(ctx context.Context, pid int) (*profiles.Profile, error) {
	w := observe.New("", observe.Options{Children: true})
	defer w.Close()
	switch err := w.Follow(pid, time.Now()); {
	case errors.Is(err, tasks.ErrGone):
		return nil, nil
	case err != nil:
		return nil, err
	}
	seen, err := w.Run(ctx, longestObserved)
	if err != nil {
		return nil, err
	}
	return seen.Profile, nil
}

// longestObserved is enough of one run.
const longestObserved = 10 * time.Second

// advisedChoice is the count and placement that berth advise gives.
func advisedChoice(cmd *cobra.Command, m *probe.Machine, p *profiles.Profile) (*tune.Choice, error) {
	plan, err := advisor.Advise(m, p, savedCalibration(cmd, m).Calibration)
	if err != nil {
		return nil, err
	}
	c := &tune.Choice{N: min(plan.Workers.Total(), tune.MostWorkers), Placement: tune.NameNone}
	if plan.Workers.InFlight > 0 {
		c.N = min(plan.Workers.InFlight, tune.MostWorkers)
	}
	if plan.Placement.Pin != advisor.NoPin {
		c.Placement, c.CPUs = "advised", plan.Placement.CPUs
	}
	return c, nil
}

func (o *tuneOptions) measure(cmd *cobra.Command) (tune.Metric, error) {
	given := cmd.Flags().Changed("metric")
	switch {
	case o.units != "" && given && o.metric != "throughput":
		return tune.Metric{}, usage("leave one of them out", "--units are of throughput, and the metric is %s", o.metric)
	case o.lower && (o.metric == "wall" || o.metric == "throughput"):
		return tune.Metric{}, usage("leave it out", "--lower is for a number that the command prints, and the metric is %s", o.metric)
	case o.units != "":
		m, err := tune.Units(o.units)
		if err != nil {
			return m, usage("for example --units 1000, or --units 100n where each worker does so many", "--units: %w", err)
		}
		return m, nil
	case o.metric == "wall":
		return tune.Wall(), nil
	case o.metric == "throughput":
		return tune.Lines(), nil
	case o.metric == "":
		return tune.Metric{}, usage("it is wall, throughput or a REGEXP", "--metric is empty")
	}
	m, err := tune.Printed(o.metric, o.lower)
	if err != nil {
		return m, usage(`wall, throughput, or for example 'rate: ([\d.]+)'`, "--metric: %w", err)
	}
	return m, nil
}

// placements reads --place.
func (o *tuneOptions) placements(m *probe.Machine) ([]tune.Placement, error) {
	t := &m.Topology
	if len(o.places) == 0 {
		out := []tune.Placement{tune.None()}
		if quota := m.Limits.QuotaCPUs; tune.Groups(t) > 1 && (quota == nil || *quota >= float64(t.Allowed.Len())) {
			out = append(out, tune.Spread(t), tune.Compact(t))
		}
		return out, nil
	}
	var out []tune.Placement
	named := map[string]bool{}
	for _, name := range splitPlaces(o.places) {
		if named[name] {
			continue
		}
		named[name] = true
		switch name {
		case tune.NameNone:
			out = append(out, tune.None())
			continue
		case tune.NameSpread:
			out = append(out, tune.Spread(t))
			continue
		case tune.NameCompact:
			out = append(out, tune.Compact(t))
			continue
		}
		places, err := place.Parse(name, t)
		if err != nil {
			return nil, placeError("--place", err)
		}
		if away := places.Union().Minus(t.Allowed); !away.IsEmpty() {
			return nil, usage("the CPUs that may be used are "+cpuList(t.Allowed), "--place %s: this process may not use %s", name, cpuWord(away))
		}
		out = append(out, tune.Placement{Name: name, Places: places})
	}
	return out, nil
}

// splitPlaces takes lists apart whose items all begin with a letter; else the
// commas are those of an expression.
func splitPlaces(values []string) []string {
	var out []string
	for _, v := range values {
		items := strings.Split(v, ",")
		whole := false
		for i, item := range items {
			items[i] = strings.TrimSpace(item)
			whole = whole || items[i] == "" || !(items[i][0] >= 'a' && items[i][0] <= 'z')
		}
		if whole {
			items = []string{v}
		}
		out = append(out, items...)
	}
	return out
}

func (o *tuneOptions) print(w io.Writer, rep *tune.Report) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var err error
	switch o.format.value {
	case "json":
		err = writeJSON(out, rep)
	case "yaml":
		err = writeYAML(out, rep)
	case "csv":
		err = tuneCSV(out, rep)
	default:
		tuneView(&page{w: out, screen: screenOf(w)}, rep)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// tuneCSV is a row for each point; what is not known is empty.
func tuneCSV(w io.Writer, rep *tune.Report) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"n", "placement", "cpus", "median", "low", "high", "runs", "wall_s", "status"}}
	exact := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	for _, p := range rep.Points {
		row := []string{strconv.Itoa(p.N), p.Placement, p.CPUs.String(), "", "", "", "0", "", ""}
		if v := p.Value; v != nil {
			row[3], row[4], row[5], row[6] = exact(v.Median), exact(v.Low), exact(v.High), strconv.Itoa(v.Runs)
		}
		if p.WallS != nil {
			row[7] = exact(*p.WallS)
		}
		if p.Failed != nil {
			row[8] = strconv.Itoa(p.Failed.Status)
		}
		rows = append(rows, row)
	}
	return out.WriteAll(rows)
}

// saveLaw writes the fitted law into a profile, and says so.
func (o *tuneOptions) saveLaw(cmd *cobra.Command, rep *tune.Report) error {
	if o.save == "" {
		return nil
	}
	nothing := func(why string) error {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: nothing was saved: %s\n", why)
		return nil
	}
	switch law := rep.USL; {
	case rep.Stopped == tune.Interrupted:
		return nothing("it was ended early")
	case rep.Verdict != affinity.Measured:
		return nothing("the result is inconclusive")
	case law == nil:
		return nothing("no scalability law was fitted; the report says why")
	case law.Sigma > 1 || law.Kappa > 1:
		return nothing(fmt.Sprintf("the law has σ %.3g and κ %.3g, and a profile holds none above 1: one worker does best", law.Sigma, law.Kappa))
	}
	p := o.known
	if p == nil {
		var err error
		name := strings.ToLower(filepath.Base(o.command[0]))
		if p, err = profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: "+strconv.Quote(name)+"\n"), o.save); err != nil {
			return err
		}
	}
	exact := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	p, err := p.With("--save", profiles.Setting{Path: "work.serial_fraction", Value: "0"}, // the law holds it
		profiles.Setting{Path: "scaling.sigma", Value: exact(rep.USL.Sigma)}, profiles.Setting{Path: "scaling.kappa", Value: exact(rep.USL.Kappa)})
	if err != nil {
		return err
	}
	f, err := createAtomic(o.save)
	if err == nil {
		if err = writeYAML(f, p); err == nil {
			err = f.commit()
		}
		if err != nil {
			f.discard()
		}
	}
	if err != nil {
		return fmt.Errorf("write profile %s: %w", o.save, err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "berth: saved the scaling to %s; `berth advise %s` uses it\n", o.save, o.save)
	return nil
}
