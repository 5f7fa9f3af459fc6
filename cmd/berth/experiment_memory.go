//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"berth/affinity"
	"berth/affinity/experiment"
)

// memoryView shows the staircase beside the caches, then the bandwidth.
func memoryView(p *page, rep *experiment.MemoryReport) {
	opening(p, &rep.Report, memoryAnswer(rep))
	staircaseChart(p, rep.Latency)
	bandwidthTable(p, rep)
	skippedSection(p, skippedModes(rep.Skipped))
	closing(p, &rep.Report, [][2]string{
		{"done", "One thread followed pointers through ever larger memory, in no order that can be guessed, so that each load waited for the one before; then threads on a core each streamed through memory of their own."},
		{"expected", "A step up wherever the working set outgrows a cache. Bandwidth grows with threads until the memory is full; another node's is farther."},
		{"seen", memorySeen(rep)},
		{"for a pool", memoryAdvice(rep)},
	})
}

// steps is the median of the sizes that fit a cache well, by its name, in the
// order of sizes.
func steps(rows []experiment.MemoryLatency) (names []string, ns map[string]float64) {
	of := map[string][]float64{}
	for _, r := range rows {
		if r.NS.Runs == 0 {
			continue
		}
		if of[r.Fits] == nil {
			names = append(names, r.Fits)
		}
		of[r.Fits] = append(of[r.Fits], r.NS.Median)
	}
	ns = map[string]float64{}
	for name, xs := range of {
		ns[name] = xs[(len(xs)-1)/2] // in the middle of the step, away from its edges
		if name == "memory" {
			ns[name] = xs[len(xs)-1] // the farther from the cache, the more it is memory
		}
	}
	return names, ns
}

func memoryAnswer(rep *experiment.MemoryReport) string {
	names, ns := steps(rep.Latency)
	var parts []string
	for _, n := range names {
		parts = append(parts, nanoseconds(ns[n])+" ns from "+n)
	}
	answer := ""
	if len(parts) > 0 {
		answer = "A load takes " + enumerate(parts) + "."
	}
	if b := mostBandwidth(rep, true); b != nil {
		who := "one thread reads"
		if b.Threads > 1 {
			who = small(b.Threads) + " threads together read"
		}
		who = strings.ToUpper(who[:1]) + who[1:]
		answer += fmt.Sprintf(" %s %s GB/s.", who, short(b.GBs.Median))
	}
	return answer
}

// mostBandwidth is that of reading, of the most threads on the first node that
// was measured.
func mostBandwidth(rep *experiment.MemoryReport, local bool) *experiment.MemoryBandwidth {
	var most *experiment.MemoryBandwidth
	for i := range rep.Bandwidth {
		b := &rep.Bandwidth[i]
		if b.Kernel == experiment.Read && b.Local == local && b.GBs.Runs > 0 && (most == nil || b.Threads > most.Threads) {
			most = b
		}
	}
	return most
}

// staircaseChart is a bar for each size, on a logarithmic scale.
func staircaseChart(p *page, rows []experiment.MemoryLatency) {
	least, most := math.Inf(1), 0.0
	for _, r := range rows {
		if r.NS.Median > 0 {
			least, most = min(least, r.NS.Median), max(most, r.NS.Median)
		}
	}
	if most == 0 {
		return
	}
	p.heading("One load, by what is loaded from")
	table := [][]string{{"size", "fits", "ns", "", "huge pages"}}
	for i, r := range rows {
		row := []string{cacheSize(r.Size), r.Fits, inUnit(&r.NS, ""), "", ""}
		if i > 0 && rows[i-1].Fits == r.Fits {
			row[1] = ""
		}
		if h := r.HugeBytes; h != nil && *h > 0 {
			row[4] = decimal(100*float64(*h)/float64(r.Size), 0) + " %"
		}
		table = append(table, row)
	}
	alignRight(table, 0)
	width := 2
	for c := range table[0] {
		w := 0
		for _, r := range table {
			w = max(w, runes(r[c]))
		}
		width += w + 2
	}
	length := min(p.width-width, 40)
	if length < 8 {
		length = 0 // no room for bars
	}
	for i, r := range rows {
		if length > 0 && r.NS.Median > 0 {
			// A tenth is left to the least, so that it is seen.
			share := 0.1 + 0.9*math.Log(r.NS.Median/least)/max(math.Log(most/least), 1e-9)
			table[i+1][3] = bar(share, length)
		}
	}
	fitted(p, table, 4)
	if length > 0 {
		p.line(p.paint(dim, "  Bars are logarithmic."))
	}
}

