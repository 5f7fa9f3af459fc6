//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"berth/affinity/fleet"
)

func newFleetCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Look at many machines through an engine, plan for all of them, and run that",
		Long: `Look at many machines through an engine that reaches them, plan for all, and run
a program on them by the plan.

  files   answers gathered already: a folder, an archive or a stream of the
          documents that berth inspect -o json writes
  ssh     a session on each node, some at a time
  slurm   a task on each node, as a step of an allocation or a job of its own
  mpi     a rank on each node, by the mpirun of Open MPI
  dask    a process beside a worker of each node of a Dask cluster
  kubernetes
          a pod on each node, of an image that you name

Where a node or the image has no berth, the engines bring this one along and
remove it again.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usage("it has inspect, advise, run and plugin", "there is no command %q of %s", args[0], cmd.CommandPath())
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFleetInspectCmd(), newFleetAdviseCmd(), newFleetRunCmd(), newFleetPluginCmd(), newFleetNodeCmd())
	return cmd
}

// fleetFlags name an engine and its nodes.
type fleetFlags struct {
	engine, bring    choice
	nodes, nodesFile string
	from             string
	sshConfig        string
	sshOptions       []string
	partition        string
	scheduler        string
	python           string
	image            string
	context          string
	namespace        string
	fanOut           int
	limit            time.Duration
}

func newFleetFlags() fleetFlags {
	return fleetFlags{
		engine: choice{"", append([]string{"files"}, reaching...)},
		bring:  choice{string(fleet.BringAbsent), []string{string(fleet.BringAbsent), string(fleet.BringAlways), string(fleet.BringNever)}},
	}
}

// reaching are the engines that ask nodes themselves.
var reaching = []string{"ssh", "slurm", "mpi", "dask", "kubernetes"}

// ofEngine tells which flags belong to which engines.
var ofEngine = map[string][]string{
	"from": {"files"}, "nodes": reaching, "nodes-file": reaching, "bring": reaching, "limit": reaching,
	"ssh-config": {"ssh"}, "ssh-option": {"ssh"}, "fan-out": {"ssh", "kubernetes"}, "partition": {"slurm"},
	"scheduler": {"dask"}, "python": {"dask"}, "image": {"kubernetes"}, "context": {"kubernetes"}, "namespace": {"kubernetes"},
}

// bind is for what looks at nodes, or at answers gathered already.
func (f *fleetFlags) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Var(&f.engine, "engine", "how the nodes are reached (default: files where --from is given)")
	flags.StringVar(&f.nodes, "nodes", "", "the nodes, a `LIST` such as a,b,n[001-127] (without it slurm and mpi take those of the allocation, slurm outside one those of the partition, dask all, kubernetes all that take any pod)")
	flags.DurationVar(&f.limit, "limit", 0, "ssh, dask: the time that each node has (default 30s); slurm, mpi, kubernetes: all of them at once (default 2m)")
	f.bindReach(cmd)
	flags.StringVar(&f.from, "from", "", "files: a `DIR` of NAME.json, an archive of such, or a file of documents one after the other; - is standard input")
}

// bindReach is for all that reaches nodes.
func (f *fleetFlags) bindReach(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.nodesFile, "nodes-file", "", "the same from a `FILE`, where # begins a comment; - is standard input")
	flags.Var(&f.bring, "bring", "bring this berth along where there is none, always or never")
	flags.IntVar(&f.fanOut, "fan-out", 64, "ssh, kubernetes: how many nodes are asked, or pods read, at a time")
	flags.StringVar(&f.sshConfig, "ssh-config", "", "ssh: a configuration `FILE` in place of the usual ones (ssh -F)")
	flags.StringArrayVar(&f.sshOptions, "ssh-option", nil, "ssh: an option of ssh_config(5), `NAME=VALUE`; repeatable")
	flags.StringVar(&f.scheduler, "scheduler", "", "dask: the `ADDRESS` of the scheduler, as tcp://HOST:8786 (default: DASK_SCHEDULER_ADDRESS)")
	flags.StringVar(&f.python, "python", "python3", "dask: a `PROGRAM` that runs Python here and has the module distributed")
	flags.StringVar(&f.partition, "partition", "", "slurm: the `PARTITION` that holds the nodes")
	flags.StringVar(&f.image, "image", "", "kubernetes: an `IMAGE` that has berth, or a shell to which it is brought")
	flags.StringVar(&f.context, "context", "", "kubernetes: the `NAME` of a context of kubectl's configuration (default: the current one)")
	flags.StringVar(&f.namespace, "namespace", "", "kubernetes: the `NAME` of the namespace for the pods (default: the context's)")
	must(cmd.RegisterFlagCompletionFunc("engine", f.engine.complete))
	must(cmd.RegisterFlagCompletionFunc("bring", f.bring.complete))
}

// open makes the engine.
func (f *fleetFlags) open(cmd *cobra.Command) (fleet.Engine, error) {
	if f.engine.value == "" && f.from != "" {
		f.engine.value = "files"
	}
	if f.engine.value == "" {
		return nil, usage("for example --engine ssh --nodes n[1-4], or --from DIR", "%s needs an engine", cmd.CommandPath())
	}
	if err := f.check(cmd); err != nil {
		return nil, err
	}
	if f.limit < 0 || f.limit == 0 && cmd.Flags().Changed("limit") {
		return nil, usage("for example --limit 30s", "--limit %s leaves no time", f.limit)
	}
	if f.engine.value == "files" {
		if f.from == "" {
			return nil, usage("--from DIR, or --from - for documents on standard input", "engine files needs --from")
		}
		if f.from != "-" {
			if _, err := os.Stat(f.from); err != nil {
				return nil, usage("a folder, an archive or a file that there is", "--from: %w", err)
			}
		}
		return &fleet.Files{Path: f.from, Input: cmd.InOrStdin()}, nil
	}
	nodes, err := f.names(cmd)
	if err != nil {
		return nil, err
	}
	if (f.engine.value == "ssh" || f.engine.value == "mpi" && os.Getenv("SLURM_JOB_ID") == "") && !cmd.Flags().Changed("nodes") && !cmd.Flags().Changed("nodes-file") {
		return nil, usage("for example --nodes n[1-4]", "engine %s needs --nodes or --nodes-file", f.engine.value)
	}
	return f.reach(nodes)
}

// check holds the flags against the engine.
func (f *fleetFlags) check(cmd *cobra.Command) error {
	for flag, engines := range ofEngine {
		if cmd.Flags().Changed(flag) && !slices.Contains(engines, f.engine.value) {
			return usage("leave it out", "--%s is for engine %s, and the engine is %s", flag, strings.Join(engines, " or "), f.engine.value)
		}
	}
	if f.fanOut < 1 || f.fanOut > 4096 {
		return usage("1 to 4096", "--fan-out %d", f.fanOut)
	}
	return nil
}

// reach makes an engine that reaches nodes.
func (f *fleetFlags) reach(nodes []string) (fleet.Engine, error) {
	bring := fleet.Bring(f.bring.value)
	switch f.engine.value {
	case "slurm":
		if strings.HasPrefix(f.partition, "-") || strings.ContainsFunc(f.partition, func(r rune) bool { return r <= ' ' || r == ',' || r == 0x7f }) {
			return nil, usage("`sinfo` lists them", "--partition %q is not the name of one", f.partition)
		}
		return &fleet.Slurm{Nodes: nodes, Partition: f.partition, Limit: f.limit, Bring: bring}, nil
	case "mpi":
		return &fleet.MPI{Nodes: nodes, Limit: f.limit, Bring: bring}, nil
	case "dask":
		scheduler := cmp.Or(f.scheduler, os.Getenv("DASK_SCHEDULER_ADDRESS"))
		if scheduler == "" {
			return nil, usage("for example --scheduler tcp://HOST:8786", "engine dask needs --scheduler, or DASK_SCHEDULER_ADDRESS")
		}
		return &fleet.Dask{Scheduler: scheduler, Python: f.python, Nodes: nodes, Limit: f.limit, Bring: bring}, nil
	case "kubernetes":
		if f.image == "" {
			return nil, usage("one that has berth, or a shell: --image busybox", "engine kubernetes needs --image")
		}
		return &fleet.Kubernetes{Nodes: nodes, Image: f.image, Context: f.context, Namespace: f.namespace, FanOut: f.fanOut, Limit: f.limit, Bring: bring}, nil
	}
	e := &fleet.SSH{Nodes: nodes, FanOut: f.fanOut, Limit: f.limit, Bring: bring}
	if f.sshConfig != "" {
		e.Options = append(e.Options, "-F", f.sshConfig)
	}
	for _, o := range f.sshOptions {
		if name, _, ok := strings.Cut(o, "="); !ok || name == "" {
			return nil, usage("for example --ssh-option Port=2222", "--ssh-option %q", o)
		}
		e.Options = append(e.Options, "-o", o)
	}
	return e, nil
}

// names reads --nodes or --nodes-file.
func (f *fleetFlags) names(cmd *cobra.Command) ([]string, error) {
	if err := atMostOne(cmd, "nodes", "nodes-file"); err != nil {
		return nil, err
	}
	flag, text := "--nodes", f.nodes
	if cmd.Flags().Changed("nodes-file") {
		flag = "--nodes-file"
		in := cmd.InOrStdin()
		if f.nodesFile != "-" {
			file, err := os.Open(f.nodesFile)
			if err != nil {
				return nil, usage("a file of names", "--nodes-file: %w", err)
			}
			defer file.Close()
			in = file
		}
		data, err := io.ReadAll(io.LimitReader(in, 64<<20))
		if err != nil {
			return nil, fmt.Errorf("--nodes-file: %w", err)
		}
		var lines []string
		for line := range strings.Lines(string(data)) {
			line, _, _ = strings.Cut(line, "#")
			lines = append(lines, line)
		}
		text = strings.Join(lines, "\n")
	}
	names, err := fleet.ParseNames(text)
	if err != nil {
		return nil, usage("names as a,b,n[001-127]", "%s: %w", flag, err)
	}
	return names, nil
}

// collect looks at the fleet until all have answered or a signal comes; caught
// is then the error to end with after what is known has been printed.
func (f *fleetFlags) collect(cmd *cobra.Command, o fleet.Options) (found *fleet.Fleet, caught error, err error) {
	e, err := f.open(cmd)
	if err != nil {
		return nil, nil, err
	}
	ctx, signal, stop := untilSignal(cmd.Context())
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal kills
	line := newStatusLine(cmd.ErrOrStderr())
	o.Progress = func(answered, troubled int) { line.say(fmt.Sprintf("%d answered, %d in trouble", answered, troubled)) }
	found, err = fleet.Collect(ctx, e, o)
	line.end()
	if s := signal(); s != 0 {
		caught = &statusError{128 + int(s), fmt.Errorf("ended by %s", unix.SignalName(s))}
	}
	if err != nil {
		return nil, nil, err
	}
	if len(found.Nodes) == 0 && caught == nil {
		return nil, nil, f.nobody()
	}
	return found, caught, nil
}

// nobody says that there was no node to ask.
func (f *fleetFlags) nobody() error {
	switch {
	case f.engine.value == "files" && f.from == "-":
		return errors.New("no node: standard input holds no document")
	case f.engine.value == "files":
		return fmt.Errorf("no node: %s holds no document (in a folder or an archive they are NAME.json)", f.from)
	case f.engine.value == "dask":
		return errors.New("no node: the cluster has no worker")
	case f.engine.value == "slurm":
		return errors.New("no node: Slurm has none there; --nodes or --partition names others")
	case f.engine.value == "kubernetes":
		return errors.New("no node: the cluster has none")
	}
	return errors.New("no node: the list of nodes is empty")
}
