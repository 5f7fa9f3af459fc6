package advisor

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// plural counts in words.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// inList writes names as a sentence does: a, b and c.
func inList(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// number writes a figure for a sentence: four digits, no exponent where people
// would not use one.
func number(x float64) string {
	if x == math.Trunc(x) && math.Abs(x) < 1e15 {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	digits := 4 - 1 - int(math.Floor(math.Log10(math.Abs(x))))
	if digits > 8 {
		return strconv.FormatFloat(x, 'g', 3, 64)
	}
	digits = max(digits, 0)
	scale := math.Pow10(digits)
	return strconv.FormatFloat(math.Round(x*scale)/scale, 'f', -1, 64)
}

// floorLog2 is the binary logarithm rounded down; of less than 1, 0.
func floorLog2(n int) int { return max(0, bits.Len(uint(max(n, 0)))-1) }
