//go:build linux

package fleet

import (
	"fmt"
	"strconv"
	"strings"

	"berth/probe"
	"berth/probe/finding"
)

// Declared is the shape of a node as a scheduler's configuration has it
// (slurm.conf(5), NodeName). Zero is not said.
type Declared struct {
	CPUs, Sockets, Cores, Threads int   // cores of a socket, threads of a core
	MemoryMiB                     int64 // RealMemory
}

func (d Declared) String() string {
	return fmt.Sprintf("%d × %d × %d = %d CPUs", d.Sockets, d.Cores, d.Threads, d.CPUs)
}

func declarable(x *traits, mem memories) (Declared, bool) {
	d := Declared{CPUs: x.online, Sockets: x.packages, MemoryMiB: mem.host >> 20}
	if x.packages == 0 || x.cores%x.packages != 0 || x.cores == 0 || x.online%x.cores != 0 {
		return d, false
	}
	d.Cores, d.Threads = x.cores/x.packages, x.online/x.cores
	return d, d.Threads == max(1, x.threads)
}

// DeclaredOf is how Slurm would have a machine declared; false where its sockets
// or cores are not all alike, which no NodeName line can say.
func DeclaredOf(m *probe.Machine) (Declared, bool) {
	x, mem := traitsOf(m)
	return declarable(&x, mem)
}

// Line is the node's line for slurm.conf, as `slurmd -C` prints it.
func (d Declared) Line(nodes string) string {
	line := fmt.Sprintf("NodeName=%s CPUs=%d Boards=1 SocketsPerBoard=%d CoresPerSocket=%d ThreadsPerCore=%d", nodes, d.CPUs, d.Sockets, d.Cores, d.Threads)
	if d.MemoryMiB > 0 {
		line += fmt.Sprintf(" RealMemory=%d", d.MemoryMiB)
	}
	return line
}

// NodeLines are the lines for slurm.conf of a whole fleet, one for each shape,
// with the memory of its node that has the least. What no line can say stands in
// a comment.
func (f *Fleet) NodeLines() []string {
	var lines []string
	for i := range f.Shapes {
		s := &f.Shapes[i]
		names := Fold(s.Nodes)
		if d, regular := DeclaredOf(s.Inspect); regular {
			lines = append(lines, d.Line(names))
		} else {
			lines = append(lines, fmt.Sprintf("# %s: the cores of its sockets, or the threads of its cores, are not all alike: no NodeName line can say it", names))
		}
	}
	for _, n := range f.Nodes {
		if n.Trouble != "" {
			lines = append(lines, fmt.Sprintf("# %s: no answer (%s)", n.Name, n.Trouble))
		}
	}
	return lines
}

// checkDeclared holds what a scheduler was told against what the nodes are.
// Less memory than there is is a reserve, and no mistake.
func checkDeclared(found *finding.List, records []*record, declared map[string]Declared) {
	type mistake struct{ has, says Declared }
	nodes, least := map[mistake][]string{}, map[mistake]int64{}
	var order []mistake
	for _, r := range records {
		says, ok := declared[r.name]
		if r.traits == nil || !ok {
			continue
		}
		has, regular := declarable(r.traits, r.memory)
		if has.MemoryMiB > 0 && says.MemoryMiB > has.MemoryMiB {
			found.Add("declared-memory", finding.Warning, []string{fmt.Sprintf("%s: RealMemory=%d, and %d MiB are there", r.name, says.MemoryMiB, has.MemoryMiB)},
				"Nodes have less memory than Slurm was told: jobs are sent there that do not fit.")
		}
		if says.CPUs == has.CPUs && (!regular || says.Sockets == has.Sockets && says.Cores == has.Cores && says.Threads == has.Threads) {
			continue
		}
		m := mistake{has, says}
		m.says.MemoryMiB, m.has.MemoryMiB = 0, 0 // one line for all, with the least
		if nodes[m] = append(nodes[m], r.name); len(nodes[m]) == 1 {
			order = append(order, m)
			least[m] = has.MemoryMiB
		}
		least[m] = min(least[m], has.MemoryMiB)
	}
	for _, m := range order {
		right := m.has
		right.MemoryMiB = least[m]
		names := Fold(nodes[m])
		verb, own := "is", "has"
		if len(nodes[m]) > 1 {
			verb, own = "are", "have"
		}
		if m.has.CPUs == m.says.CPUs && m.has.Threads == m.says.Threads {
			found.Add("declared-sockets", finding.Info, []string{right.Line(names)},
				"%s %s declared to Slurm as %s, and the cores lie in %d sockets. Right if slurmd counts L3 groups or NUMA nodes as sockets (SlurmdParameters).", names, verb, m.says, m.has.Sockets)
			continue
		}
		evidence := []string{"slurmd -C on the node prints the line that is right"}
		if m.has.Cores > 0 && m.has.Threads > 0 {
			evidence = []string{right.Line(names)}
		}
		shape := m.has.String()
		if m.has.Cores == 0 {
			shape = fmt.Sprintf("%d CPUs", m.has.CPUs)
		}
		found.Add("declared-shape", finding.Warning, evidence,
			"%s %s declared to Slurm as %s (sockets × cores × threads), and %s %s: Slurm then binds tasks to CPUs that are not there, or gives them the whole node without a word.", names, verb, m.says, own, shape)
	}
}

// parseNode reads one line of `scontrol --oneliner show node`.
func parseNode(line string) (name string, d Declared, ok bool) {
	fields := map[string]string{}
	for field := range strings.FieldsSeq(line) {
		key, value, _ := strings.Cut(field, "=")
		if _, ok := fields[key]; !ok { // what is said again stands in somebody's comment
			fields[key] = value
		}
	}
	number := func(key string) int {
		n, _ := strconv.Atoi(fields[key])
		return n
	}
	d = Declared{
		CPUs: number("CPUTot"), Sockets: number("Sockets"), Cores: number("CoresPerSocket"),
		Threads: number("ThreadsPerCore"), MemoryMiB: int64(number("RealMemory")),
	}
	return fields["NodeName"], d, fields["NodeName"] != "" && d.CPUs > 0
}
