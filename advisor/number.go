package advisor

import (
	"math"
	"strconv"
)

// plural counts in words.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
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
