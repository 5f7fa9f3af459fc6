//go:build lab

package regret

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// used is CPU time, in ticks of 10 ms (proc(5), stat), up to a moment.
type used struct {
	at                                    time.Time
	machine, steal, program, service, lab float64
}

// cpuOf reads what was used until now: by all, by what the host took, by a
// program's process group, and by a service with the processes that it started.
func (l *lab) cpuOf(group int, of service) used {
	u := used{at: time.Now()}
	whole, _ := os.ReadFile("/proc/stat")
	first, _, _ := strings.Cut(string(whole), "\n")
	for i, w := range strings.Fields(first) {
		x, _ := strconv.ParseFloat(w, 64)
		switch i {
		case 1, 2, 3, 6, 7: // user, nice, system, irq, softirq
			u.machine += x
		case 8:
			u.steal = x
		}
	}
	serving, self, program := strconv.Itoa(l.pids[of]), strconv.Itoa(os.Getpid()), strconv.Itoa(group)
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range entries {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		pid := filepath.Base(filepath.Dir(name))
		words := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])) // from the state on
		if len(words) < 15 {
			continue
		}
		sum := func(words []string) (x float64) {
			for _, w := range words {
				ticks, _ := strconv.ParseFloat(w, 64)
				x += ticks
			}
			return x
		}
		parent, itsGroup := words[1], words[2]
		switch {
		case pid == self:
			u.lab += sum(words[11:13])
		case itsGroup == program:
			u.program += sum(words[11:15])
		case serving != "0" && (pid == serving || parent == serving):
			u.service += sum(words[11:15]) // its own, and of its children that ended
		}
	}
	return u
}

// until says in per cent of one CPU what the service used in between, and in per
// cent of all CPUs what others took, the host among them.
func (u used) until(v used, cpus int) (servicePct, othersPct float64) {
	ticks := 100 * v.at.Sub(u.at).Seconds()
	own := v.program + v.service + v.lab - u.program - u.service - u.lab
	others := v.machine - u.machine + v.steal - u.steal - own
	return 100 * max(0, v.service-u.service) / ticks, 100 * max(0, others) / ticks / float64(cpus)
}
