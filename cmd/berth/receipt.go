//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"berth/affinity"
	"berth/probe/cpuset"
)

// receiptFlag is --receipt: a file, - for standard error, or alone for a table.
type receiptFlag struct{ optional }

func (f *receiptFlag) bind(cmd *cobra.Command, about string) {
	f.names = "file"
	f.optional.bind(cmd.Flags(), "receipt", "", about+": a table on standard error, or as JSON to `[=FILE]` (- is standard error)")
}

func (f *receiptFlag) wanted() bool { return f.value != "" && f.value != "false" }

// receiptOutput is where a receipt goes. Its file is made before anything runs,
// so that no run is lost for want of a place to write.
type receiptOutput struct {
	w    io.Writer
	text bool
	file *atomicFile
}

func (f *receiptFlag) open(stderr io.Writer) (*receiptOutput, error) {
	switch {
	case !f.wanted():
		return &receiptOutput{}, nil
	case f.value == alone:
		return &receiptOutput{w: stderr, text: true}, nil
	case f.value == "-":
		return &receiptOutput{w: stderr}, nil
	}
	file, err := createAtomic(f.value)
	if err != nil {
		return nil, fmt.Errorf("write receipt %s: %w", f.value, err)
	}
	return &receiptOutput{w: file, file: file}, nil
}

func (o *receiptOutput) discard() {
	if o.file != nil {
		o.file.discard()
	}
}

func (o *receiptOutput) write(r *affinity.Receipt, s screen) error {
	switch {
	case o.w == nil:
		return nil
	case o.text:
		out := bufio.NewWriter(o.w)
		receiptView(&page{w: out, screen: s}, r)
		return out.Flush()
	}
	return o.document(r)
}

// document writes any receipt as JSON.
func (o *receiptOutput) document(r any) error {
	if o.w == nil {
		return nil
	}
	if err := writeJSON(o.w, r); err != nil {
		return fmt.Errorf("write receipt: %w", err)
	}
	if o.file != nil {
		if err := o.file.commit(); err != nil {
			return fmt.Errorf("write receipt: %w", err)
		}
	}
	return nil
}

// mostRows of a receipt's table fit a screen.
const mostRows = 24

// receiptView shows a receipt on one screen, the worst first.
func receiptView(p *page, r *affinity.Receipt) {
	verdict := "every seat was kept"
	switch {
	case !r.Kept:
		verdict = count(len(r.Broken), "violation")
	case r.Verdict != affinity.Measured:
		verdict = "no violation was seen, but not all was seen"
	}
	threads := 0
	for _, w := range r.Workers {
		threads += len(w.Threads)
	}
	title := fmt.Sprintf("%s, %s in %s s: %s", count(len(r.Workers), "worker"), count(threads, "thread"), decimal(r.WallS, 3), verdict)
	if r.Command == nil { // running processes were seated
		title = fmt.Sprintf("%s, %s: %s", count(len(r.Workers), "process"), count(threads, "thread"), verdict)
	}
	p.line(p.paint(bold, title))
	for i, v := range r.Broken {
		if i == 8 {
			p.line(fmt.Sprintf("  … and %d more", len(r.Broken)-i))
			break
		}
		p.wrapped(p.paint(yellow, "! ")+v.Code+"  "+v.Message, " ", "    ")
	}
	for _, f := range r.Finding {
		p.wrapped("· "+f.Code+"  "+f.Message, " ", "    ")
		for _, e := range f.Evidence {
			p.wrapped("    "+e, " ", "      ")
		}
	}
	type row struct {
		worker int
		affinity.ThreadReceipt
	}
	var rows []row
	for _, w := range r.Workers {
		for _, t := range w.Threads {
			rows = append(rows, row{w.Index, t})
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return worse(b.ThreadReceipt) - worse(a.ThreadReceipt) })
	cells := [][]string{{"worker", "thread", "name", "asked", "set", "ran on", "cpu s", "waited s", "moves", "switches"}}
	for i, t := range rows {
		if i == mostRows {
			break
		}
		cells = append(cells, []string{strconv.Itoa(t.worker), strconv.Itoa(t.TID), printable(t.Name), orWord(t.Asked, "any"), orWord(t.Set, "?"), cpuList(t.RanOn),
			seconds(t.OnCPUMS), seconds(t.RunDelayMS), number(t.Migrations), sum(t.Voluntary, t.Involuntary)})
	}
	if len(rows) > 0 {
		alignRight(cells, 0, 1, 6, 7, 8, 9)
		p.line("")
		p.table(cells)
	}
	if n := len(rows) - mostRows; n > 0 {
		p.line(fmt.Sprintf("  … and %s with less to tell; --receipt=FILE has all", count(n, "thread")))
	}
	line := ""
	add := func(x *float64, format string) {
		if x != nil && *x > 0 {
			if line != "" {
				line += ", "
			}
			line += fmt.Sprintf(format, decimal(*x, places(*x)))
		}
	}
	add(r.ThrottledMS, "throttled for %s ms")
	add(r.Noise.OtherBusyPct, "other programs and interrupts took %s %% of these CPUs")
	add(r.Noise.StealPct, "the host took %s %%")
	if line != "" {
		p.line("")
		p.wrapped("  "+line, ", ", "  ")
	}
}

// worse orders threads: those off their seat, then those that waited for it.
func worse(t affinity.ThreadReceipt) int {
	score := 0
	if t.RunDelayMS != nil {
		score = int(*t.RunDelayMS)
	}
	if !t.Asked.IsEmpty() && !t.RanOn.SubsetOf(t.Asked) {
		score += 1 << 30
	}
	return score
}

// orWord is a set, or a word for an empty one.
func orWord(s cpuset.Set, word string) string {
	if s.IsEmpty() {
		return word
	}
	return cpuList(s)
}

func seconds(ms *float64) string {
	if ms == nil {
		return "?"
	}
	return strconv.FormatFloat(*ms/1000, 'f', 2, 64)
}

func number(n *int64) string {
	if n == nil {
		return "?"
	}
	return strconv.FormatInt(*n, 10)
}

func sum(a, b *int64) string {
	if a == nil || b == nil {
		return "?"
	}
	return strconv.FormatInt(*a+*b, 10)
}
