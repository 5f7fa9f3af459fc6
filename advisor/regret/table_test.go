//go:build lab

package regret

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// text is one program's part: its speed by count, and what berth saw of it.
func (r *result) text() string {
	rates := looks{}
	for _, k := range r.Looks {
		if k.Error == "" {
			rates[k.N] = append(rates[k.N], k.Rate)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: best with %d, %.4g %s/s; %d looks, %.0f s; service %.1f %% of a CPU, others %.1f %% of all\n",
		r.Program, r.Best, r.Rate, r.Unit, len(r.Looks), r.Seconds, r.Service, r.Others)
	for _, n := range slices.Sorted(maps.Keys(rates)) {
		i := intervalOf(rates[n])
		fmt.Fprintf(&b, "  %3d  %9.4g  ±%5.1f %%  %3d looks  regret %5.1f %%\n", n, i.middle, 100*i.width(), len(rates[n]), 100*rates.regret(n))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "  seen: %s\n", note)
	}
	return b.String()
}

func number(x *float64) string {
	if x == nil {
		return "?"
	}
	return strconv.FormatFloat(*x, 'g', 3, 64)
}

// table is all programs with all rules, and what the rules lose on the whole.
func table(all []*result) string {
	head := []string{"program", "class", "cpu ms", "wait ms", "native ms", "util", "service %", "others %", "best n", "X/s", "unit"}
	rows := [][]string{append(head, ruleOrder...)}
	for _, r := range all {
		row := []string{r.Program, r.Class, number(r.CPUMS), number(r.WaitMS), number(r.NativeMS), number(r.OnCPU),
			fmt.Sprintf("%.0f", r.Service), fmt.Sprintf("%.0f", r.Others), strconv.Itoa(r.Best), fmt.Sprintf("%.4g", r.Rate), r.Unit}
		for _, rule := range ruleOrder {
			n, ok := r.Counts[rule]
			if x, known := r.RegretPct[rule]; ok && known {
				row = append(row, fmt.Sprintf("%d: %.1f %%", n, x))
			} else {
				row = append(row, "-")
			}
		}
		rows = append(rows, row)
	}
	for _, what := range []struct {
		name string
		of   func([]float64) float64
	}{{"median", median}, {"mean", mean}, {"worst", slices.Max[[]float64]}} {
		row := append([]string{what.name}, slices.Repeat([]string{""}, len(head)-1)...)
		for _, rule := range ruleOrder {
			var xs []float64
			for _, r := range all {
				if x, ok := r.RegretPct[rule]; ok {
					xs = append(xs, x)
				}
			}
			if len(xs) == 0 {
				row = append(row, "-")
				continue
			}
			row = append(row, fmt.Sprintf("%.1f %%", what.of(xs)))
		}
		rows = append(rows, row)
	}
	return aligned(rows)
}

func mean(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	return sum / float64(len(xs))
}

func aligned(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-len([]rune(cell))+2))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
