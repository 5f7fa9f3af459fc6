//go:build linux

package observe

import (
	"cmp"
	"math"
	"slices"

	"berth/profiles"
)

const (
	shortestPhase = 2   // windows
	distinct      = 0.3 // how far apart the waits of two neighbours are
	mostPhases    = 40
)

func sortBy[T any](xs []T, key func(T) float64) {
	slices.SortStableFunc(xs, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}

// phases finds stretches of windows that differ from their neighbours: in class,
// and far enough apart that it is no wavering around a limit. None: it was all
// of a kind.
func phases(windows []window, f *facts) []Phase {
	type stretch struct {
		from, to int // windows
		class    profiles.Class
	}
	var all []stretch
	for i := range windows {
		class := judge(&windows[i], f).class
		if n := len(all); n > 0 && all[n-1].class == class {
			all[n-1].to = i + 1
			continue
		}
		all = append(all, stretch{i, i + 1, class})
	}
	// A stretch that is too short, as where a phase ends within a window, goes
	// to the one before it; at the start, to the one behind it.
	var long []stretch
	from := 0
	for i, s := range all {
		n := len(long)
		switch short := s.to-s.from < shortestPhase; {
		case n > 0 && (short || long[n-1].class == s.class):
			long[n-1].to, from = s.to, s.to
		case !short || i == len(all)-1:
			s.from = from
			long, from = append(long, s), s.to
		}
	}
	var found []Phase
	var waits []float64
	for _, s := range long {
		w := merged(windows[s.from:s.to])
		j := judge(&w, f)
		n := len(found)
		if n > 0 && (found[n-1].Class == j.class || math.Abs(waits[n-1]-j.waits) < distinct && !apart(found[n-1].Class, j.class)) {
			found[n-1].ToS = w.to
			continue
		}
		found = append(found, Phase{w.from, w.to, j.class, j.split.onCPU})
		waits = append(waits, j.waits)
	}
	if len(found) < 2 || len(found) > mostPhases {
		return nil
	}
	return found
}

// apart reports whether two classes differ by more than the share of waits.
func apart(a, b profiles.Class) bool {
	plain := func(c profiles.Class) bool {
		return c == profiles.CPUBound || c == profiles.Mixed || c == profiles.IOBoundBlocking || c == profiles.IOBoundAsync
	}
	return !plain(a) || !plain(b)
}
