package cpuid

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/root"
)

// The bits of a line's mask: which registers the question was asked with.
const (
	maskEAX = 1
	maskECX = 4
)

// ReadDir reads a directory that holds one file per CPU, puN being CPU N. A
// line of such a file is
//
//	mask eax ebx ecx edx => eax ebx ecx edx
//
// in hexadecimal, the mask saying which of the registers before the arrow
// matter; "#" starts a comment. Other files of the directory are left alone.
//
// A file that cannot be read, in whole or in part, gives a finding: its CPU is
// in the dump with what could be read.
func ReadDir(dir root.Dir) (*Dump, []finding.Finding, error) {
	names, err := dir.Names()
	if err != nil {
		return nil, nil, fmt.Errorf("read CPUID dump: %w", err)
	}
	var cpus []cpuset.CPU
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, "pu")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || strconv.FormatUint(n, 10) != digits {
			continue
		}
		if n >= cpuset.Limit {
			return nil, nil, fmt.Errorf("read CPUID dump %s: %s is over the limit of %d CPUs", dir.Path(), name, cpuset.Limit)
		}
		cpus = append(cpus, cpuset.CPU(n))
	}
	if len(cpus) == 0 {
		return nil, nil, fmt.Errorf("read CPUID dump %s: no file pu0, pu1 … in it", dir.Path())
	}
	slices.Sort(cpus)
	d, found := &Dump{}, finding.List{}
	for _, c := range cpus {
		name := "pu" + strconv.Itoa(int(c))
		data, err := dir.ReadFile(name)
		if err != nil {
			found.Add(finding.Unreadable, finding.Warning, []string{err.Error()},
				"The CPUID file of CPU %d cannot be read; the topology leaves this CPU out.", c)
		}
		entries, odd := parsePU([]byte(data), name)
		found.Append(odd...)
		d.add(c, entries)
	}
	return d, found.All(), nil
}

// parsePU reads one file. Lines that make no sense are left out and counted.
func parsePU(data []byte, name string) ([]Entry, []finding.Finding) {
	var entries []Entry
	var bad badLines
	lines := 0
	for line := range bytes.Lines(data) {
		lines++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		e, err := parsePULine(text)
		if err != nil {
			bad.note(lines, err)
			continue
		}
		entries = append(entries, e)
	}
	return entries, bad.findings(name)
}

func parsePULine(text string) (Entry, error) {
	ask, answer, ok := strings.Cut(text, "=>")
	if !ok {
		return Entry{}, fmt.Errorf("no \"=>\"")
	}
	in, err := hexWords(ask, 5)
	if err != nil {
		return Entry{}, err
	}
	out, err := hexWords(answer, 4)
	if err != nil {
		return Entry{}, err
	}
	if in[0]&maskEAX == 0 {
		return Entry{}, fmt.Errorf("the mask %x leaves out eax", in[0])
	}
	e := Entry{Leaf: in[1], Indexed: in[0]&maskECX != 0, Regs: Regs{out[0], out[1], out[2], out[3]}}
	if e.Indexed {
		e.Sub = in[3]
	}
	return e, nil
}

// hexWords reads exactly n numbers of up to 32 bits.
func hexWords(text string, n int) (words [5]uint32, err error) {
	count := 0
	for word := range strings.FieldsSeq(text) {
		if count == n {
			return words, fmt.Errorf("more than %d numbers", n)
		}
		v, err := strconv.ParseUint(word, 16, 32)
		if err != nil {
			return words, fmt.Errorf("%q is no 32-bit hexadecimal number", word[:min(len(word), 20)])
		}
		words[count] = uint32(v)
		count++
	}
	if count < n {
		return words, fmt.Errorf("%d numbers in place of %d", count, n)
	}
	return words, nil
}

// badLines remembers the first bad line of a file and how many there were.
type badLines struct {
	count, line int
	err         error
}

func (b *badLines) note(line int, err error) {
	if b.count++; b.count == 1 {
		b.line, b.err = line, err
	}
}

func (b *badLines) findings(name string) []finding.Finding {
	if b.count == 0 {
		return nil
	}
	var l finding.List
	l.Add(finding.Malformed, finding.Warning, []string{fmt.Sprintf("%s:%d: %v", name, b.line, b.err)},
		"%s has %d unreadable %s of CPUID, the first being line %d; what depends on them is missing.",
		name, b.count, plural(b.count, "line", "lines"), b.line)
	return l.All()
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// WritePU writes a CPU's answers as a file that [ReadDir] reads.
func (d *Dump) WritePU(w io.Writer, c cpuset.CPU) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "# mask e[abcd]x => e[abcd]x")
	for _, e := range d.Entries(c) {
		mask := maskEAX
		if e.Indexed {
			mask |= maskECX
		}
		r := e.Regs
		fmt.Fprintf(b, "%x %x 0 %x 0 => %x %x %x %x\n", mask, e.Leaf, e.Sub, r.EAX, r.EBX, r.ECX, r.EDX)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write CPUID of CPU %d: %w", c, err)
	}
	return nil
}
