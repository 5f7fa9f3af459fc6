//go:build linux

package apply

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"

	"berth/advisor"
	"berth/advisor/emit"
	"berth/advisor/emit/check"
)

// systemd takes the name of a service or the path to its unit; the drop-in is
// beside the unit, or where those of the administrator or the user are
// (systemd.unit(5)).
func systemd(_ *advisor.Plan, at string, o Options) (*place, error) {
	dir, unit := filepath.Split(at)
	unit, err := serviceName(unit)
	if err != nil {
		return nil, err
	}
	out := &place{name: unit}
	manager, units := "systemctl", []string{dir}
	switch {
	case dir != "" && o.User:
		return nil, fmt.Errorf("%s says where the unit is, and the user's units are elsewhere", at)
	case dir != "":
		if err := folder(dir); err != nil {
			return nil, err
		}
	case o.User:
		config, err := os.UserConfigDir()
		if err != nil {
			return nil, err
		}
		dir, manager = filepath.Join(config, "systemd/user"), "systemctl --user"
		units = []string{dir, "/etc/systemd/user", "/run/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user"}
		if home, err := os.UserHomeDir(); err == nil {
			units = append(units, filepath.Join(home, ".local/share/systemd/user"))
		}
	default:
		dir = "/etc/systemd/system"
		units = []string{dir, "/run/systemd/system", "/run/systemd/generator", "/run/systemd/transient", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
		if err := folder(dir); err != nil {
			return nil, err
		}
	}
	if !slices.ContainsFunc(units, func(dir string) bool { return hasUnit(dir, unit) }) {
		out.notes = append(out.notes, fmt.Sprintf("there is no unit %s in %s: the drop-in counts once there is one", unit, strings.Join(units, ", ")))
	}
	out.path = filepath.Join(dir, unit+".d", emit.DropIn+".conf")
	out.then = fmt.Sprintf("%[1]s daemon-reload && %[1]s restart %[2]s", manager, quoted(unit))
	return out, nil
}

// hasUnit looks for a unit, or the template that it is an instance of.
func hasUnit(dir, unit string) bool {
	names := []string{unit}
	if prefix, _, ok := strings.Cut(unit, "@"); ok {
		names = append(names, prefix+"@.service")
	}
	return slices.ContainsFunc(names, func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return err == nil
	})
}

var unitPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?\.service$`)
})

// serviceName is that of a unit that may be written without its suffix, as
// systemctl takes it.
func serviceName(name string) (string, error) {
	switch suffix := filepath.Ext(name); suffix {
	case ".service":
	case ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer", ".slice", ".scope":
		return "", fmt.Errorf("%s is no service, and the settings are those of one", name)
	default:
		name += ".service"
	}
	if len(name) > 255 || name[0] == '.' || !unitPattern().MatchString(name) {
		return "", fmt.Errorf("%q is not the name of a service", name)
	}
	return name, nil
}

// quoted is a word for a command line that a person pastes.
func quoted(word string) string {
	if strings.ContainsAny(word, " \\'\"$`&;|<>()*?[]#~!{}\t\n") {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

// The files that Compose reads when it is told of none, and the one that it adds
// to them: the first of each that there is (docs.docker.com, "How Compose
// works"; compose-go, cli.DefaultFileNames and cli.DefaultOverrideFileNames).
var (
	composeFiles     = []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"}
	composeOverrides = []string{"compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"}
)

func firstOf(dir string, names []string) (string, bool) {
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return name, true
		}
	}
	return "", false
}

// compose takes a Compose file or its folder, and a service of it.
func compose(_ *advisor.Plan, at string, o Options) (*place, error) {
	path, service := at, ""
	info, err := os.Stat(path)
	if i := strings.LastIndexByte(at, ':'); err != nil && i >= 0 {
		path, service = at[:i], at[i+1:]
		info, err = os.Stat(path)
	}
	if err != nil {
		return nil, err
	}
	dir, base := filepath.Split(path)
	if info.IsDir() {
		dir, base = path, ""
	}
	if dir == "" {
		dir = "."
	}
	first, ok := firstOf(dir, composeFiles)
	switch {
	case !ok:
		return nil, fmt.Errorf("%s has none of %s, and beside another file Compose takes no override by itself", dir, strings.Join(composeFiles, ", "))
	case base != "" && base != first:
		return nil, fmt.Errorf("%s is not the file beside which Compose takes an override by itself: %s is", path, filepath.Join(dir, first))
	}
	services, err := composeServices(filepath.Join(dir, first))
	if err != nil {
		return nil, err
	}
	switch {
	case service == "" && len(services) == 1:
		service = services[0]
	case service == "":
		return nil, fmt.Errorf("%s has the services %s: name one, as %s:%s", filepath.Join(dir, first), strings.Join(services, ", "), path, services[0])
	case !slices.Contains(services, service):
		return nil, fmt.Errorf("%s has no service %s; it has %s", filepath.Join(dir, first), service, strings.Join(services, ", "))
	}
	override, there := firstOf(dir, composeOverrides)
	if !there {
		override = "compose.override.yaml"
	}
	out := &place{path: filepath.Join(dir, override), name: service, then: "docker compose up --detach, in " + dir}
	if there && !o.Force {
		// Whether it is ours is for Find to say; a broken one is not.
		if others, err := composeServices(out.path); err == nil && !slices.Contains(others, service) {
			return nil, &NotOurs{out.path, "it is about service " + strings.Join(others, ", ") + ", and Compose takes one override (--force replaces it)"}
		}
	}
	return out, nil
}

