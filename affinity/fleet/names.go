//go:build linux

package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// mostNames bounds what a list of names may stand for.
const mostNames = 1 << 20

// ParseNames reads names of nodes: separated by commas or white space, numbers
// in brackets standing for several, as in n[001-127,130] or r[1-4]n[1-16]. Each
// name must pass [CheckName]; one that is named twice is there once.
func ParseNames(text string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, item := range splitNames(text) {
		names, err := expand(item, nil)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", item, err)
		}
		for _, name := range names {
			if err := CheckName(name); err != nil {
				return nil, err
			}
			if !seen[name] {
				seen[name] = true
				out = append(out, name)
			}
		}
		if len(out) > mostNames {
			return nil, fmt.Errorf("more than %d names", mostNames)
		}
	}
	return out, nil
}

// splitNames splits at commas and spaces that stand in no bracket.
func splitNames(text string) []string {
	inside := false
	return strings.FieldsFunc(text, func(r rune) bool {
		switch r {
		case '[':
			inside = true
		case ']':
			inside = false
		}
		return !inside && (r == ',' || unicode.IsSpace(r))
	})
}

// expand appends what one item stands for.
func expand(item string, out []string) ([]string, error) {
	before, rest, ok := strings.Cut(item, "[")
	if !ok {
		if strings.Contains(item, "]") {
			return nil, errors.New("a ] without its [")
		}
		return append(out, item), nil
	}
	list, after, ok := strings.Cut(rest, "]")
	if !ok || strings.Contains(before, "]") || strings.Contains(list, "[") {
		return nil, errors.New("its brackets do not match")
	}
	tails, err := expand(after, nil)
	if err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(list, ",") {
		lo, hi, ranged := strings.Cut(strings.TrimSpace(part), "-")
		if !ranged {
			hi = lo
		}
		first, err1 := strconv.ParseUint(lo, 10, 60)
		last, err2 := strconv.ParseUint(hi, 10, 60)
		if err1 != nil || err2 != nil || last < first {
			return nil, fmt.Errorf("%q is neither a number nor a range of numbers", part)
		}
		width := 0
		if len(lo) > 1 && lo[0] == '0' {
			width = len(lo)
		}
		if last-first >= mostNames || (last-first+1)*uint64(len(tails)) > mostNames || len(out) > mostNames {
			return nil, fmt.Errorf("more than %d names", mostNames)
		}
		for n := first; n <= last; n++ {
			for _, tail := range tails {
				out = append(out, fmt.Sprintf("%s%0*d%s", before, width, n, tail))
			}
		}
	}
	return out, nil
}

// CheckName says whether a name may be handed to a program as that of a node.
// One that begins with a dash would be read as an option (so would the host
// behind a user's name), and anything but letters, digits and . _ - : @ %
// belongs to no host name that OpenSSH or Slurm takes.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("the name of a node is empty")
	case len(name) > 255:
		return fmt.Errorf("%.40q… is longer than any host's name", name)
	}
	for part := range strings.SplitSeq(name, "@") {
		if part == "" || part[0] == '-' {
			return fmt.Errorf("%q is not the name of a node: a part of it is empty or begins with a dash", name)
		}
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-:@%", r):
		default:
			return fmt.Errorf("%q is not the name of a node: it holds %q", name, r)
		}
	}
	return nil
}

// Compare orders names as people do: n2 before n10.
func Compare(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		if digits(x) > 0 && digits(y) > 0 {
			m, n := x[:digits(x)], y[:digits(y)]
			x, y = x[len(m):], y[len(n):]
			m, n = strings.TrimLeft(m, "0"), strings.TrimLeft(n, "0")
			if c := cmp.Or(len(m)-len(n), strings.Compare(m, n)); c != 0 {
				return c
			}
			continue
		}
		if x[0] != y[0] {
			return int(x[0]) - int(y[0])
		}
		x, y = x[1:], y[1:]
	}
	return cmp.Or(len(x)-len(y), strings.Compare(a, b))
}

// digits is how many of them a text begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// Fold writes names in few words, as n[001-127,130]; [ParseNames] reads that
// back. A name that would not survive this stands in quotes.
func Fold(names []string) string { return strings.Join(FoldedParts(names), ",") }

// FoldedParts are the parts of a folded list, in order.
func FoldedParts(names []string) []string {
	var plain, odd []string
	for _, name := range names {
		if CheckName(name) == nil {
			plain = append(plain, name)
		} else {
			odd = append(odd, strconv.Quote(name))
		}
	}
	slices.SortFunc(plain, Compare)
	// The numbers of a host first, then those of its rack.
	out := foldOnce(foldOnce(slices.Compact(plain)))
	slices.Sort(odd)
	return append(out, slices.Compact(odd)...)
}

// stem is a name around the number in which others differ from it.
type stem struct {
	before, after string
	width         int // 0: no zeros in front
}

// cutNumber finds the last number of what stands before the first dot or
// bracket; an address of numbers is cut at its last.
func cutNumber(item string) (before, number, after string, ok bool) {
	end := strings.IndexAny(item, ".[")
	if end < 0 || strings.Trim(item, "0123456789.") == "" {
		end = len(item)
	}
	for end > 0 && digits(item[end-1:]) == 0 {
		end--
	}
	start := end
	for start > 0 && digits(item[start-1:start]) == 1 {
		start--
	}
	if start == end || end-start > 18 {
		return "", "", "", false
	}
	return item[:start], item[start:end], item[end:], true
}

// foldOnce folds items, which are in order, on one number of each.
func foldOnce(items []string) []string {
	type numbers struct {
		widths map[int]bool
		of     map[int][]uint64 // by width
		done   map[int]bool
	}
	found := map[[2]string]*numbers{}
	for _, item := range items {
		if before, number, after, ok := cutNumber(item); ok {
			at := found[[2]string{before, after}]
			if at == nil {
				at = &numbers{map[int]bool{}, map[int][]uint64{}, map[int]bool{}}
				found[[2]string{before, after}] = at
			}
			if number[0] == '0' && len(number) > 1 {
				at.widths[len(number)] = true
			}
		}
	}
	widthOf := func(at *numbers, number string) int {
		if at.widths[len(number)] {
			return len(number)
		}
		return 0
	}
	for _, item := range items {
		if before, number, after, ok := cutNumber(item); ok {
			at := found[[2]string{before, after}]
			n, _ := strconv.ParseUint(number, 10, 64)
			w := widthOf(at, number)
			at.of[w] = append(at.of[w], n)
		}
	}
	var out []string
	for _, item := range items {
		before, number, after, ok := cutNumber(item)
		if !ok {
			out = append(out, item)
			continue
		}
		at := found[[2]string{before, after}]
		if w := widthOf(at, number); !at.done[w] {
			at.done[w] = true
			out = append(out, stem{before, after, w}.with(at.of[w]))
		}
	}
	return out
}

// with writes the names of a stem and several numbers.
func (s stem) with(numbers []uint64) string {
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	if len(numbers) == 1 {
		return fmt.Sprintf("%s%0*d%s", s.before, s.width, numbers[0], s.after)
	}
	var list []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		one := fmt.Sprintf("%0*d", s.width, numbers[i])
		if j > i {
			one += fmt.Sprintf("-%0*d", s.width, numbers[j])
		}
		list = append(list, one)
		i = j + 1
	}
	return s.before + "[" + strings.Join(list, ",") + "]" + s.after
}
