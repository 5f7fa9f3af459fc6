package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
)

// cacheSize is exact: 48 KiB, 1.25 MiB, but 1408 KiB, which is 1.375 MiB.
func cacheSize(bytes int64) string {
	for _, unit := range [...]struct {
		name  string
		shift int
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		one := int64(1) << unit.shift
		if hundredths := bytes * 100; bytes >= one && hundredths%one == 0 {
			return strconv.FormatFloat(float64(bytes)/float64(one), 'f', -1, 64) + " " + unit.name
		}
	}
	if bytes >= 1<<10 && bytes%(1<<10) != 0 {
		return fmt.Sprintf("%.2f KiB", float64(bytes)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// memorySize is rounded to a tenth of the unit that leaves it readable.
func memorySize(bytes int64) string {
	value, unit := float64(bytes), "bytes"
	for _, larger := range [...]string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if math.Round(value*10)/10 < 1024 {
			break
		}
		value, unit = value/1024, larger
	}
	return decimal(value, 1) + " " + unit
}

// decimal rounds to a number of places and drops zeros at the end.
func decimal(value float64, places int) string {
	scale := math.Pow10(places)
	return strconv.FormatFloat(math.Round(value*scale)/scale, 'f', -1, 64)
}

// cpuTime is an amount of CPU time per time, in CPUs. Little is never shown as
// nothing.
func cpuTime(cpus float64) string {
	if places := 3; cpus >= 0.001 {
		return decimal(cpus, places)
	}
	return strconv.FormatFloat(cpus, 'g', 2, 64)
}

// count puts a number before its noun: 1 core, 2 cores.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if noun == "die" || !strings.HasSuffix(noun, "y") {
		return fmt.Sprintf("%d %ss", n, noun)
	}
	return fmt.Sprintf("%d %sies", n, noun[:len(noun)-1])
}

// numbers writes object numbers as a list with ranges; they have no limit as
// CPU numbers have.
func numbers(ids []int) string {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	var b strings.Builder
	for i := 0; i < len(ids); {
		j := i
		for j+1 < len(ids) && ids[j+1] == ids[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(ids[i]))
		if j > i {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(ids[j]))
		}
		i = j + 1
	}
	return b.String()
}

// cpuWord is "CPU 3" or "CPUs 0-3".
func cpuWord(set cpuset.Set) string {
	if set.Len() == 1 {
		return "CPU " + set.String()
	}
	return "CPUs " + set.String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
