package profiles

import (
	"cmp"
	"fmt"
)

// check finds fields that cannot all be true, and reports each where the last
// of them stands.
func (l *loader) check(p *Profile) {
	w := &p.Work
	_, givesCPU := l.seen["work.cpu_ms"] // if with a mistake, that is reported already
	if p.Model == Async && w.Blocking != nil && *w.Blocking {
		l.clash("waits that block hold the event loop, and all other tasks with it",
			"choose model: threads or processes, or await the waits and write blocking: false", "model", "work.blocking")
	}
	switch {
	case w.CPUMS == nil && !givesCPU && w.NativeMS > 0:
		l.clash("it is a part of cpu_ms, which is missing", "give work.cpu_ms, the whole on-CPU time of a task", "work.native_ms")
	case w.CPUMS != nil && w.NativeMS > *w.CPUMS:
		l.clash(fmt.Sprintf("%s ms with the GIL released are more than the %s ms on the CPU that they are a part of", plain(w.NativeMS), plain(*w.CPUMS)),
			"it takes at most cpu_ms", "work.cpu_ms", "work.native_ms")
	}
	if p.Scaling != nil && w.SerialFraction > 0 {
		l.clash("a fitted scaling already holds the serial part", "leave work.serial_fraction out, or scaling", "work.serial_fraction", "scaling")
	}
	if p.Load.RanksPer != "" && p.Load.Nested != nil && !*p.Load.Nested {
		l.clash("a rank for each "+string(p.Load.RanksPer)+" runs several threads, and nested: false forbids them",
			"leave load.nested out", "load.nested", "load.ranks_per")
	}
	if p.NestedTasks() && p.Model == Async {
		l.clash("tasks that use several threads each cannot share an event loop", "leave model out", "model", "load.nested", "load.ranks_per")
	}
}

// clash reports a contradiction at the field that stands last in the file.
func (l *loader) clash(problem, want string, paths ...string) {
	m := Mistake{File: l.file, Path: paths[0]}
	for _, path := range paths {
		at, ok := l.seen[path]
		if ok && cmp.Or(at.Line-m.Line, at.Column-m.Column) >= 0 {
			m.File, m.Line, m.Column, m.Path = at.File, at.Line, at.Column, path
		}
	}
	m.Problem, m.Want = problem, want
	l.found = append(l.found, m)
}
