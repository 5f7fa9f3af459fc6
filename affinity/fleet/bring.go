//go:build linux

package fleet

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// Bring says when a node is given the berth that asks.
type Bring string

const (
	BringAbsent Bring = "auto"   // where there is none
	BringAlways Bring = "always" // to every node, whatever is there
	BringNever  Bring = "never"
)

// toBring is the berth to bring along: the one given, else this program.
func toBring(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	name, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the berth to bring along: %w", err)
	}
	return name, nil
}

// twice has nodes looked at by an engine that learns only so which have no
// berth, and these once more with one that is brought along. A look tells of
// the nodes that gave no answer.
func twice(ctx context.Context, bring Bring, nodes []string, look func(nodes []string, bring bool) (map[string]*Trouble, error)) (missing map[string]*Trouble, err error) {
	missing, err = look(nodes, bring == BringAlways)
	if err != nil || bring == BringNever || bring == BringAlways || ctx.Err() != nil {
		return missing, err
	}
	var absent []string
	for node, why := range missing {
		if why.Code == NoBerth {
			absent = append(absent, node)
		}
	}
	if absent == nil {
		return missing, nil
	}
	slices.SortFunc(absent, Compare)
	still, err := look(absent, true)
	if err != nil && still == nil {
		return missing, err
	}
	for _, node := range absent {
		delete(missing, node)
	}
	for node, why := range still {
		missing[node] = why
	}
	return missing, err
}

// unanswered answers for the nodes that gave none. When ctx has ended, that is
// why.
func unanswered(ctx context.Context, missing map[string]*Trouble, answer func(Answer)) {
	for node, why := range missing {
		if ctx.Err() != nil {
			why = trouble(NotAsked, "the look was ended before it had answered")
		}
		answer(Answer{Node: node, Trouble: why})
	}
}

// Exit statuses of a shell (POSIX, "Exit Status for Commands").
const (
	statusNotBegun  = 126
	statusNoProgram = 127
)

// ofStatus is what the status comes to with which a berth on a node ended, of
// all that it said and the words that go with it; nil: it ended well.
func ofStatus(code int, said, words string) *Trouble {
	switch {
	case code == 0:
		return nil
	case strings.Contains(said, "Exec format error"):
		return trouble(Architecture, "berth there is for another architecture%s", words)
	case code == statusNotBegun, code == statusNoProgram:
		return trouble(NoBerth, "berth cannot be started there%s", words)
	}
	return trouble(Failed, "berth there failed (exit status %d)%s", code, words)
}

// machineNames is what machines call themselves (uname -m) on which a program
// for an architecture of Go runs.
var machineNames = map[string][]string{
	"amd64": {"x86_64"}, "386": {"x86_64", "i686", "i586", "i486", "i386"}, "arm64": {"aarch64"},
	"arm": {"aarch64", "armv8l", "armv7l", "armv6l"}, "s390x": {"s390x"}, "ppc64le": {"ppc64le"}, "riscv64": {"riscv64"},
}

// runsOn reports whether this program can run on a machine that calls itself
// so (uname -sm); what is not known may be tried.
func runsOn(says string) bool {
	system, machine, ok := strings.Cut(says, " ")
	if !ok {
		return true
	}
	if system != "Linux" {
		return false
	}
	for arch, names := range machineNames {
		for _, name := range names {
			if name == machine {
				if arch == runtime.GOARCH {
					return true
				}
				ok = false
			}
		}
	}
	return ok
}
