package main

import (
	"bufio"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/place"
	"berth/probe/topology"
)

// placeSchema names the JSON document of berth place.
const placeSchema = "berth.place/v1"

// placeParts is what an expression may name of a machine.
const placeParts = probe.Budget | probe.Cores | probe.Caches | probe.NUMA | probe.Kinds

type placeOptions struct {
	machine    machineFlags
	format, as choice
	logical    bool
}

func newPlaceCmd() *cobra.Command {
	o := &placeOptions{
		format: choice{"text", []string{"text", "json", "yaml"}},
		as:     choice{"", formNames()},
	}
	cmd := &cobra.Command{
		Use:   "place EXPRESSION",
		Short: "Show which CPUs a place expression means",
		Long: `Show which CPUs an expression means, in the forms that other tools take.

An expression is terms with spaces between, each an object TYPE:INDEX, a list of
CPUs (0-3,8  0-10:2  0-63:2/8  all  !0-3) or a mask (0xff). ~ before a term takes
its CPUs away from those before it, x leaves only them, and ^ is exclusive or.

  types    machine, package, die, cluster, numa, llc, l1 to l5, core, pu, kind
  index    N, N-M, N-, N:COUNT, all, odd, even; for kind a name as performance
  inside   package:1.core:0 is the first core inside the second package

Objects are counted in the machine's order, as hwloc does (see hwloc(7)); numbers
in lists are Linux CPU numbers. An expression of likwid-pin follows likwid:, a
value of OMP_PLACES omp:. All CPUs that are online can be meant; what this process
may not use is remarked upon.

--as FORM prints one form alone; -o json has all of them:
` + formHelp(),
		Example: `  berth place package:1.core:0-3
  berth place 'llc:0 ~core:0'               quotes keep the spaces together
  berth place likwid:S0:0-3@S1:0-3
  berth place 'omp:{0:4}:2:4' -o json       for programs; see berth schema place
  taskset "$(berth place --as taskset core:0)" program
  numactl $(berth place --as numactl numa:0) program
  berth place kind:performance --sysroot node7.tar.gz`,
		Args: oneExpression,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, strings.Join(args, " ")) },
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"all", "package:", "numa:", "llc:", "core:", "pu:", "kind:", "likwid:", "omp:"},
				cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
	}
	flags := cmd.Flags()
	flags.VarP(&o.format, "output", "o", "how to print")
	flags.Var(&o.as, "as", "print one `FORM` alone; see above")
	flags.BoolVar(&o.logical, "logical", false, "numbers in lists of CPUs are logical (L#), not Linux numbers")
	o.machine.bind(cmd)
	must(cmd.RegisterFlagCompletionFunc("output", o.format.complete))
	must(cmd.RegisterFlagCompletionFunc("as", o.as.complete))
	return cmd
}

// oneExpression may be in several words, as terms have spaces between them.
func oneExpression(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("for example: "+cmd.CommandPath()+" core:0-3", "%s takes an expression", cmd.CommandPath())
	}
	return nil
}

