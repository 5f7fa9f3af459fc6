package cgroup

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"berth/probe/finding"
)

// member is a line of /proc/self/cgroup: the group of the process in one
// hierarchy.
type member struct {
	controllers []string // none for version 2
	path        string
}

// members reads the groups of the process (cgroups(7)). Without that file, as
// on kernels before 2.6.24 and in old dumps, /proc/self/cpuset names the one of
// the cpuset controller, and named is true.
func (s *scan) members() (all []member, named bool) {
	if text, ok := s.Text("/proc/self/cgroup"); ok {
		return parseMembers(text), false
	}
	if text, ok := s.Text("/proc/self/cpuset"); ok && strings.HasPrefix(text, "/") {
		return []member{{[]string{"cpuset"}, text}}, true
	}
	return nil, false
}

func parseMembers(text string) []member {
	var all []member
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimRight(line, "\r\n\x00"), ":", 3)
		if len(fields) != 3 || !strings.HasPrefix(fields[2], "/") {
			continue
		}
		m := member{path: strings.TrimSuffix(fields[2], " (deleted)")}
		if fields[1] != "" {
			m.controllers = strings.Split(fields[1], ",")
		}
		all = append(all, m)
	}
	return all
}

// mount is a mounted hierarchy, or a part of one.
type mount struct {
	root    string // the group that the mount shows as its top
	point   string
	kind    string   // cgroup, cgroup2 or cpuset
	options []string // the controllers are among them
}

// mounts reads the mount table.
func (s *scan) mounts() []mount {
	if text, ok := s.Text("/proc/self/mountinfo"); ok {
		return parseMountinfo(text)
	}
	for _, name := range [...]string{"/proc/self/mounts", "/proc/mounts"} {
		if text, ok := s.Text(name); ok {
			return parseMounts(text)
		}
	}
	return nil
}

// parseMountinfo reads the format of proc_pid_mountinfo(5):
//
//	36 35 98:0 /root /point options optional… - type source super-options
func parseMountinfo(text string) []mount {
	var all []mount
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(strings.TrimRight(line, "\r\n\x00"), " - ")
		front, back := strings.Fields(before), strings.Fields(after)
		if !ok || len(front) < 6 || len(back) < 1 {
			continue
		}
		m := mount{root: unescape(front[3]), point: unescape(front[4]), kind: back[0]}
		if len(back) > 2 {
			m.options = strings.Split(back[2], ",")
		}
		all = append(all, m)
	}
	return visible(all)
}

// parseMounts reads the format of fstab(5), which does not tell a mount's root.
func parseMounts(text string) []mount {
	var all []mount
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		all = append(all, mount{root: "/", point: unescape(fields[1]), kind: fields[2], options: strings.Split(fields[3], ",")})
	}
	return visible(all)
}

// visible keeps the mounts of control groups that no later mount lies over.
func visible(all []mount) []mount {
	var out []mount
	for i, m := range all {
		if (m.kind != "cgroup" && m.kind != "cgroup2" && m.kind != "cpuset") || !path.IsAbs(m.point) {
			continue
		}
		m.point = path.Clean(m.point)
		covers := func(later mount) bool { return path.IsAbs(later.point) && within(m.point, path.Clean(later.point)) }
		if !slices.ContainsFunc(all[i+1:], covers) {
			out = append(out, m)
		}
	}
	return out
}

// within reports whether p is dir or below it; both are clean.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}

// unescape turns the octal escapes of the mount table (\040 is a space) back.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// hierarchy is a mounted hierarchy in which the process has a group.
type hierarchy struct {
	point  string // where it is mounted
	root   string // the group that the mount shows as its top
	member string // the process's group, as the kernel names it
	below  string // the same, below the mount's top
	v2     bool
	prefix string // of the cpuset files
}

// controllers whose limits are read.
var limiting = [...]string{"cpu", "cpuset", "memory"}

// hierarchies pairs the process's groups that limit with the mounts that show
// them. cpusetOnly says that the members were guessed from the cpuset's alone.
func hierarchies(members []member, mounts []mount, cpusetOnly bool, found *finding.List) []hierarchy {
	var out []hierarchy
	for _, m := range members {
		if !wanted(m.controllers) {
			continue
		}
		if h, ok := locate(m, mounts, cpusetOnly); ok {
			out = append(out, h)
			continue
		}
		if slices.ContainsFunc(mounts, func(mt mount) bool { return mt.shows(m, cpusetOnly) }) {
			found.Add("limits-hidden-above", finding.Info, []string{"/proc/self/cgroup: " + shorten(m.path)},
				"No mount shows the control group of this process (a cgroup namespace or a partial mount); the budget is an upper bound.")
		}
	}
	slices.SortStableFunc(out, func(a, b hierarchy) int { return cmp.Compare(a.point, b.point) })
	return out
}

// locate finds the mount that shows a group. One hierarchy may be mounted in
// several places and in parts: the mount that shows the most groups above the
// group is taken.
func locate(m member, mounts []mount, cpusetOnly bool) (best hierarchy, ok bool) {
	for _, mt := range mounts {
		if h, fits := pair(m, mt, cpusetOnly); fits && (!ok || len(h.root) < len(best.root)) {
			best, ok = h, true
		}
	}
	return best, ok
}

func wanted(controllers []string) bool {
	if len(controllers) == 0 {
		return true // version 2
	}
	return slices.ContainsFunc(limiting[:], func(c string) bool { return slices.Contains(controllers, c) })
}

// shows reports whether the mount is of the member's hierarchy.
func (mt mount) shows(m member, cpusetOnly bool) bool {
	switch mt.kind {
	case "cgroup2":
		return len(m.controllers) == 0 || cpusetOnly
	case "cpuset":
		return slices.Contains(m.controllers, "cpuset")
	}
	return slices.ContainsFunc(m.controllers, func(c string) bool { return slices.Contains(mt.options, c) })
}

// hierarchy is what the mount shows, before a group of it is chosen.
func (mt mount) hierarchy() hierarchy {
	h := hierarchy{point: mt.point, root: mt.root, v2: mt.kind == "cgroup2", prefix: "cpuset."}
	if mt.kind == "cpuset" || slices.Contains(mt.options, "noprefix") {
		h.prefix = ""
	}
	return h
}

// pair places a member's group in a mount.
func pair(m member, mt mount, cpusetOnly bool) (hierarchy, bool) {
	if !mt.shows(m, cpusetOnly) {
		return hierarchy{}, false
	}
	h := mt.hierarchy()
	h.member = m.path
	member, top := path.Clean(m.path), path.Clean(mt.root)
	switch {
	case strings.HasPrefix(m.path, "/.."):
		// The process is outside its namespace's root: of what it may see,
		// the mount's top is the nearest.
		h.below, h.root = "/", mt.root
	case strings.HasPrefix(mt.root, "/.."):
		// Mounted outside the namespace: the way down to the group has no name.
		return hierarchy{}, false
	case within(member, top):
		h.below = path.Join("/", strings.TrimPrefix(member, strings.TrimSuffix(top, "/")))
	default:
		return hierarchy{}, false
	}
	return h, true
}
