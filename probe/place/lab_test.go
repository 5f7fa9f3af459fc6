//go:build lab

package place_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/place"
	"berth/probe/topology"
)

var update = flag.Bool("update", false, "write the peers' answers to testdata")

// need finds a program, installing it where that is possible.
func need(t *testing.T, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil && os.Getuid() == 0 {
		if _, err := exec.LookPath("apt-get"); err == nil {
			out, err := exec.Command("sh", "-c", "apt-get install -y --no-install-recommends "+debian+
				" || { apt-get update && apt-get install -y --no-install-recommends "+debian+"; }").CombinedOutput()
			if err != nil {
				t.Logf("install %s: %v\n%s", debian, err, out)
			}
		}
		path, err = exec.LookPath(program)
	}
	if err != nil {
		t.Skipf("SKIPPED: %s is not here, and %s could not be installed: that takes root and apt-get", program, debian)
	}
	return path
}

// compare asks a peer all questions of a file again.
func compare(t *testing.T, file string, ask func(question) string) {
	t.Helper()
	var out bytes.Buffer
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	asked := corpus(t, file)
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, " => ") {
			out.WriteString(line)
			continue
		}
		q := asked[0]
		asked = asked[1:]
		got := ask(q)
		if got != q.answer && !*update {
			t.Errorf("%s on %s: %s is recorded, and the peer says %s", q.expr, q.machine, q.answer, got)
		}
		fmt.Fprintf(&out, "%s => %s\n", q.expr, got)
	}
	if *update {
		if err := os.WriteFile("testdata/"+file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// command runs a peer and returns both its outputs. That it failed is an answer;
// that it did not run is none.
func command(t *testing.T, env []string, name string, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), complaint.String()
}

func TestLabHwloc(t *testing.T) {
	calc := need(t, "hwloc-calc", "hwloc")
	compare(t, "hwloc.txt", func(q question) string {
		stdout, stderr := command(t, nil, calc, append([]string{"-i", q.machine, "--if", "synthetic"}, strings.Fields(q.expr)...)...)
		for line := range strings.Lines(stderr) {
			if !strings.HasPrefix(line, "Inserting a NUMA level") {
				return "error"
			}
		}
		// "0x1,,0x0" is 1,00000000,00000000 to the kernel.
		words := strings.Split(strings.TrimSpace(stdout), ",")
		for i, w := range words {
			if words[i] = strings.TrimPrefix(w, "0x"); words[i] == "" {
				words[i] = "0"
			}
		}
		set, err := cpuset.ParseMask(strings.Join(words, ","))
		if err != nil {
			t.Fatalf("%s: %v", q.expr, err)
		}
		if set.IsEmpty() || !set.SubsetOf(shape(t, q.machine).Online) {
			return "error"
		}
		if got := place.Hwloc(set); got != strings.TrimSpace(stdout) {
			t.Errorf("%s is %s in hwloc's form, and hwloc writes %s", set, got, stdout)
		}
		return set.String()
	})
}

// believer compiles the library that makes peers answer for another machine.
func believer(t *testing.T) string {
	gcc := need(t, "gcc", "gcc libc6-dev")
	library := filepath.Join(t.TempDir(), "affinity.so")
	if out, err := exec.Command(gcc, "-shared", "-fPIC", "-o", library, "testdata/affinity.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return library
}

func TestLabLikwid(t *testing.T) {
	pin := need(t, "likwid-pin", "likwid")
	generate := need(t, "likwid-genTopoCfg", "likwid")
	library := believer(t)
	own := filepath.Join(t.TempDir(), "own.cfg")
	if out, err := exec.Command(generate, "-o", own).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: likwid does not run here: %v\n%s", err, out)
	}
	base, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	configs := map[string]string{}
	compare(t, "likwid.txt", func(q question) string {
		machine := shape(t, q.machine)
		if configs[q.machine] == "" {
			configs[q.machine] = filepath.Join(t.TempDir(), strconv.Itoa(len(configs))+".cfg")
			if err := os.WriteFile(configs[q.machine], likwidConfig(string(base), machine), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		stdout, stderr := command(t, []string{"LD_PRELOAD=" + library, "PLACE_TOPOLOGY=" + configs[q.machine],
			"PLACE_CPUS=" + strconv.Itoa(machine.Online.Len())}, pin, "-p", "-c", q.expr)
		line := strings.TrimSpace(stdout)
		if stderr != "" || line == "" || strings.Trim(line, "0123456789,") != "" {
			return "error"
		}
		return strings.ReplaceAll(line, ",", " ")
	})
}

// likwidConfig describes a machine as likwid-genTopoCfg would, on top of what
// that says of the processor.
func likwidConfig(base string, m *topology.Topology) []byte {
	var b bytes.Buffer
	for line := range strings.Lines(base) {
		if strings.HasPrefix(line, "cpuid_info ") {
			b.WriteString(line)
		}
	}
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	l3 := m.Caches[0].CPUs.Len()
	width := m.SMT.Threads
	say("cpuid_topology numHWThreads = %d", m.Online.Len())
	say("cpuid_topology numThreadsPerCore = %d", width)
	say("cpuid_topology numCoresPerSocket = %d", len(m.Cores)/len(m.Packages))
	say("cpuid_topology numSockets = %d", len(m.Packages))
	say("cpuid_topology numDies = 0")
	say("cpuid_topology numCacheLevels = 3")
	for level, threads := range map[int]int{1: width, 2: width, 3: l3} {
		say("cpuid_topology cacheLevels %d type = UNIFIEDCACHE", level)
		say("cpuid_topology cacheLevels %d threads = %d", level, threads)
		for _, fact := range []string{"associativity", "sets", "lineSize", "size", "inclusive"} {
			say("cpuid_topology cacheLevels %d %s = 64", level, fact)
		}
	}
	for i, core := range m.Cores {
		thread := 0
		for c := range core.CPUs.All() {
			for pkg, p := range m.Packages {
				if p.CPUs.Contains(c) {
					say("cpuid_topology threadPool %d packageId = %d", c, pkg)
					say("cpuid_topology threadPool %d dieId = %d", c, pkg)
				}
			}
			say("cpuid_topology threadPool %d threadId = %d", c, thread)
			say("cpuid_topology threadPool %d coreId = %d", c, i)
			say("cpuid_topology threadPool %d apicId = %d", c, c)
			thread++
		}
	}
	say("numa_info numberOfNodes = %d", len(m.NUMANodes))
	for i, node := range m.NUMANodes {
		say("numa_info nodes %d id = %d", i+1, node.ID)
		say("numa_info nodes %d freeMemory = 1000000", i+1)
		say("numa_info nodes %d totalMemory = 1000000", i+1)
		say("numa_info nodes %d numberOfProcessors = %d", i+1, node.CPUs.Len())
		say("numa_info nodes %d numberOfDistances = %d", i+1, len(m.NUMANodes))
		n := 0
		for _, core := range m.Cores {
			for c := range core.CPUs.Intersect(node.CPUs).All() {
				n++
				say("numa_info nodes %d processors %d = %d", i+1, n, c)
			}
		}
		for j := range m.NUMANodes {
			say("numa_info nodes %d distances %d = 10", i+1, j)
		}
	}
	return b.Bytes()
}

func TestLabOpenMP(t *testing.T) {
	library := believer(t)
	program := filepath.Join(t.TempDir(), "places")
	if out, err := exec.Command("gcc", "-fopenmp", "-o", program, "testdata/places.c").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: gcc compiles no OpenMP here: %v\n%s", err, out)
	}
	compare(t, "omp.txt", func(q question) string {
		stdout, stderr := command(t, []string{"LD_PRELOAD=" + library, "OMP_PLACES=" + q.expr,
			"PLACE_CPUS=" + strconv.Itoa(shape(t, q.machine).Online.Len())}, program)
		if stderr != "" {
			return "error"
		}
		var places []cpuset.Set
		for line := range strings.Lines(stdout) {
			set, err := cpuset.Parse(line)
			if err != nil {
				t.Fatal(err)
			}
			places = append(places, set)
		}
		return list(places)
	})
}
