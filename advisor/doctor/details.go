//go:build linux

package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/probe/root"
	"berth/profiles/program"
)

// details asks about the processes that worked, those with most work first,
// what sampling does not tell.
func (c *collector) details() {
	demands, trees := c.demands(), c.treeDemands()
	var judged []*Process
	for _, pid := range slices.Sorted(maps.Keys(c.Processes)) {
		if p := c.Processes[pid]; c.judged(p, trees[pid]) && !p.Kernel {
			judged = append(judged, p)
		}
	}
	slices.SortStableFunc(judged, func(a, b *Process) int { return cmp.Compare(trees[b.PID], trees[a.PID]) })
	var late, denied []string
	nodes := len(c.Machine.Topology.NUMANodes)
	began, memory := time.Now(), time.Duration(0)
	for _, p := range judged {
		if c.Settings.Autogroup {
			if text, err := c.proc.ReadFile(fmt.Sprintf("%d/autogroup", p.PID)); err == nil {
				p.Session = parseSession(string(text))
			}
		}
		if text, err := c.proc.ReadFile(fmt.Sprintf("%d/status", p.PID)); err == nil {
			p.SwapBytes = parseSwap(string(text))
		}
		if time.Since(began)-memory > programTime {
			late = append(late, name(p))
			continue
		}
		p.Program, _ = program.Of(c.proc, p.PID) // nil: it has ended
		if nodes < 2 || demands[p.PID] < Working {
			continue
		}
		if memory < memoryTime {
			start := time.Now()
			var err error
			if p.Memory, err = c.proc.NUMAMaps(p.PID); errors.Is(err, fs.ErrPermission) {
				denied = append(denied, name(p))
			}
			memory += time.Since(start)
		} else {
			late = append(late, name(p))
		}
		p.Devices = openDevices(c.files, p.PID)
	}
	for i := range c.Threads {
		c.Threads[i].Memory = c.Processes[c.Threads[i].PID].Memory
	}
	if denied != nil {
		c.unseen("where the memory of %s lies is not known: that takes the right to trace them", someOf(denied))
	}
	if late != nil {
		c.unseen("what runs in %s, or where its memory lies, was not asked: those before took too long", someOf(late))
	}
}

// someOf joins names, and says how many more there are.
func someOf(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// mostDescriptors bounds how many open files of a process are looked at.
const mostDescriptors = 1024

// openDevices finds the devices that a process holds open and whose place on
// the PCI bus a file tells: GPUs by their nodes in /dev/dri and, for NVIDIA's
// driver, by its "Device Minor"; InfiniBand and NVMe devices by their names. A
// socket does not tell its network card.
func openDevices(r root.Reader, pid int) []OpenDevice {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	var open []OpenDevice
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil // another user's, or gone
	}
	for _, entry := range all[:min(len(all), mostDescriptors)] {
		target, err := os.Readlink(dir + "/" + entry.Name())
		if err != nil || !strings.HasPrefix(target, "/dev/") || slices.ContainsFunc(open, func(d OpenDevice) bool { return d.File == target }) {
			continue
		}
		if pci := pciOf(r, target); pci != "" {
			open = append(open, OpenDevice{target, pci})
		}
	}
	return open
}

// pciOf is the PCI address of the device behind a file of /dev; empty where it
// cannot be told.
func pciOf(r root.Reader, file string) string {
	base := path.Base(file)
	switch {
	case strings.HasPrefix(file, "/dev/dri/"):
		return linkBase(r, "/sys/class/drm/"+base+"/device")
	case strings.HasPrefix(file, "/dev/infiniband/"):
		return linkBase(r, "/sys/class/infiniband_verbs/"+base+"/device")
	case strings.HasPrefix(base, "nvme"):
		controller, _, _ := strings.Cut(strings.TrimPrefix(base, "nvme"), "n")
		return linkBase(r, "/sys/class/nvme/nvme"+controller+"/device")
	case strings.HasPrefix(base, "nvidia"):
		minor := strings.TrimPrefix(base, "nvidia")
		for _, bus := range names(r, "/proc/driver/nvidia/gpus") {
			text, _ := r.Text("/proc/driver/nvidia/gpus/" + bus + "/information")
			for line := range strings.Lines(text) {
				if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "Device Minor" && strings.TrimSpace(value) == minor {
					return bus
				}
			}
		}
	}
	return ""
}

// linkBase is the last part of a link to a PCI device; empty where it is none.
func linkBase(r root.Reader, link string) string {
	target, err := r.ReadLink(link)
	base := path.Base(target)
	if err != nil || strings.Count(base, ":") != 2 {
		return ""
	}
	return base
}
