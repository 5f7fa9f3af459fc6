//go:build lab

package lab

import (
	"fmt"
	"strings"
	"testing"
)

// Jobs are as many at a time as planned, on their CPUs.
func TestMakeAndNinja(t *testing.T) {
	twoCPUs(t)
	need(t, "dash", "awk", "taskset")
	// Each job waits for the other, for a second at most, and tells whether it came.
	const job = `touch $(1); for i in 1 2 3 4 5 6 7 8 9 10; do [ -e $(2) ] && break; sleep 0.1; done; [ -e $(2) ] && echo met; awk '/^Cpus_allowed_list/ {print "cpus", $$2}' /proc/self/status`
	subst := func(text, dollar, me, other string) string {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "$(1)", me), "$(2)", other)
		return strings.ReplaceAll(text, "$$", dollar)
	}
	files := map[string]string{
		"make":  "Makefile\nall: a b\na:\n\t@" + subst(job, "$$", "at-a", "at-b") + "\nb:\n\t@" + subst(job, "$$", "at-b", "at-a") + "\n",
		"ninja": "build.ninja\nrule job\n  command = $what\nbuild a: job\n  what = " + subst(job, "$$", "at-a", "at-b") + "\nbuild b: job\n  what = " + subst(job, "$$", "at-b", "at-a") + "\n",
	}
	for _, tool := range []string{"make", "ninja"} {
		t.Run(tool, func(t *testing.T) {
			need(t, tool)
			name, text, _ := strings.Cut(files[tool], "\n")
			text = strings.ReplaceAll(text, "$i", "$$i")
			run := func(plan string) string {
				dir := t.TempDir()
				write(t, dir, name, text)
				var found []string
				for line := range strings.Lines(output(t, command(t, dir, "dash", write(t, dir, "plan", plan)))) {
					if line = strings.TrimSpace(line); line == "met" || strings.HasPrefix(line, "cpus ") {
						found = append(found, line)
					}
				}
				return strings.Join(found, "\n")
			}
			both := emitted(t, tool, planFor(t, pair, "model: processes\nwork: {kind: float}\n"))
			same(t, "two at a time", run(both), "met", "met", "cpus 0-1", "cpus 0-1")
			same(t, "on one CPU", run(replaced(t, both, "-c 0-1", "-c 1")), "met", "met", "cpus 1", "cpus 1")
			same(t, "one at a time", run(emitted(t, tool, planFor(t, pair, "model: processes\nload: {tasks: 1}\n"))), "met", "cpus 0", "cpus 0")
		})
	}
}

// Each job sits on the seat of its slot.
func TestParallelSeats(t *testing.T) {
	twoCPUs(t)
	need(t, "dash", "parallel", "taskset", "awk")
	dir := t.TempDir()
	// The second waits for the first to be there, so that both have slots at a time.
	command1 := `touch at-{}; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ $(ls -d at-* | wc -l) = 2 ] && break; sleep 0.1; done; echo slot $PARALLEL_JOBSLOT $(awk '/^Cpus_allowed_list/ {print $2}' /proc/self/status)`
	file := write(t, dir, "job", strings.ReplaceAll(command1, "{}", "$1")+"\n")
	run := func(text string) string {
		output(t, command(t, dir, "sh", "-c", "rm -f at-*"))
		return output(t, command(t, dir, "dash", write(t, dir, "plan", text), "sh", file, "{}", ":::", "a", "b"))
	}
	text := emitted(t, "parallel", planFor(t, pair, "model: processes\nwork: {kind: float}\n"))
	same(t, "seats", run(text), "slot 1 0", "slot 2 1")
	same(t, "the other way round", run(replaced(t, text, "'0 1'", "'1 0'")), "slot 1 1", "slot 2 0")
	may := statusOf(t, "self", "Cpus_allowed_list")
	same(t, "not pinned", run(emitted(t, "parallel", planFor(t, pair, "model: processes\n", virtual))), "slot 1 "+may, "slot 2 "+may)
	if exitCode(t, command(t, dir, "dash", write(t, dir, "bad", replaced(t, text, "--jobs 2", "--jobs two")), "true", ":::", "a")) == 0 {
		t.Error("a number that is none is taken")
	}
	if exitCode(t, command(t, dir, "dash", write(t, dir, "wrong", replaced(t, text, "'0 1'", "'4095'")), "true", ":::", fmt.Sprint(1))) == 0 {
		t.Error("a CPU that there is not is taken")
	}
}
