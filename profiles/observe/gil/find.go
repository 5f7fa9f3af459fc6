//go:build linux

package gil

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"berth/probe/binary"
	"berth/probe/tasks"
)

// symbol is _PyRuntime in a process.
type symbol struct {
	path         string
	layout       layout
	at, size     uint64
	freeThreaded bool // by its file's name
}

// holds are the names of files that can hold an interpreter: its program or its
// library, with a t where it is free-threaded.
var holds = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:lib)?python(?:\d(?:\.\d+)?)?(t?)d?m?u?(?:\.so.*)?$`)
})

// interpreter finds the file that holds _PyRuntime, and where that is.
func interpreter(p tasks.Proc, pid int) (symbol, error) {
	maps, err := p.ReadFile(strconv.Itoa(pid) + "/maps")
	if err != nil {
		return symbol{}, err
	}
	none := ErrNotPython
	tried := ""
	for line := range strings.Lines(string(maps)) {
		m, ok := parseMap(line)
		if !ok || m.path == tried {
			continue
		}
		tried = m.path
		name := holds().FindStringSubmatch(filepath.Base(m.path))
		if name == nil {
			continue
		}
		s, err := find(p, pid, m)
		if errors.Is(err, ErrNoSymbol) {
			none = err // its library, which may have it, comes later
			continue
		}
		s.freeThreaded = name[1] != ""
		return s, err
	}
	return symbol{}, none
}

// open opens the file of a mapping.
func open(p tasks.Proc, pid int, m mapping) (*binary.File, error) {
	if !m.deleted {
		// In its own root, since the process may be in a container.
		f, err := binary.OpenIn(path(p, pid, "root"), m.path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	f, err := binary.Open(path(p, pid, "map_files/"+m.span))
	if err != nil {
		return nil, fmt.Errorf("%w: its file %s is not there any more, and only root may read what was: restart it", ErrNotFound, m.path)
	}
	return f, nil
}

// find looks for _PyRuntime in the file of a mapping.
func find(p tasks.Proc, pid int, m mapping) (symbol, error) {
	f, err := open(p, pid, m)
	if err != nil {
		return symbol{}, err
	}
	defer f.Close()
	file, err := elf.NewFile(f)
	if err != nil {
		return symbol{}, fmt.Errorf("%w: %s is not to be read as ELF: %v", ErrNotFound, m.path, err)
	}
	for _, kind := range [...]elf.SectionType{elf.SHT_DYNSYM, elf.SHT_SYMTAB} {
		symbols, err := binary.Symbols(file, kind)
		if err != nil {
			continue
		}
		i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "_PyRuntime" && s.Section != elf.SHN_UNDEF })
		if i < 0 {
			continue
		}
		bias, err := bias(file, m)
		return symbol{path: m.path, layout: layoutOf(file), at: symbols[i].Value + bias, size: symbols[i].Size}, err
	}
	return symbol{}, fmt.Errorf("%s: %w", m.path, ErrNoSymbol)
}

// bias is what was added to a file's addresses when it was loaded.
func bias(file *elf.File, m mapping) (uint64, error) {
	if file.Type == elf.ET_EXEC {
		return 0, nil
	}
	page := uint64(os.Getpagesize())
	for _, p := range file.Progs {
		if p.Type == elf.PT_LOAD && m.offset >= p.Off-p.Off%page && m.offset < p.Off+p.Filesz {
			return m.start - m.offset + p.Off - p.Vaddr, nil
		}
	}
	return 0, fmt.Errorf("%w: no segment of %s is mapped at its offset %#x", ErrNotFound, m.path, m.offset)
}

// mapping is a line of /proc/PID/maps that stands for a file.
type mapping struct {
	span          string // as it stands there, 7f00-7f10
	start, offset uint64
	path          string
	deleted       bool // or replaced
}

// parseMap reads one line of /proc/PID/maps (proc_pid_maps(5)): six fields, of
// which the last, the path, may have spaces in it.
func parseMap(line string) (m mapping, ok bool) {
	i := strings.IndexByte(line, '/')
	if i < 0 {
		return m, false
	}
	fields := strings.Fields(line[:i])
	if len(fields) != 5 {
		return m, false
	}
	m.span = fields[0]
	from, _, ok := strings.Cut(m.span, "-")
	if !ok {
		return m, false
	}
	var err, err2 error
	m.start, err = strconv.ParseUint(from, 16, 64)
	m.offset, err2 = strconv.ParseUint(fields[2], 16, 64)
	m.path, m.deleted = strings.CutSuffix(strings.TrimRight(line[i:], "\n"), " (deleted)")
	return m, err == nil && err2 == nil
}
