// Package snapshot writes the machine that this program runs on to a tar
// archive that replays it elsewhere: `berth inspect --sysroot FILE` gives the
// same answer there, and hwloc and lscpu can read the unpacked folder too.
//
// It holds no host name, no serial numbers, UUIDs or MAC addresses, nothing of
// other processes, and the names of control groups are replaced, one for one.
package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"berth/probe"
	"berth/probe/cpuid"
	"berth/probe/cpuset"
	"berth/probe/root"
)

// Write reads this machine and writes the archive, uncompressed. Its entries
// depend on nothing but the machine: they are sorted and carry no times.
func Write(ctx context.Context, w io.Writer) error {
	tree := newRecording()
	source := probe.Source{Root: &root.Root{Dir: tree.top(), Live: true, Name: "/"}}
	m, err := probe.Probe(ctx, source)
	if err != nil {
		return err
	}
	tree.completeCPUs()
	// What uname says, where hwloc looks for it.
	tree.add("/proc/hwloc-nofile-info", fmt.Appendf(nil, "OSName: Linux\nOSRelease: %s\nArchitecture: %s\n", m.Host.Kernel, m.Host.Arch))
	if m.Limits.Affinity != nil {
		tree.add("/proc/self/status", fmt.Appendf(nil, "Cpus_allowed_list:\t%s\n", *m.Limits.Affinity))
	}
	if err := tree.addCPUID(ctx, m.Topology.Allowed.Minus(quiet(m))); err != nil {
		return err
	}
	tree.scrub()
	return tree.write(w)
}

// quiet is the CPUs that are kept free of disturbance.
func quiet(m *probe.Machine) cpuset.Set {
	var sets []cpuset.Set
	for _, s := range []*cpuset.Set{m.Topology.Isolated, m.Topology.NohzFull} {
		if s != nil {
			sets = append(sets, *s)
		}
	}
	return cpuset.UnionAll(sets...)
}

// addCPUID adds a file cpuid/puN for each of the given CPUs.
func (t *recording) addCPUID(ctx context.Context, cpus cpuset.Set) error {
	dump, _, err := cpuid.Live(ctx, cpus, cpuid.Everything)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	for c := range dump.CPUs().All() {
		var b bytes.Buffer
		if err := dump.WritePU(&b, c); err != nil {
			return fmt.Errorf("snapshot: write CPUID of CPU %d: %w", c, err)
		}
		t.add(fmt.Sprintf("/cpuid/pu%d", c), b.Bytes())
	}
	return nil
}

// completeCPUs reads the rest of /proc/cpuinfo and of the CPU and node folders.
// [probe.Probe] had no need of it, as another CPU's files say the same, but
// other tools read them all.
func (t *recording) completeCPUs() {
	cpu, node := "/sys/devices/system/cpu", "/sys/devices/system/node"
	t.readAll("/proc", "cpuinfo")
	t.readAll(cpu, "online", "offline", "present", "possible", "isolated", "nohz_full", "kernel_max")
	t.readAll(cpu+"/smt", "control", "active")
	t.readAll(node, "online", "possible", "has_cpu", "has_memory", "has_normal_memory")
	for _, name := range t.numbered(cpu, "cpu") {
		base := path.Join(cpu, name)
		t.readAll(base, "online", "cpu_capacity")
		t.readAll(base+"/topology", t.names(base+"/topology")...)
		t.readAll(base+"/acpi_cppc", "highest_perf", "nominal_perf", "lowest_perf", "nominal_freq")
		t.readAll(base+"/regs/identification", "midr_el1")
		t.readAll(base+"/cpufreq", "cpuinfo_max_freq", "cpuinfo_min_freq", "base_frequency")
		for _, index := range t.numbered(base+"/cache", "index") {
			t.readAll(path.Join(base, "cache", index), "id", "level", "type", "size", "coherency_line_size", "ways_of_associativity",
				"number_of_sets", "physical_line_partition", "shared_cpu_list", "shared_cpu_map")
		}
	}
	for _, name := range t.numbered(node, "node") {
		t.readAll(path.Join(node, name), "cpulist", "cpumap", "meminfo", "distance")
	}
}

// write puts the tree into an archive.
func (t *recording) write(w io.Writer) error {
	tw := tar.NewWriter(w)
	folders := map[string]bool{"/": true, ".": true}
	var mkdir func(string) error
	mkdir = func(dir string) error {
		if folders[dir] {
			return nil
		}
		folders[dir] = true
		if err := mkdir(path.Dir(dir)); err != nil {
			return err
		}
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755})
	}
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		e := t.entries[name]
		h := &tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: 0o644}
		switch {
		case e.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		case e.folder:
			if err := mkdir(name); err != nil {
				return fmt.Errorf("write snapshot: %w", err)
			}
			continue
		default:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.data))
		}
		if err := mkdir(path.Dir(name)); err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write snapshot: %s: %w", name, err)
		}
		if _, err := tw.Write(e.data); err != nil {
			return fmt.Errorf("write snapshot: %s: %w", name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}
