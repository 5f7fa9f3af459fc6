//go:build linux

package tune

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// MostWorkers bounds a count.
const MostWorkers = 65536

// Counts are numbers of workers to choose from: ascending, none twice.
type Counts struct {
	all []int
	// open: where the largest is the best, larger ones are tried, up to most.
	open bool
	most int
}

// reach reports whether a count is within them, or may come to be.
func (c Counts) reach(n int) bool {
	return c.open || n >= c.all[0] && n <= c.all[len(c.all)-1]
}

// All are the counts.
func (c Counts) All() []int { return slices.Clone(c.all) }

// CountsFor are those worth a try where the time of so many CPUs may be used:
// all up to twice as many, some more, and beyond these as long as it gets better.
func CountsFor(budget float64) Counts {
	b := max(1, int(math.Ceil(budget-1e-9)))
	c := Counts{open: true, most: min(max(64*b, 256), MostWorkers)}
	for n := 1; n <= 2*b; n++ {
		c.all = append(c.all, n)
	}
	for _, n := range [...]int{3 * b, 4 * b, 6 * b, 8 * b} {
		c.add(n)
	}
	return c
}

// ParseCounts reads a list of counts and ranges: 1,2,4  1-8  1..64, by steps as
// 2..16:2 and by factors as 1..64:x2.
func ParseCounts(text string) (Counts, error) {
	var c Counts
	for _, item := range strings.Split(text, ",") {
		if err := c.parse(strings.TrimSpace(item)); err != nil {
			return Counts{}, fmt.Errorf("%q: %w", shorten(text), err)
		}
	}
	slices.Sort(c.all)
	c.all = slices.Compact(c.all)
	return c, nil
}

func (c *Counts) parse(item string) error {
	span, step, stepped := strings.Cut(item, ":")
	from, to, ranged := strings.Cut(span, "..")
	if !ranged {
		from, to, ranged = strings.Cut(span, "-")
	}
	first, err := number(from)
	if err != nil {
		return err
	}
	if !ranged {
		if stepped {
			return fmt.Errorf("a step follows a range, and %s is none", shorten(span))
		}
		c.all = append(c.all, first)
		return nil
	}
	last, err := number(to)
	if err != nil {
		return err
	}
	if last < first {
		return fmt.Errorf("%d..%d runs backwards", first, last)
	}
	next := func(n int) int { return n + 1 }
	if stepped {
		digits, factor := strings.CutPrefix(step, "x")
		by, err := number(digits)
		switch {
		case err != nil:
			return err
		case factor && by < 2:
			return fmt.Errorf("a factor of 1 leads nowhere")
		case factor:
			next = func(n int) int { return n * by }
		default:
			next = func(n int) int { return n + by }
		}
	}
	for n := first; n <= last; n = next(n) {
		if len(c.all) >= MostWorkers {
			return fmt.Errorf("that is more than %d counts", MostWorkers)
		}
		c.all = append(c.all, n)
	}
	return nil
}

func number(text string) (int, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	switch {
	case text == "":
		return 0, fmt.Errorf("a number is missing")
	case err != nil:
		return 0, fmt.Errorf("%q is not a number", shorten(text))
	case n < 1 || n > MostWorkers:
		return 0, fmt.Errorf("%d is not a number of workers from 1 to %d", n, MostWorkers)
	}
	return int(n), nil
}

func shorten(text string) string {
	if len(text) <= 40 {
		return text
	}
	return strings.ToValidUTF8(text[:37], "") + "…"
}

// coarse is how many counts are measured first, where there are more.
const coarse = 8

// grid are the counts to measure first: all if they are few, else some that are
// as many times apart, and those that must be among them.
func (c Counts) grid(must ...int) []int {
	if len(c.all) <= coarse {
		return c.All()
	}
	first, last := float64(c.all[0]), float64(c.all[len(c.all)-1])
	var out []int
	for i := range coarse {
		out = append(out, c.nearest(first*math.Pow(last/first, float64(i)/(coarse-1))))
	}
	for _, n := range must {
		if _, ok := slices.BinarySearch(c.all, n); ok {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (c Counts) nearest(x float64) int {
	best := c.all[0]
	for _, n := range c.all {
		if math.Abs(float64(n)-x) < math.Abs(float64(best)-x) {
			best = n
		}
	}
	return best
}

// between is a count about half way between two, as far as there is one.
func (c Counts) between(low, high int) (n int, ok bool) {
	i, _ := slices.BinarySearch(c.all, low+1)
	j, _ := slices.BinarySearch(c.all, high)
	if i >= j {
		return 0, false
	}
	return c.all[(i+j)/2], true
}

func (c *Counts) add(n int) {
	if i, ok := slices.BinarySearch(c.all, n); !ok {
		c.all = slices.Insert(c.all, i, n)
	}
}

// grow adds a count beyond the largest, where that is allowed.
func (c *Counts) grow() (n int, ok bool) {
	last := c.all[len(c.all)-1]
	if !c.open || last >= c.most {
		return 0, false
	}
	n = min(2*last, c.most)
	c.add(n)
	return n, true
}
