package snapshot

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// scrub takes out what identifies the machine, its owner or other users.
func (t *recording) scrub() {
	for name, e := range t.entries {
		switch {
		case name == "/proc/cpuinfo":
			e.data = filterLines(e.data, keepCPUInfo)
		case name == "/proc/meminfo":
			e.data = filterLines(e.data, func(l string) (string, bool) { return l, strings.HasPrefix(l, "MemTotal:") })
		case name == "/proc/sysinfo": // s390x
			e.data = filterLines(e.data, keepSysinfo)
		case strings.HasPrefix(name, "/sys/devices/system/node/") && path.Base(name) == "meminfo":
			e.data = filterLines(e.data, func(l string) (string, bool) { return l, strings.Contains(l, " MemTotal:") })
		case name == "/proc/version", // names the builder's host; osrelease has the release
			strings.Contains(e.link, "/devices/virtual/"): // tunnels and bridges have telling names
			delete(t.entries, name)
			continue
		default:
			continue
		}
		t.entries[name] = e
	}
	t.renameGroups()
	t.renameNICs()
}

// filterLines keeps and rewrites lines.
func filterLines(data []byte, keep func(string) (string, bool)) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		text, end := strings.CutSuffix(line, "\n")
		if text, ok := keep(text); ok {
			b.WriteString(text)
			if end {
				b.WriteByte('\n')
			}
		}
	}
	return []byte(b.String())
}

// keepCPUInfo drops the serial number of an Arm board and the identification
// of an s390x processor.
func keepCPUInfo(line string) (string, bool) {
	key, _, _ := strings.Cut(line, ":")
	if strings.TrimSpace(key) == "Serial" {
		return "", false
	}
	const mark = "identification = "
	if i := strings.Index(line, mark); i >= 0 {
		rest := line[i+len(mark):]
		end := strings.IndexByte(rest+",", ',')
		line = line[:i+len(mark)] + strings.Repeat("0", end) + rest[end:]
	}
	return line, true
}

// keepSysinfo keeps the lines that tell the hypervisor, without names.
func keepSysinfo(line string) (string, bool) {
	switch key, _, _ := strings.Cut(line, ":"); {
	case strings.HasSuffix(key, "Control Program"), key == "LPAR Number", key == "Manufacturer", key == "Type":
		return line, true
	}
	return "", false
}

// genericGroups are names of control groups that every machine of a sort has
// and that tell which engine made them.
var genericGroups = [...]string{"kubepods", "kubepods.slice", "besteffort", "burstable", "kubepods-besteffort.slice", "kubepods-burstable.slice",
	"docker", "lxc", "system.slice", "user.slice", "machine.slice", "init.scope"}

// renameGroups replaces the names in cgroup paths, each by one of its own, in
// the membership, the mount table and the paths of the groups' files.
func (t *recording) renameGroups() {
	to := map[string]string{}
	rename := func(group string) string {
		parts := strings.Split(group, "/")
		for i, part := range parts {
			if part == "" || part == "." || part == ".." || slices.Contains(genericGroups[:], part) {
				continue
			}
			if to[part] == "" {
				to[part] = fmt.Sprintf("group-%d", len(to)+1)
			}
			parts[i] = to[part]
		}
		return strings.Join(parts, "/")
	}
	const membership, mountinfo = "/proc/self/cgroup", "/proc/self/mountinfo"
	if e, ok := t.entries[membership]; ok {
		e.data = filterLines(e.data, func(line string) (string, bool) {
			fields := strings.SplitN(line, ":", 3)
			if len(fields) != 3 {
				return "", false
			}
			fields[2] = rename(fields[2])
			return strings.Join(fields, ":"), true
		})
		t.entries[membership] = e
	}
	if e, ok := t.entries["/proc/self/cpuset"]; ok {
		e.data = filterLines(e.data, func(line string) (string, bool) { return rename(line), true })
		t.entries["/proc/self/cpuset"] = e
	}
	var mounts []string
	if e, ok := t.entries[mountinfo]; ok {
		e.data, mounts = scrubMounts(e.data, rename)
		t.entries[mountinfo] = e
	}
	for _, name := range []string{"/proc/self/mounts", "/proc/mounts"} { // mountinfo says it all
		if len(mounts) > 0 {
			delete(t.entries, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		e := t.entries[name]
		for _, m := range mounts {
			if rest, ok := strings.CutPrefix(name, m+"/"); ok {
				dir, file := path.Split(rest)
				if e.folder {
					dir, file = rest, ""
				}
				if moved := path.Join(m, rename(dir), file); moved != name {
					delete(t.entries, name)
					t.entries[moved] = e
				}
				break
			}
		}
	}
}

// scrubMounts keeps the mounts of control groups and those that lie over or
// under them, with nothing of the latter but their place. It returns the cgroup
// mount points, longest first.
func scrubMounts(data []byte, rename func(string) string) ([]byte, []string) {
	isGroup := func(fields []string) bool {
		i := slices.Index(fields, "-")
		return i >= 6 && i+1 < len(fields) && (fields[i+1] == "cgroup" || fields[i+1] == "cgroup2" || fields[i+1] == "cpuset")
	}
	var mounts []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); isGroup(fields) {
			mounts = append(mounts, fields[4])
		}
	}
	slices.SortFunc(mounts, func(a, b string) int { return len(b) - len(a) })
	kept := filterLines(data, func(line string) (string, bool) {
		fields := strings.Fields(line)
		if isGroup(fields) {
			fields[3] = rename(fields[3])
			return strings.Join(fields, " "), true
		}
		i := slices.Index(fields, "-")
		if i < 6 || i+1 >= len(fields) {
			return "", false
		}
		above := func(m string) bool {
			return m == fields[4] || strings.HasPrefix(m, strings.TrimSuffix(fields[4], "/")+"/")
		}
		if !slices.ContainsFunc(mounts, above) {
			return "", false
		}
		fields[3] = "/"
		return strings.Join(append(fields[:i+2], "none", "rw"), " "), true
	})
	return kept, mounts
}

// renameNICs takes the MAC address out of names as systemd makes them
// (systemd.net-naming-scheme(7): enx and wlx with twelve digits).
func (t *recording) renameNICs() {
	to := map[string]string{}
	clean := func(text string) string {
		parts := strings.Split(text, "/")
		for i, part := range parts {
			if len(part) == 15 && strings.Trim(part[3:], "0123456789abcdef") == "" && (part[:3] == "enx" || part[:3] == "wlx") {
				if to[part] == "" {
					to[part] = fmt.Sprintf("%s-%d", part[:3], len(to)+1)
				}
				parts[i] = to[part]
			}
		}
		return strings.Join(parts, "/")
	}
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		e := t.entries[name]
		moved, link := clean(name), clean(e.link)
		if moved != name || link != e.link {
			delete(t.entries, name)
			e.link = link
			t.entries[moved] = e
		}
	}
}