// bar is a share of some columns, in eighths.
func bar(share float64, columns int) string {
	eighths := int(math.Round(min(max(share, 0), 1) * float64(columns) * 8))
	s := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		s += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return s
}

func bandwidthTable(p *page, rep *experiment.MemoryReport) {
	if len(rep.Bandwidth) == 0 {
		return
	}
	heading := "Bandwidth, GB/s"
	if rep.Vectors != "" {
		heading += ", by " + rep.Vectors
	}
	p.heading(heading)
	rows := [][]string{{"threads", "CPUs", "node", "read", "copy", "triad"}}
	columns := map[string]int{experiment.Read: 3, experiment.Copy: 4, experiment.Triad: 5}
	nodes := slices.ContainsFunc(rep.Bandwidth, func(b experiment.MemoryBandwidth) bool { return b.Node != rep.Bandwidth[0].Node })
	at := map[string]int{}
	for _, b := range rep.Bandwidth {
		key := fmt.Sprint(b.Threads, b.CPUs, b.Node)
		if at[key] == 0 {
			at[key] = len(rows)
			row := []string{strconv.Itoa(b.Threads), cpuList(b.CPUs), "", "", "", ""}
			if nodes {
				row[2] = strconv.Itoa(b.Node)
				if !b.Local {
					row[2] += ", remote"
				}
			}
			rows = append(rows, row)
		}
		if c := columns[b.Kernel]; c > 0 {
			gbs := b.GBs
			rows[at[key]][c] = inUnit(&gbs, "")
		}
	}
	alignRight(rows, 0)
	fitted(p, rows, 1, 4)
}

func memorySeen(rep *experiment.MemoryReport) string {
	var out []string
	names, ns := steps(rep.Latency)
	if n := len(names); n > 1 && ns[names[0]] > 0 {
		out = append(out, fmt.Sprintf("%s is %s times as far as %s.", strings.ToUpper(names[n-1][:1])+names[n-1][1:], short(ns[names[n-1]]/ns[names[0]]), names[0]))
	}
	if one, all := oneAndAll(rep); one != nil && all != nil {
		out = append(out, fmt.Sprintf("%s threads read %s times as much as one.", numeral(all.Threads), short(all.GBs.Median/one.GBs.Median)))
	}
	if near, far := mostBandwidth(rep, true), mostBandwidth(rep, false); near != nil && far != nil {
		out = append(out, fmt.Sprintf("Another node's memory gives %s %% of the own one's.", decimal(100*far.GBs.Median/near.GBs.Median, 0)))
	}
	return strings.Join(out, " ")
}

// oneAndAll are the reading of one thread and that of the most; nil: there is
// one alone.
func oneAndAll(rep *experiment.MemoryReport) (one, all *experiment.MemoryBandwidth) {
	all = mostBandwidth(rep, true)
	if all == nil || all.Threads < 2 {
		return nil, nil
	}
	for i := range rep.Bandwidth {
		if b := &rep.Bandwidth[i]; b.Kernel == experiment.Read && b.Local && b.Threads == 1 && b.GBs.Median > 0 {
			return b, all
		}
	}
	return nil, nil
}

func memoryAdvice(rep *experiment.MemoryReport) string {
	if rep.Verdict != affinity.Measured {
		return nothingYet
	}
	var out []string
	if one, all := oneAndAll(rep); one != nil {
		if gain := all.GBs.Median / one.GBs.Median; gain < 0.8*float64(all.Threads) {
			out = append(out, fmt.Sprintf("Workers that stream through memory share %s GB/s: from about %s on, more of them get no more.", short(all.GBs.Median), small(int(math.Ceil(gain)))))
		} else {
			out = append(out, "Memory still has room for every core here: workers that stream through it multiply as others do.")
		}
	}
	if mostBandwidth(rep, false) != nil {
		out = append(out, "Let each worker fill its own memory, on its own node.")
	}
	out = append(out, "What a worker uses over and over should fit its core's own caches.")
	return strings.Join(out, " ")
}