// composeServices are the names of a Compose file's services, in order.
func composeServices(path string) ([]string, error) {
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	var file struct{ Services map[string]yaml.Node }
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(file.Services) == 0 {
		return nil, fmt.Errorf("%s has no services", path)
	}
	var out []string
	for name := range file.Services {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

var includeDir = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?im)^[ \t]*include_dir[ \t]*[= \t][ \t]*(?:'((?:[^'\n]|'')*)'|([a-z][\w.:/-]*))[ \t]*(?:#.*)?\r?$`)
})

// postgresql takes postgresql.conf or its folder; the file goes where include_dir
// says (PostgreSQL manual, section "Managing Configuration File Contents").
func postgresql(p *advisor.Plan, at string, _ Options) (*place, error) {
	if info, err := os.Stat(at); err == nil && info.IsDir() {
		at = filepath.Join(at, "postgresql.conf")
	}
	text, err := read(at)
	if err != nil {
		return nil, err
	}
	all := includeDir().FindAllSubmatchIndex(text, -1)
	if all == nil {
		return nil, fmt.Errorf("%s includes no folder; add the line include_dir = 'conf.d' at its end", at)
	}
	last := all[len(all)-1]
	var dir string
	if last[2] >= 0 {
		dir = strings.ReplaceAll(string(text[last[2]:last[3]]), "''", "'")
	} else {
		dir = string(text[last[4]:last[5]])
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(filepath.Dir(at), dir)
	}
	out := &place{path: filepath.Join(dir, emit.DropIn+".conf"), then: "restart the server: systemctl restart postgresql, or pg_ctl restart"}
	// What is read later counts.
	out.differing(p, at, text, last[1])
	files, _ := filepath.Glob(filepath.Join(escaped(dir), "*.conf")) // in order; dir may not be there yet
	for _, file := range files {
		if filepath.Base(file) > emit.DropIn+".conf" && !strings.HasPrefix(filepath.Base(file), ".") {
			if text, err := read(file); err == nil {
				out.differing(p, file, text, 0)
			}
		}
	}
	return out, nil
}

// escaped is a path for filepath.Glob.
func escaped(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// differing notes the settings of a file, from some byte on, that are read after
// the plan's and say something else.
func (out *place) differing(p *advisor.Plan, name string, text []byte, from int) {
	report, err := check.Check(p, name, text[from:], "postgresql")
	if err != nil {
		return // the server's to say
	}
	line := strings.Count(string(text[:from]), "\n")
	for _, f := range report.Findings {
		if f.Verdict == check.Differs || f.Verdict == check.Unclear {
			out.notes = append(out.notes, fmt.Sprintf("%s:%d says %s = %s, and is read after the plan's %s", name, line+f.Line, f.Setting, f.Found, f.Planned))
		}
	}
}

// haproxy takes a folder that haproxy is started with: it reads all files in it
// that end with .cfg, in the order of their names (HAProxy management guide,
// section 3, option -f).
func haproxy(_ *advisor.Plan, at string, _ Options) (*place, error) {
	if err := folder(at); err != nil {
		return nil, fmt.Errorf("%w; give the one that haproxy is started with by -f", err)
	}
	return &place{path: filepath.Join(at, emit.DropIn+".cfg"), then: "restart haproxy: systemctl restart haproxy",
		notes: []string{"haproxy reads the folder where it is started with -f " + quoted(at) + ", after -f for its main file (Debian: EXTRAOPTS in /etc/default/haproxy)"}}, nil
}

// grub takes the folder of GRUB's defaults, which grub-mkconfig reads after
// /etc/default/grub (Debian and its kin).
func grub(_ *advisor.Plan, at string, _ Options) (*place, error) {
	if err := folder(at); err != nil {
		return nil, fmt.Errorf("%w; on Debian and its kin GRUB's defaults are in /etc/default/grub.d", err)
	}
	return &place{path: filepath.Join(at, emit.DropIn+".cfg"), then: "update-grub && systemctl reboot"}, nil
}
