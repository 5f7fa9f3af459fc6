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
	if strings.HasSuffix(noun, "s") {
		return fmt.Sprintf("%d %ses", n, noun)
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

// cpuList is a set as a person likes to read it: with every second CPU as
// 0-30:2, which berth, taskset and the kernel read too.
func cpuList(set cpuset.Set) string {
	items := strings.Split(set.String(), ",")
	var out []string
	for i := 0; i < len(items); {
		first, stride, n := strideOf(items[i:])
		if n < 4 {
			out = append(out, items[i])
			i++
			continue
		}
		out = append(out, fmt.Sprintf("%d-%d:%d", first, first+(n-1)*stride, stride))
		i += n
	}
	return strings.Join(out, ",")
}

// strideOf tells how many single CPUs at the front are equally far apart.
func strideOf(items []string) (first, stride, n int) {
	last := 0
	for i, item := range items {
		cpu, err := strconv.Atoi(item)
		switch {
		case err != nil: // a range
			return first, stride, i
		case i == 0:
			first = cpu
		case i == 1:
			stride = cpu - last
		case cpu-last != stride:
			return first, stride, i
		}
		last = cpu
	}
	return first, stride, len(items)
}

// cpuWord is "CPU 3" or "CPUs 0-3".
func cpuWord(set cpuset.Set) string {
	if set.Len() == 1 {
		return "CPU " + set.String()
	}
	return "CPUs " + cpuList(set)
}
