//go:build linux

package program

import (
	"debug/buildinfo"
	"debug/elf"
	"slices"
	"strconv"
	"strings"

	"berth/probe/binary"
	"berth/probe/tasks"
)

// goBuild is how a program of Go was built.
type goBuild struct {
	version string // go1.26.1; empty unknown
	// debug is its GODEBUG settings, name=value with commas between; a main
	// module that asks for an older Go gets the older ways by them.
	debug string
}

func (b *goBuild) String() string {
	if b.version == "" {
		return "an unknown version of Go"
	}
	return b.version
}

// goBuildOf reads it from a program's file; nil: Go did not build it. Of other
// files, however large, only the table of sections is read.
func goBuildOf(name string) *goBuild {
	f, err := binary.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	file, err := elf.NewFile(f)
	if err != nil || file.Section(".go.buildinfo") == nil && file.Section(".gopclntab") == nil {
		return nil
	}
	info, err := buildinfo.Read(f)
	if err != nil {
		return &goBuild{}
	}
	b := &goBuild{version: info.GoVersion}
	for _, s := range info.Settings {
		if s.Key == "DefaultGODEBUG" {
			b.debug = s.Value
		}
	}
	return b
}

// goProcs adds the GOMAXPROCS that a program goes by where it was not told one:
// the CPUs that it might use when it began and, from Go 1.25 on, those that it
// may use now and the CPU quota of its control group; that of a group above does
// not count, though it binds (the doc comment of runtime.GOMAXPROCS, and
// runtime/cgroup_linux.go of 1.26).
func (x *Program) goProcs(p tasks.Proc, pid int, built *goBuild, environ []byte) {
	told := slices.ContainsFunc(x.Settings, func(s Setting) bool {
		n, err := strconv.Atoi(s.Value)
		return s.Name == "GOMAXPROCS" && err == nil && n > 0
	})
	if told || built == nil || built.version == "" {
		return
	}
	if built.mindsQuota(variable(environ, "GODEBUG")) {
		x.Settings = append(x.Settings, Setting{"GOMAXPROCS", Auto, "not set: " + built.version + " follows the CPUs that it may use and the CPU quota of its own control group, of none above"})
		return
	}
	data, err := p.ReadFile(strconv.Itoa(pid) + "/status")
	if err != nil {
		return
	}
	status, err := tasks.ParseStatus(data)
	if err != nil || status.Allowed.IsEmpty() {
		return
	}
	x.Settings = append(x.Settings, Setting{"GOMAXPROCS", strconv.Itoa(status.Allowed.Len()), "not set: the CPUs that it may use, if they were the same at its start, as " + built.version + " minds no quota"})
}

// mindsQuota reports whether GOMAXPROCS follows the CPU quota. The environment's
// GODEBUG goes before the build's, and the last of a name before the others.
func (b *goBuild) mindsQuota(environment string) bool {
	for _, list := range []string{environment, b.debug} {
		all := strings.Split(list, ",")
		for _, s := range slices.Backward(all) {
			if name, value, _ := strings.Cut(s, "="); name == "containermaxprocs" {
				return value != "0"
			}
		}
	}
	rest, ok := strings.CutPrefix(b.version, "go1.")
	if !ok {
		return false
	}
	if end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		rest = rest[:end]
	}
	minor, err := strconv.Atoi(rest)
	return err == nil && minor >= 25
}
