package profiles

import (
	"fmt"
	"strings"
)

// Runtimes lists what a template can be written for.
func Runtimes() []Runtime {
	return []Runtime{Native, Go, Java, Node, Python, PythonFreeThreaded, OpenMP}
}

// begin holds the fields that a template sets, with what to think of there.
func begin(r Runtime) []struct{ path, value, hint string } {
	type line = struct{ path, value, hint string }
	work := []line{
		{"work.cpu_ms", "10", "measure it: user + system time of the process, divided by the tasks done"},
		{"work.wait_ms", "0", "response time of an unloaded worker, less cpu_ms"},
	}
	switch r {
	case Go:
		return append([]line{{"work.kind", "service", "goroutines wait without holding a thread, so the waits do not block"},
			{"work.blocking", "false", "true for work inside cgo calls or disk reads"}}, work...)
	case Java:
		return append([]line{{"work.kind", "service", "platform threads block; virtual threads do not"},
			{"work.blocking", "true", "false with virtual threads or a reactive stack"}}, work...)
	case Node:
		return append([]line{{"work.kind", "service", "one event loop a process"},
			{"work.blocking", "false", "true only for synchronous calls, which stall the loop"}}, work...)
	case Python:
		return append(append([]line{{"work.kind", "service", "what a request does; integer for pure computing"}}, work...),
			line{"work.native_ms", "0", "time in numpy, zlib, hashlib … that releases the GIL"},
			line{"work.blocking", "true", "false for asyncio"},
			line{"limits.memory_per_worker_mib", "200", "resident memory of one worker process after warm-up, less what forks share"})
	case PythonFreeThreaded:
		return append(append([]line{{"work.kind", "service", "threads run Python in parallel; check that every extension declares support"}}, work...),
			line{"work.blocking", "true", "false for asyncio"})
	case OpenMP:
		return []line{{"work.kind", "float", "memory-bandwidth where arrays are larger than the last-level cache"},
			{"work.partition", "static", "what schedule(static), the usual default, does"},
			{"load.ranks_per", "node", "with MPI: a rank for each NUMA node; without, leave it out"}}
	}
	return append([]line{{"work.kind", "integer", "where the CPU time goes"}}, work...)
}

// Template is a commented profile for a runtime: it plans as it stands, holds
// every field there is, and says of each what it means. It asks nothing.
func Template(r Runtime) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# A workload for berth advise. Set what you know and leave the rest out: berth says what it\n"+
		"# assumes. Lines behind # show the other fields, with their defaults where there are any.\n"+
		"schema: %s\nname: my-%s-workload\n", Schema, r)
	set := map[string]string{"runtime": string(r)}
	hints := map[string]string{}
	for _, l := range begin(r) {
		set[l.path], hints[l.path] = l.value, l.hint
	}
	section := ""
	for _, f := range fields() {
		if f.path == "schema" || f.path == "name" || strings.HasPrefix(f.path, "measured.") {
			continue
		}
		name, indent := f.path, ""
		if s, rest, ok := strings.Cut(f.path, "."); ok {
			name, indent = rest, "  "
			if s != section {
				section = s
				mark := "# "
				for path := range set {
					if strings.HasPrefix(path, s+".") {
						mark = ""
					}
				}
				fmt.Fprintf(&b, "\n%s%s:\n", mark, s)
			}
		}
		fmt.Fprintf(&b, "%s# %s [%s]\n", indent, f.what, f.allowed())
		if hint := hints[f.path]; hint != "" {
			fmt.Fprintf(&b, "%s# Here: %s\n", indent, hint)
		}
		value, ok := set[f.path]
		mark := ""
		if !ok {
			mark, value = "# ", f.standard
		}
		fmt.Fprintf(&b, "%s\n", strings.TrimRight(indent+mark+name+": "+value, " "))
	}
	return b.String()
}
