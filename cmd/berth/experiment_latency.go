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
	"berth/probe/cpuset"
)

// latencyView sums pairs of CPUs up by what they share, then shows them all.
func latencyView(p *page, rep *experiment.LatencyReport) {
	opening(p, &rep.Report, latencyAnswer(rep))
	if len(rep.Classes) > 0 {
		p.gap()
		rows := [][]string{{"they share", "pairs", "median ns", "least", "most"}}
		for _, c := range rep.Classes {
			rows = append(rows, []string{c.Shares, strconv.Itoa(c.Pairs), nanoseconds(c.Median), nanoseconds(c.Least), nanoseconds(c.Most)})
		}
		alignRight(rows, 1, 2, 3, 4)
		fitted(p, rows)
		heatMap(p, rep)
	}
	seen := fmt.Sprintf("%d of %s of CPUs.", rep.Pairs, count(rep.Of, "pair"))
	if near, far := latencyEnds(rep); near != nil && far != near {
		seen += fmt.Sprintf(" What shares no more than the %s takes %s times as long as what shares a %s.", far.Shares, short(far.Median/near.Median), near.Shares)
	}
	closing(p, &rep.Report, [][2]string{
		{"done", "Two threads on two CPUs passed a cache line to and fro by atomic operations; a figure is half a round trip."},
		{"expected", "The more two CPUs share, the less: siblings share a core's own caches, cores a last-level cache, nodes a package; between packages it is slowest."},
		{"seen", seen},
		{"for a pool", latencyAdvice(rep)},
	})
}

// latencyEnds are the closest and the farthest class.
func latencyEnds(rep *experiment.LatencyReport) (near, far *experiment.LatencyClass) {
	if len(rep.Classes) == 0 {
		return nil, nil
	}
	return &rep.Classes[0], &rep.Classes[len(rep.Classes)-1]
}

func latencyAnswer(rep *experiment.LatencyReport) string {
	if len(rep.Classes) == 0 {
		return ""
	}
	var parts []string
	for _, c := range rep.Classes {
		parts = append(parts, fmt.Sprintf("%s ns %s", nanoseconds(c.Median), sharing(c.Shares)))
	}
	return "A cache line goes from one CPU to another in " + enumerate(parts) + "."
}

func sharing(what string) string {
	switch what {
	case "machine":
		return "between packages"
	case "core":
		return "between the siblings of a core"
	}
	return "within one " + what
}

func latencyAdvice(rep *experiment.LatencyReport) string {
	near, far := latencyEnds(rep)
	switch {
	case near == nil:
		return ""
	case rep.Verdict != affinity.Measured:
		return nothingYet
	case far.Median > 1.5*near.Median:
		return fmt.Sprintf("Workers that share what they often write, a lock or a counter, belong on CPUs that share a %s; those that share nothing can sit anywhere.", near.Shares)
	}
	return "As far as this goes, workers that share data can sit on any of these CPUs; a lock that all of them want costs about this much each time it changes hands."
}

func nanoseconds(x float64) string {
	if x < 10 {
		return decimal(x, 1)
	}
	return decimal(x, 0)
}

// shades are steps of a logarithmic scale.
var shades = [...]struct{ cell, colour string }{{"░", green}, {"▒", cyan}, {"▓", yellow}, {"█", red}}

// heat is where values lie between the least and the most of them.
type heat struct{ least, most float64 }

func (h *heat) step(x float64) int {
	if h.most <= h.least*1.1 { // all alike
		return 0
	}
	at := math.Log(x/h.least) / math.Log(h.most/h.least)
	return min(max(int(at*float64(len(shades))), 0), len(shades)-1)
}

// from is the least value of a step.
func (h *heat) from(step int) float64 {
	return h.least * math.Pow(h.most/h.least, float64(step)/float64(len(shades)))
}

// mostShades is the rows of shades that fit a screen.
const mostShades = 48

// heatMap is a matrix of all pairs: of figures where they fit, else of shades,
// each of which stands for a few CPUs if there are very many.
func heatMap(p *page, rep *experiment.LatencyReport) {
	n := len(rep.CPUs)
	var h heat
	widest := len(strconv.Itoa(int(slices.Max(rep.CPUs))))
	for _, row := range rep.NS {
		for _, x := range row {
			if x == nil || *x <= 0 {
				continue
			}
			if h.least == 0 || *x < h.least {
				h.least = *x
			}
			h.most = max(h.most, *x)
			widest = max(widest, runes(nanoseconds(*x)))
		}
	}
	if h.least == 0 {
		return
	}
	p.heading("From each CPU to each, one way, ns")
	label := len(strconv.Itoa(int(slices.Max(rep.CPUs))))
	if 2+label+n*(widest+2) <= p.width {
		figureMap(p, rep, &h, label, widest)
		return
	}
	each := 1 // CPUs in a cell
	for n > each*min(p.width-20, mostShades) {
		each *= 2 // as caches and nodes are counted
	}
	shadeMap(p, rep, &h, each)
}

func figureMap(p *page, rep *experiment.LatencyReport, h *heat, label, width int) {
	right := func(s string, n int) string { return strings.Repeat(" ", max(0, n-runes(s))) + s }
	line := "  " + strings.Repeat(" ", label)
	for _, c := range rep.CPUs {
		line += "  " + right(fmt.Sprint(c), width)
	}
	p.line(p.paint(dim, line))
	for i, row := range rep.NS {
		line := "  " + p.paint(dim, right(fmt.Sprint(rep.CPUs[i]), label))
		for _, x := range row {
			cell := "·"
			colour := dim
			if x != nil {
				cell, colour = nanoseconds(*x), shades[h.step(*x)].colour
			}
			line += "  " + right("", width-runes(cell)) + p.paint(colour, cell)
		}
		p.line(line)
	}
}

func shadeMap(p *page, rep *experiment.LatencyReport, h *heat, each int) {
	groups := slices.Collect(slices.Chunk(rep.CPUs, each))
	labels := make([]string, len(groups))
	label := 0
	for i, g := range groups {
		labels[i] = shorten(cpuList(cpuset.Of(g...)), ",", 12)
		label = max(label, runes(labels[i]))
	}
	for i := range groups {
		line := "  " + p.paint(dim, pad(labels[i], label)) + "  "
		for j := range groups {
			sum, n := 0.0, 0
			for a := i * each; a < min((i+1)*each, len(rep.CPUs)); a++ {
				for b := j * each; b < min((j+1)*each, len(rep.CPUs)); b++ {
					if x := rep.NS[a][b]; x != nil {
						sum += *x
						n++
					}
				}
			}
			if n == 0 {
				line += "·"
				continue
			}
			s := shades[h.step(sum/float64(n))]
			line += p.paint(s.colour, s.cell)
		}
		p.line(line)
	}
	var legend []string
	for i, s := range shades {
		legend = append(legend, p.paint(s.colour, s.cell)+" from "+nanoseconds(h.from(i)))
		if h.most <= h.least*1.1 {
			break
		}
	}
	p.line("  " + strings.Join(legend, "  ") + " ns")
	note := "  Columns are in the order of the rows"
	if each > 1 {
		note += fmt.Sprintf("; a cell is the mean of %d × %d CPUs", each, each)
	}
	p.wrapped(note+".", " ", "  ")
}
