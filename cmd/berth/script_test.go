//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"berth/affinity"
	"berth/affinity/experiment"
	"berth/probe/cpuset"
)

// raceEnabled: the race detector makes every command slow.
var raceEnabled bool

func TestMain(m *testing.M) {
	experiment.Worker()
	if len(os.Args) > 1 && os.Args[1] == asWaiter {
		waiter()
	}
	testscript.Main(m, map[string]func(){"berth": main})
}

// TestScript runs the sessions in testdata/script.
func TestScript(t *testing.T) {
	schemas := compiledSchemas(t)
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("NO_COLOR", "")
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, ".state")) // nobody's own calibration
			e.Setenv("GORACE", "atexit_sleep_ms=0")                        // else each command waits a second under -race
			return nil
		},
		// cgroups: this process may make control groups.
		Condition: func(name string) (bool, error) {
			if name != "cgroups" {
				return false, fmt.Errorf("there is no condition %q", name)
			}
			g, err := affinity.NewGroup(cpuset.Range(0, 0), cpuset.Set{}, 0, 0)
			if err != nil {
				return false, nil
			}
			return true, g.Remove()
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":   status,
			"sleeping": sleeping,
			"masks":    masks,
			"replays":  replays,
			"saved":    saved,
			// onlyberth: no other program is on PATH.
			"onlyberth": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Setenv("PATH", filepath.SplitList(ts.Getenv("PATH"))[0])
			},
			// valid FILE: the file keeps to the schema that it names.
			"valid": func(ts *testscript.TestScript, not bool, args []string) {
				text := []byte(ts.ReadFile(args[0]))
				var named struct{ Schema string }
				ts.Check(json.Unmarshal(text, &named))
				schema := schemas[named.Schema]
				if schema == nil {
					ts.Fatalf("%s names the schema %q, which nobody knows", args[0], named.Schema)
				}
				doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
				ts.Check(err)
				if err := schema.Validate(doc); (err == nil) == not {
					ts.Fatalf("%v", err)
				}
			},
		},
	})
}

// status N COMMAND …: the command ends with status N.
func status(ts *testscript.TestScript, not bool, args []string) {
	if not || len(args) < 2 {
		ts.Fatalf("usage: status N command [arg...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("status %d, want %d", got, want)
	}
}

// replays NAME …: a snapshot under each name replays to the budget and the
// online CPUs of this machine.
func replays(ts *testscript.TestScript, not bool, names []string) {
	if not || len(names) == 0 {
		ts.Fatalf("usage: replays name...")
	}
	read := func(args ...string) string {
		ts.Check(ts.Exec("berth", args...))
		return ts.ReadFile("stdout")
	}
	for _, name := range names {
		ts.Check(ts.Exec("berth", "snapshot", name))
		if live, replayed := read("inspect", "-e"), read("inspect", "-e", "--sysroot", name); live != replayed {
			ts.Fatalf("%s replays to\n%s\nand the machine is\n%s", name, replayed, live)
		}
	}
}