func (o *placeOptions) run(cmd *cobra.Command, expr string) error {
	if o.as.value != "" && o.format.value != "text" {
		return usage("leave one of them out", "--as prints one line, and the output is %s", o.format.value)
	}
	m, err := o.machine.probe(cmd, placeParts)
	if err != nil {
		return err
	}
	parse := place.Parse
	if o.logical {
		parse = place.ParseLogical
	}
	places, err := parse(expr, &m.Topology)
	if err != nil {
		return placeError("place", err)
	}
	doc := describePlaces(expr, places, &m.Topology)
	out := bufio.NewWriter(cmd.OutOrStdout())
	switch {
	case o.as.value != "":
		_, err = fmt.Fprintln(out, doc.form(o.as.value))
	case o.format.value == "json":
		err = writeJSON(out, doc)
	case o.format.value == "yaml":
		err = writeYAML(out, doc)
	default:
		placeView(out, doc, &m.Topology, screenOf(cmd.OutOrStdout()))
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// placeError is a mistake in an expression, which where names, with the
// expression below and a caret under the character.
func placeError(where string, err error) error {
	var e *place.Error
	if !errors.As(err, &e) {
		return err
	}
	if strings.TrimSpace(e.Expr) == "" {
		return usage(e.Want, "%s: %s", where, e.Why)
	}
	return usage(e.Want, "%s: %s: %s\n  %s", where, e.Where(), e.Why, strings.ReplaceAll(e.Caret(), "\n", "\n  "))
}

// placeDocument is an expression in all forms.
type placeDocument struct {
	Schema      string       `json:"schema" yaml:"schema"`
	Expression  string       `json:"expression" yaml:"expression"`
	CPUs        int          `json:"cpus" yaml:"cpus"`
	List        cpuset.Set   `json:"list" yaml:"list"`
	Mask        string       `json:"mask" yaml:"mask"`
	Taskset     string       `json:"taskset" yaml:"taskset"`
	CPUSet      cpuset.Set   `json:"cpuset" yaml:"cpuset"`
	Mems        string       `json:"mems,omitempty" yaml:"mems,omitempty"`
	SMPAffinity string       `json:"smp_affinity" yaml:"smp_affinity"`
	Logical     string       `json:"logical" yaml:"logical"`
	Hwloc       string       `json:"hwloc" yaml:"hwloc"`
	OMP         string       `json:"omp" yaml:"omp"`
	OMPStrides  string       `json:"omp_strides" yaml:"omp_strides"`
	GOMP        string       `json:"gomp" yaml:"gomp"`
	KMP         string       `json:"kmp" yaml:"kmp"`
	Kubernetes  string       `json:"kubernetes" yaml:"kubernetes"`
	Systemd     string       `json:"systemd" yaml:"systemd"`
	Numactl     string       `json:"numactl" yaml:"numactl"`
	Places      []cpuset.Set `json:"places" yaml:"places"`
	Allowed     cpuset.Set   `json:"allowed" yaml:"allowed"`
}

func describePlaces(expr string, places place.Places, t *topology.Topology) *placeDocument {
	set := places.Union()
	order := logicalNumbers(t, int(t.Online.Last())+1)
	var logical, nodes []int
	for c := range set.All() {
		logical = append(logical, int(order[c]))
	}
	for _, n := range t.NUMANodes {
		if n.CPUs.Overlaps(set) {
			nodes = append(nodes, n.ID)
		}
	}
	return &placeDocument{
		Schema: placeSchema, Expression: expr, CPUs: set.Len(),
		List: set, Mask: set.Mask(), Taskset: set.Mask(), CPUSet: set, Mems: numbers(nodes), SMPAffinity: set.KernelMask(),
		Logical: numbers(logical), Hwloc: place.Hwloc(set), OMP: places.OMP(),
		OMPStrides: ompStrides(places), GOMP: gompAffinity(places), KMP: kmpAffinity(places),
		Kubernetes: set.String(), Systemd: systemdAffinity(set), Numactl: numactlArguments(set, numbers(nodes)),
		Places: places, Allowed: set.Intersect(t.Allowed),
	}
}

func (d *placeDocument) form(name string) string {
	for _, f := range placeForms() {
		if f.name == name {
			return f.value(d)
		}
	}
	return ""
}

// placeView prints the commonest forms for a person, and the places if they are several.
func placeView(w *bufio.Writer, d *placeDocument, t *topology.Topology, s screen) {
	p := &page{w: w, screen: s}
	headline := count(d.CPUs, "CPU")
	coreOf := topology.Owners(int(t.Online.Last())+1, t.Cores, func(c topology.Core) cpuset.Set { return c.CPUs })
	if n, kind := coresUnder(t, coreOf, d.List); n > 0 {
		headline += " on " + count(n, strings.TrimSpace(kind+" core"))
	}
	if n := len(d.Places); n > 1 {
		headline += fmt.Sprintf(", %d places", n)
	}
	p.line(p.paint(bold, headline))
	p.gap()
	const label = len("mask, taskset")
	for _, row := range [...]struct{ name, value string }{
		{"list, cpuset", d.List.String()},
		{"mems", d.Mems},
		{"mask, taskset", d.Mask},
		{"smp_affinity", d.SMPAffinity},
		{"logical", d.Logical},
		{"hwloc", d.Hwloc},
		{"omp", d.OMP},
	} {
		if row.value != "" {
			p.line("  " + pad(row.name, label) + "  " + fit(row.value, s.width-label-4))
		}
	}
	if len(d.Places) > 1 {
		p.heading("Places, in order")
		const shown = 16
		for i, set := range d.Places {
			if i == shown && len(d.Places) > shown+1 {
				p.line(fmt.Sprintf("  … and %d more; -o json has them", len(d.Places)-shown))
				break
			}
			p.line("  " + pad(strconv.Itoa(i), 2) + "  " + fit(cpuList(set), s.width-6))
		}
	}
	if away := d.List.Minus(d.Allowed); !away.IsEmpty() {
		p.gap()
		p.line(p.paint(yellow, "! The process may not use "+fit(cpuWord(away), s.width-30)+"."))
	}
}

// fit shortens a list, or one long number, to what fits a line.
func fit(value string, width int) string { return cut(shorten(value, ",", width), width) }
