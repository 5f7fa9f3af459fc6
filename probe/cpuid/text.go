package cpuid

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/finding"
)

// ParseText reads one InstLatX64 text file, as Everest and AIDA64 write it:
// a block per logical CPU, a line per answer,
//
//	CPUID 0000000B: 00000001-00000002-00000100-00000000 [SL 00]
//
// the registers being EAX to EDX. The sub-leaf is the "SL" or follows the leaf
// after a dash; older writers leave it out, and then the lines of one leaf
// count from 0. CPUs are numbered by the order of their blocks: some writers
// start at #1. A block that repeats an earlier one is left out with a finding.
//
// name is for messages.
func ParseText(data []byte, name string) (*Dump, []finding.Finding, error) {
	p := textParser{}
	lines := 0
	for line := range bytes.Lines(data) {
		lines++
		text := strings.TrimSpace(string(line))
		if number, ok := cpuHeading(text); ok {
			p.heading(number)
			continue
		}
		leaf, rest, ok := cutLeaf(text)
		if !ok {
			continue
		}
		if err := p.answer(leaf, rest); err != nil {
			p.bad.note(lines, err)
		}
	}
	p.finish()
	switch {
	case len(p.blocks) == 0:
		return nil, nil, fmt.Errorf("read CPUID text %s: no line of the form \"CPUID 00000000: …\" in it", name)
	case len(p.blocks) > cpuset.Limit:
		return nil, nil, fmt.Errorf("read CPUID text %s: over the limit of %d CPUs", name, cpuset.Limit)
	}
	d := &Dump{}
	for i, b := range p.blocks {
		d.add(cpuset.CPU(i), b.entries)
	}
	var found finding.List
	found.Append(p.bad.findings(name)...)
	if p.repeated > 0 {
		found.Add("duplicate", finding.Info, nil, "%s holds %d %s of CPUID twice; the first is used.",
			name, p.repeated, plural(p.repeated, "block", "blocks"))
	}
	return d, found.All(), nil
}

// textBlock is what one CPU answered, and the number its heading gave it.
type textBlock struct {
	number  int // -1 without a heading
	entries []Entry
}

type textParser struct {
	blocks   []textBlock
	now      textBlock
	numbered map[int]int // heading → block
	bad      badLines
	repeated int
}

func (p *textParser) heading(number int) {
	p.finish()
	p.now.number = number
}

// finish keeps the block at hand. Headings of MSR sections make empty ones.
func (p *textParser) finish() {
	b := p.now
	p.now = textBlock{number: -1}
	if len(b.entries) == 0 {
		return
	}
	b.entries = tidy(b.entries)
	if b.number >= 0 {
		if first, ok := p.numbered[b.number]; ok && sameCPU(p.blocks[first].entries, b.entries) {
			p.repeated++
			return
		}
		if p.numbered == nil {
			p.numbered = make(map[int]int)
		}
		p.numbered[b.number] = len(p.blocks)
	}
	p.blocks = append(p.blocks, b)
}

// sameCPU tells by the APIC ids whether two blocks of one number are one CPU's.
// Other answers may change from one reading to the next.
func sameCPU(a, b []Entry) bool {
	apic := func(entries []Entry) (ids [3]uint32, known bool) {
		version, known := lookup(entries, leafVersion, 0)
		levels, _ := lookup(entries, leafTopology, 0)
		node, _ := lookup(entries, leafAMDNode, 0)
		return [3]uint32{field(version.EBX, 31, 24), levels.EDX, node.EAX}, known
	}
	x, known := apic(a)
	y, _ := apic(b)
	return known && x == y || slices.Equal(a, b)
}

func (p *textParser) answer(leaf uint32, rest string) error {
	sub, given := uint32(0), false
	if after, ok := strings.CutPrefix(rest, "-"); ok {
		digits := after[:hexLen(after)]
		v, err := strconv.ParseUint(digits, 16, 32)
		if err != nil {
			return fmt.Errorf("the sub-leaf %q is no 32-bit hexadecimal number", digits)
		}
		sub, given, rest = uint32(v), true, after[len(digits):]
	}
	rest = strings.TrimLeft(rest, ": \t")
	var r [4]uint32
	for i := range r {
		n := hexLen(rest)
		v, err := strconv.ParseUint(rest[:n], 16, 32)
		if n != 8 || err != nil {
			return errors.New("not four registers of eight hexadecimal digits")
		}
		r[i], rest = uint32(v), rest[n:]
		if i < 3 {
			if !strings.HasPrefix(rest, "-") {
				return errors.New("not four registers of eight hexadecimal digits")
			}
			rest = rest[1:]
		}
	}
	if _, tag, ok := strings.Cut(rest, "[SL "); ok && !given {
		v, err := strconv.ParseUint(tag[:hexLen(tag)], 16, 32)
		if err != nil {
			return errors.New("the sub-leaf after \"SL\" is no hexadecimal number")
		}
		sub, given = uint32(v), true
	}
	if leaf == 0 && !given && slices.ContainsFunc(p.now.entries, func(e Entry) bool { return e.Leaf == 0 }) {
		p.finish() // the next CPU, without a heading
	}
	indexed := given || hasSubLeaves(leaf)
	if !given && indexed {
		for _, e := range slices.Backward(p.now.entries) {
			if e.Leaf == leaf {
				sub = e.Sub + 1
				break
			}
		}
	}
	p.now.entries = append(p.now.entries, Entry{leaf, sub, indexed, Regs{r[0], r[1], r[2], r[3]}})
	return nil
}

// cpuHeading knows "------[ CPUID Registers / Logical CPU #0 ]------",
// "------[ Logical CPU #0 ]------" and "CPUID Registers (CPU #1):".
func cpuHeading(text string) (int, bool) {
	if !strings.HasPrefix(text, "---") && !strings.HasPrefix(text, "CPUID Registers") {
		return 0, false
	}
	_, after, ok := strings.Cut(text, "CPU #")
	if !ok {
		return 0, false
	}
	end := 0
	for end < len(after) && after[end] >= '0' && after[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(after[:end])
	return n, err == nil
}

// cutLeaf parts "CPUID 0000000B: …" after the leaf. Other lines that begin
// with the word, as "CPUID Revision", have no eight digits there.
func cutLeaf(text string) (leaf uint32, rest string, ok bool) {
	rest, ok = strings.CutPrefix(text, "CPUID ")
	if !ok {
		return 0, "", false
	}
	rest = strings.TrimLeft(rest, " \t")
	if hexLen(rest) != 8 {
		return 0, "", false
	}
	v, err := strconv.ParseUint(rest[:8], 16, 32)
	return uint32(v), rest[8:], err == nil
}

// hexLen is the number of hexadecimal digits that text begins with.
func hexLen(text string) int {
	for i := range len(text) {
		c := text[i] | 0x20
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return i
		}
	}
	return len(text)
}
