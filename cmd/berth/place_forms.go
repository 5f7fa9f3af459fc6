package main

import (
	"fmt"
	"strings"

	"berth/probe/cpuset"
)

// placeForm is one way to write the CPUs or the places down.
type placeForm struct {
	name, about string
	value       func(*placeDocument) string
}

// placeForms lists the forms in the order in which --help explains them.
func placeForms() []placeForm {
	return []placeForm{
		{"list", "0-3,8: a CPU list, as taskset -c, isolcpus=, docker --cpuset-cpus and hwloc take it", func(d *placeDocument) string { return d.List.String() }},
		{"cpuset", "the same, a value of cpuset.cpus or AllowedCPUs=", func(d *placeDocument) string { return d.CPUSet.String() }},
		{"mems", "0-1: the NUMA nodes next to them, a value of cpuset.mems", func(d *placeDocument) string { return d.Mems }},
		{"mask", "0xff: one hexadecimal number", func(d *placeDocument) string { return d.Mask }},
		{"taskset", "the same, as taskset takes it without -c", func(d *placeDocument) string { return d.Taskset }},
		{"smp_affinity", "ff,00000000: a mask for the kernel's files, as /proc/irq/N/smp_affinity", func(d *placeDocument) string { return d.SMPAffinity }},
		{"hwloc", "0x000000ff,0x0: a mask for hwloc-bind and hwloc-calc", func(d *placeDocument) string { return d.Hwloc }},
		{"logical", "0-3: their logical numbers (L#), for lists of hwloc and likwid", func(d *placeDocument) string { return d.Logical }},
		{"kubernetes", "0-3,8: kubelet's reservedSystemCPUs, which its static policy keeps free", func(d *placeDocument) string { return d.Kubernetes }},
		{"systemd", "CPUAffinity=0-3 8: a line of a unit", func(d *placeDocument) string { return d.Systemd }},
		{"numactl", "--physcpubind=0-3 --membind=0: arguments of numactl; no nodes where none is known", func(d *placeDocument) string { return d.Numactl }},
		{"omp", "{0:4},{4:4}: the places, a value of OMP_PLACES", func(d *placeDocument) string { return d.OMP }},
		{"omp-strides", "{0:4}:2:4: the same, places at equal distances written once", func(d *placeDocument) string { return d.OMPStrides }},
		{"gomp", "0-3 8: a value of GOMP_CPU_AFFINITY, a CPU for each thread in turn", func(d *placeDocument) string { return d.GOMP }},
		{"kmp", "a value of KMP_AFFINITY for Intel's and LLVM's OpenMP, a place for each thread in turn", func(d *placeDocument) string { return d.KMP }},
	}
}

func formNames() []string {
	var names []string
	for _, f := range placeForms() {
		names = append(names, f.name)
	}
	return names
}

// formHelp is a line for each form, for --help.
func formHelp() string {
	var b strings.Builder
	for _, f := range placeForms() {
		fmt.Fprintf(&b, "  %-12s  %s\n", f.name, f.about)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// systemdAffinity is a line of a unit (systemd.exec(5), CPUAffinity=).
func systemdAffinity(set cpuset.Set) string {
	return "CPUAffinity=" + strings.ReplaceAll(set.String(), ",", " ")
}

// numactlArguments binds to the CPUs, and to the memory next to them where it
// is known (numactl(8)).
func numactlArguments(set cpuset.Set, mems string) string {
	arguments := "--physcpubind=" + set.String()
	if mems != "" {
		arguments += " --membind=" + mems
	}
	return arguments
}

// gompAffinity is a value of GOMP_CPU_AFFINITY (libgomp's manual): CPUs in
// order, those of a place that follow each other as a range. A place has no form
// there: its CPUs go to threads one by one.
func gompAffinity(places []cpuset.Set) string {
	var parts []string
	for _, set := range places {
		parts = append(parts, strings.ReplaceAll(set.String(), ",", " "))
	}
	return strings.Join(parts, " ")
}

// kmpAffinity is a value of KMP_AFFINITY with an explicit list: a place of
// several CPUs in braces (the compilers' guides, "Thread Affinity Interface").
func kmpAffinity(places []cpuset.Set) string {
	var parts []string
	for _, set := range places {
		var cpus []string
		for c := range set.All() {
			cpus = append(cpus, fmt.Sprint(int(c)))
		}
		if len(cpus) == 1 {
			parts = append(parts, cpus[0])
		} else {
			parts = append(parts, "{"+strings.Join(cpus, ",")+"}")
		}
	}
	return "granularity=fine,proclist=[" + strings.Join(parts, ",") + "],explicit"
}

// ompStrides is a value of OMP_PLACES (OpenMP specification, "OMP_PLACES"),
// with {first:CPUs:stride}:places:stride for places alike at equal distances.
func ompStrides(places []cpuset.Set) string {
	var parts []string
	for i := 0; i < len(places); {
		n, stride := alike(places[i:])
		part := "{" + strings.Join(intervals(places[i]), ",") + "}"
		if n > 1 {
			part += fmt.Sprintf(":%d", n)
			if stride != 1 {
				part += fmt.Sprintf(":%d", stride)
			}
		}
		parts = append(parts, part)
		i += n
	}
	return strings.Join(parts, ",")
}

// alike counts the places that are the first one, moved on by one distance each.
// Two are no series: writing both out is plainer.
func alike(places []cpuset.Set) (n, stride int) {
	if len(places) < 3 {
		return 1, 0
	}
	stride = int(places[1].First() - places[0].First())
	for n = 1; n < len(places) && moved(places[n-1], places[n], stride); n++ {
	}
	if n < 3 || stride == 0 {
		return 1, 0
	}
	return n, stride
}

func moved(a, b cpuset.Set, by int) bool {
	if a.Len() != b.Len() {
		return false
	}
	for c := range a.All() {
		if !b.Contains(c + cpuset.CPU(by)) {
			return false
		}
	}
	return true
}

// intervals writes a set as OpenMP's intervals: 4, 0:4 and, for every second and
// the like, 0:4:2.
func intervals(set cpuset.Set) []string {
	var cpus []int
	for c := range set.All() {
		cpus = append(cpus, int(c))
	}
	var parts []string
	for i := 0; i < len(cpus); {
		n, stride := 1, 1
		if i+1 < len(cpus) {
			stride = cpus[i+1] - cpus[i]
			for i+n < len(cpus) && cpus[i+n]-cpus[i+n-1] == stride {
				n++
			}
			if n == 2 && stride > 1 {
				n = 1
			}
		}
		switch {
		case n == 1:
			parts = append(parts, fmt.Sprint(cpus[i]))
		case stride == 1:
			parts = append(parts, fmt.Sprintf("%d:%d", cpus[i], n))
		default:
			parts = append(parts, fmt.Sprintf("%d:%d:%d", cpus[i], n, stride))
		}
		i += n
	}
	return parts
}
