package profiles

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// head is the least that a profile holds; what a test adds begins in line 3.
const head = "schema: " + Schema + "\nname: test\n"

// mistakes returns what is wrong with a text, and fails the test if that is
// anything but Mistakes.
func mistakes(t *testing.T, text string) Mistakes {
	t.Helper()
	_, err := Parse([]byte(text), "f.yaml")
	if err == nil {
		return nil
	}
	var found Mistakes
	if !errors.As(err, &found) || len(found) == 0 {
		t.Fatalf("%T %v, and not Mistakes", err, err)
	}
	return found
}

// wrong is a text with one mistake: FILE:LINE:COLUMN: PATH and a piece of the
// message.
type wrong struct{ text, at, says string }

func (w wrong) check(t *testing.T) {
	t.Helper()
	found := mistakes(t, w.text)
	if len(found) != 1 {
		t.Fatalf("%d mistakes, not one: %v", len(found), found)
	}
	m := found[0]
	at := fmt.Sprintf("%s:%d:%d:", m.File, m.Line, m.Column)
	if m.Path != "" {
		at += " " + m.Path
	}
	if at != w.at {
		t.Errorf("at %q, want %q", at, w.at)
	}
	if !strings.Contains(m.Error(), w.says) {
		t.Errorf("%q\ndoes not say %q", m.Error(), w.says)
	}
}

func run(t *testing.T, rows []wrong) {
	t.Helper()
	for _, row := range rows {
		t.Run(short(strings.TrimPrefix(row.text, head)), row.check)
	}
}

// fieldMistakes are of one field each: the JSON Schema must refuse them too.
var fieldMistakes = []wrong{
	// The wrong sort of value.
	{"schema: [" + Schema + "]\nname: x\n", "f.yaml:1:9: schema", "it is a list; it takes berth.profile/v1"},
	{"schema: berth.profile/v2\nname: x\n", "f.yaml:1:9: schema", `"berth.profile/v2" is not known; it takes berth.profile/v1`},
	{"schema: 1\nname: x\n", "f.yaml:1:9: schema", `"1" is not known`},
	{"schema: " + Schema + "\nname: {first: x}\n", "f.yaml:2:7: name", "it is a mapping; it takes text"},
	{"schema: " + Schema + "\nname: ' '\n", "f.yaml:2:7: name", `" ": it is blank`},
	{"schema: " + Schema + "\nname:\n", "f.yaml:2:6: name", "it has no value; leave the line out where it is not known"},
	{"schema: " + Schema + "\n", "f.yaml:1:1: name", "it is missing; say what the workload is called"},
	{"name: x\n", "f.yaml:1:1: schema", "it is missing; write schema: berth.profile/v1"},
	{head + "runtime: [go]\n", "f.yaml:3:10: runtime", "it is a list; it takes one of native, go"},
	{head + "runtime: ~\n", "f.yaml:3:10: runtime", "it has no value"},
	{head + "runtime: pyhton\n", "f.yaml:3:10: runtime", `"pyhton" is not known; did you mean python? It takes one of native,`},
	{head + "runtime: Go\n", "f.yaml:3:10: runtime", `"Go" is not known; did you mean go?`},
	{head + "runtime: cobol\n", "f.yaml:3:10: runtime", `"cobol" is not known; it takes one of`},
	{head + "objective: true\n", "f.yaml:3:12: objective", `"true" is not known; it takes one of throughput, latency, efficiency`},
	{head + "model: thread\n", "f.yaml:3:8: model", "did you mean threads?"},
	{head + "work:\n  kind: memory\n", "f.yaml:4:9: work.kind", `"memory" is not known`},
	{head + "work:\n  kind: flaot\n", "f.yaml:4:9: work.kind", "did you mean float?"},
	{head + "work:\n  cpu_ms: ten\n", "f.yaml:4:11: work.cpu_ms", `it is the text "ten"; it takes a number (milliseconds) from 1e-6 to 1e9`},
	{head + "work:\n  cpu_ms: '10'\n", "f.yaml:4:11: work.cpu_ms", `it is the text "10"`},
	{head + "work:\n  cpu_ms: true\n", "f.yaml:4:11: work.cpu_ms", "it is the truth value true"},
	{head + "work:\n  cpu_ms:\n  - 1\n", "f.yaml:5:3: work.cpu_ms", "it is a list"},
	{head + "work:\n  cpu_ms: {a: 1}\n", "f.yaml:4:11: work.cpu_ms", "it is a mapping"},
	{head + "work: {cpu_ms: }\n", "f.yaml:3:16: work.cpu_ms", "it has no value"},
	{head + "work:\n  cpu_ms: 1,5\n", "f.yaml:4:11: work.cpu_ms", `it is the text "1,5"`},
	{head + "work:\n  cpu_ms: 1h30m\n", "f.yaml:4:11: work.cpu_ms", `it is the text "1h30m"`},
	{head + "work:\n  cpu_ms: 2020-01-01\n", "f.yaml:4:11: work.cpu_ms", "it is \"2020-01-01\", tagged !!timestamp"},
	{head + "work:\n  blocking: 1\n", "f.yaml:4:13: work.blocking", "it is the number 1; it takes true or false"},
	{head + "work:\n  blocking: yes\n", "f.yaml:4:13: work.blocking", `it is the text "yes"`},
	{head + "work:\n  blocking: 'true'\n", "f.yaml:4:13: work.blocking", `it is the text "true"`},
	{head + "work:\n  communicates: [true]\n", "f.yaml:4:17: work.communicates", "it is a list"},
	{head + "work:\n  near: eth0\n", "f.yaml:4:9: work.near", `"eth0": it is neither KIND:NAME nor a PCI address; it takes KIND:NAME such as nic:eth0`},
	{head + "work:\n  near: 'nic:'\n", "f.yaml:4:9: work.near", "neither KIND:NAME"},
	{head + "work:\n  near: 'nic: eth0'\n", "f.yaml:4:9: work.near", "neither KIND:NAME"},
	{head + "work:\n  near: 81\n", "f.yaml:4:9: work.near", "neither KIND:NAME"},
	{head + "load:\n  tasks: 2.5\n", "f.yaml:4:10: load.tasks", "2.5 is not whole; it takes a whole number from 1 to 1e12"},
	{head + "load:\n  tasks: many\n", "f.yaml:4:10: load.tasks", `it is the text "many"`},
	{head + "load:\n  nested: 0\n", "f.yaml:4:11: load.nested", "it is the number 0"},
	{head + "load:\n  ranks_per: socket\n", "f.yaml:4:14: load.ranks_per", `"socket" is not known; it takes one of node, llc, core`},
	{head + "limits:\n  avoid_cpus: 1.5\n", "f.yaml:4:15: limits.avoid_cpus", `without quotes YAML reads 1.5 as a number; it takes a CPU list such as "0-3,8"`},
	{head + "limits:\n  avoid_cpus: [0, 1]\n", "f.yaml:4:15: limits.avoid_cpus", "it is a list"},
	{head + "limits:\n  avoid_cpus: -1\n", "f.yaml:4:15: limits.avoid_cpus", `"-1": `},
	{head + "limits:\n  avoid_cpus: true\n", "f.yaml:4:15: limits.avoid_cpus", `"true": `},

	// Sections.
	{head + "work: 5\n", "f.yaml:3:7: work", "it is the number 5; it holds fields, indented below it"},
	{head + "load:\n- tasks: 1\n", "f.yaml:4:1: load", "it is a list"},
	{head + "measured: yes\n", "f.yaml:3:11: measured", `it is the text "yes"`},

	// Units, which are in the names.
	{head + "work:\n  cpu_ms: 10ms\n", "f.yaml:4:11: work.cpu_ms", `"10ms" carries a unit, and the unit is in the field's name; it takes a number (milliseconds)`},
	{head + "work:\n  wait_ms: 1.5 s\n", "f.yaml:4:12: work.wait_ms", `"1.5 s" carries a unit`},
	{head + "work:\n  wait_ms: 500µs\n", "f.yaml:4:12: work.wait_ms", `"500µs" carries a unit`},
	{head + "work:\n  serial_fraction: 5%\n", "f.yaml:4:20: work.serial_fraction", `"5%" carries a unit`},
	{head + "limits:\n  memory_per_worker_mib: 3GiB\n", "f.yaml:4:26: limits.memory_per_worker_mib", `"3GiB" carries a unit`},
	{head + "load:\n  arrival_per_s: 500/s\n", "f.yaml:4:18: load.arrival_per_s", `"500/s" carries a unit`},

	// Ranges.
	{head + "work:\n  cpu_ms: 0\n", "f.yaml:4:11: work.cpu_ms", "0 is out of range"},
	{head + "work:\n  cpu_ms: 1e10\n", "f.yaml:4:11: work.cpu_ms", "1e10 is out of range"},
	{head + "work:\n  cpu_ms: 1e400\n", "f.yaml:4:11: work.cpu_ms", "1e400 is out of range"},
	{head + "work:\n  cpu_ms: 1e-400\n", "f.yaml:4:11: work.cpu_ms", "1e-400 is out of range"},
	{head + "work:\n  native_ms: -1\n", "f.yaml:4:14: work.native_ms", "-1 is out of range; it takes a number (milliseconds) from 0"},
	{head + "work:\n  wait_ms: -0.5\n", "f.yaml:4:12: work.wait_ms", "-0.5 is out of range"},
	{head + "work:\n  serial_fraction: 1.01\n", "f.yaml:4:20: work.serial_fraction", "1.01 is out of range; it takes a number from 0 to 1"},
	{head + "work:\n  smt_yield: -1\n", "f.yaml:4:14: work.smt_yield", "-1 is out of range; it takes a number above -1, up to 1"},
	{head + "work:\n  thread_bandwidth_gbs: 0\n", "f.yaml:4:25: work.thread_bandwidth_gbs", "0 is out of range; it takes a number (GB/s) above 0"},
	{head + "scaling: {sigma: 2}\n", "f.yaml:3:18: scaling.sigma", "2 is out of range"},
	{head + "scaling: {kappa: -1}\n", "f.yaml:3:18: scaling.kappa", "-1 is out of range"},
	{head + "load: {tasks: 0}\n", "f.yaml:3:15: load.tasks", "0 is out of range"},
	{head + "load: {arrival_per_s: 0}\n", "f.yaml:3:23: load.arrival_per_s", "0 is out of range"},
	{head + "load: {wait_target_ms: -6}\n", "f.yaml:3:24: load.wait_target_ms", "-6 is out of range"},
	{head + "load: {quantile: 1.0}\n", "f.yaml:3:18: load.quantile", "1.0 is out of range; it takes a number above 0, below 1"},
	{head + "load: {quantile: 0}\n", "f.yaml:3:18: load.quantile", "0 is out of range"},
	{head + "load: {quantile: 99}\n", "f.yaml:3:18: load.quantile", "99 is out of range"},
	{head + "limits: {memory_per_worker_mib: 0}\n", "f.yaml:3:33: limits.memory_per_worker_mib", "0 is out of range"},
	{head + "limits: {memory_shared_mib: 2e12}\n", "f.yaml:3:29: limits.memory_shared_mib", "2e12 is out of range"},
	{head + "limits: {memory_reserve_fraction: 1}\n", "f.yaml:3:35: limits.memory_reserve_fraction", "1 is out of range"},
	{head + "limits: {downstream_concurrency: 0}\n", "f.yaml:3:34: limits.downstream_concurrency", "0 is out of range"},
	{head + "limits: {target_utilisation: 1}\n", "f.yaml:3:30: limits.target_utilisation", "1 is out of range"},
	{head + "priority: 0\n", "f.yaml:3:11: priority", "0 is out of range; it takes a number from 1e-6 to 1000000"},
	{head + "priority: high\n", "f.yaml:3:11: priority", `it is the text "high"`},
	{head + "limits: {priority: 2}\n", "f.yaml:3:10: limits.priority", "did you mean priority?"},
	{head + "limits: {reserve_cores: -1}\n", "f.yaml:3:25: limits.reserve_cores", "-1 is out of range"},
	{head + "limits: {reserve_cores: 65537}\n", "f.yaml:3:25: limits.reserve_cores", "65537 is out of range"},
	{head + "measured: {utilisation: 15}\n", "f.yaml:3:25: measured.utilisation", "15 is out of range"},

	// Names.
	{head + "work: {cpums: 1}\n", "f.yaml:3:8: work.cpums", "there is no such field; did you mean work.cpu_ms?"},
	{head + "work: {CPU_MS: 1}\n", "f.yaml:3:8: work.CPU_MS", "there is no such field"},
	{head + "load: {cpu_ms: 1}\n", "f.yaml:3:8: load.cpu_ms", "did you mean work.cpu_ms?"},
	{head + "limits: {arrivals_per_s: 1}\n", "f.yaml:3:10: limits.arrivals_per_s", "did you mean load.arrival_per_s?"},
	{head + "cpu_ms: 1\n", "f.yaml:3:1: cpu_ms", "did you mean work.cpu_ms?"},
	{head + "work: {runtime: go}\n", "f.yaml:3:8: work.runtime", "did you mean runtime?"},
	{head + "wrok: {cpu_ms: 1}\n", "f.yaml:3:1: wrok", "did you mean work?"},
	{head + "limit: {reserve_cores: 1}\n", "f.yaml:3:1: limit", "did you mean limits?"},
	{head + "Work: {cpu_ms: 1}\n", "f.yaml:3:1: Work", "did you mean work?"},
	{head + "colour: red\n", "f.yaml:3:1: colour", "there is no such field; `berth profiles new native` shows the fields there are"},
	{head + "work:\n  cpu_ms: 1\n  work: {wait_ms: 1}\n", "f.yaml:5:3: work.work", "there is no such field"},
	{head + "\"a\\eb\": 1\n", `f.yaml:3:1: "a\x1bb"`, "there is no such field"},
	{head + "'': 1\n", `f.yaml:3:1: ""`, "there is no such field"},
	{head + "1: 1\n", "f.yaml:3:1: 1", "there is no such field"},
}

func TestFieldMistakes(t *testing.T) { run(t, fieldMistakes) }

// What YAML makes of the value hides these from a JSON Schema.
func TestSpellings(t *testing.T) {
	run(t, []wrong{
		{head + "work: {wait_ms: .nan}\n", "f.yaml:3:17: work.wait_ms", ".nan is no number to plan with; it takes a number (milliseconds) from 0"},
		{head + "work: {wait_ms: .inf}\n", "f.yaml:3:17: work.wait_ms", ".inf is no number to plan with"},
		{head + "work: {wait_ms: -.Inf}\n", "f.yaml:3:17: work.wait_ms", "-.Inf is no number to plan with"},
		{head + "work: {wait_ms: nan}\n", "f.yaml:3:17: work.wait_ms", `it is the text "nan"`},
		{head + "work: {wait_ms: Infinity}\n", "f.yaml:3:17: work.wait_ms", `it is the text "Infinity"`},
		{head + "work: {wait_ms: !!float nan}\n", "f.yaml:3:17: work.wait_ms", "nan is no number to plan with"},
		{head + "load: {tasks: .inf}\n", "f.yaml:3:15: load.tasks", ".inf is no number to plan with"},
		{head + "work: {wait_ms: 0x10}\n", "f.yaml:3:17: work.wait_ms", "0x10 can be read in two ways; write a plain decimal number"},
		{head + "work: {wait_ms: 0o17}\n", "f.yaml:3:17: work.wait_ms", "0o17 can be read in two ways"},
		{head + "work: {wait_ms: 0b11}\n", "f.yaml:3:17: work.wait_ms", "0b11 can be read in two ways"},
		{head + "work: {wait_ms: 017}\n", "f.yaml:3:17: work.wait_ms", "017 can be read in two ways"},
		{head + "work: {wait_ms: -08}\n", "f.yaml:3:17: work.wait_ms", "-08 can be read in two ways"},
		{head + "work: {wait_ms: 1_000}\n", "f.yaml:3:17: work.wait_ms", "1_000 can be read in two ways"},
		{head + "work: {wait_ms: !!float ten}\n", "f.yaml:3:17: work.wait_ms", `"ten" is not a number`},
		{head + "work: {wait_ms: !!int 10ms}\n", "f.yaml:3:17: work.wait_ms", `"10ms" is not a number`},
		{head + "work: {wait_ms: !!str 10}\n", "f.yaml:3:17: work.wait_ms", `it is the text "10"`},
		{head + "work: {wait_ms: 0x1p-2}\n", "f.yaml:3:17: work.wait_ms", `it is the text "0x1p-2"`},
		{head + "work: {blocking: !!bool yes}\n", "f.yaml:3:18: work.blocking", "it takes true or false"},
		{head + "limits: {avoid_cpus: 3-1}\n", "f.yaml:3:22: limits.avoid_cpus", `"3-1": `},
		{head + "limits: {avoid_cpus: '0-3,x'}\n", "f.yaml:3:22: limits.avoid_cpus", `"0-3,x": at "x": `},
		{head + "limits: {avoid_cpus: all}\n", "f.yaml:3:22: limits.avoid_cpus", "give the numbers"},
		{head + "limits: {avoid_cpus: !!float 1}\n", "f.yaml:3:22: limits.avoid_cpus", "without quotes YAML reads 1 as a number"},
		{"schema: " + Schema + "\nname: \"two\\nlines\"\n", "f.yaml:2:7: name", "a line break or another character that does not print"},
		{"schema: " + Schema + "\nname: !mine x\n", "f.yaml:2:7: name", `it is "x", tagged !mine; it takes text`},
		{head + "<<: {runtime: go}\n", "f.yaml:3:1: <<", "merge keys are not read; write the fields out"},
		{head + "work:\n  <<: {cpu_ms: 1}\n", "f.yaml:4:3: work.<<", "merge keys are not read"},
		{head + "name: again\n", "f.yaml:3:1: name", "it is set twice, first in line 2; leave one out"},
		{head + "work: {wait_ms: 1, wait_ms: 2}\n", "f.yaml:3:20: work.wait_ms", "it is set twice, first in line 3"},
		{head + "work: {}\nload: {}\nwork: {}\n", "f.yaml:5:1: work", "it is set twice, first in line 3"},
		{head + "[a]: 1\n", "f.yaml:3:1:", "a key is a list; keys are names"},
		{head + "work:\n  ? {a: b}\n  : 1\n", "f.yaml:4:5: work", "a key is a mapping"},
	})
}

// Fields that are fine alone.
func TestContradictions(t *testing.T) {
	run(t, []wrong{
		{head + "model: async\nwork:\n  blocking: true\n", "f.yaml:5:13: work.blocking",
			"waits that block hold the event loop, and all other tasks with it; choose model: threads or processes, or await the waits"},
		{head + "work:\n  blocking: true\nmodel: async\n", "f.yaml:5:8: model", "hold the event loop"},
		{head + "work: {cpu_ms: 5, native_ms: 6}\n", "f.yaml:3:30: work.native_ms",
			"6 ms with the GIL released are more than the 5 ms on the CPU that they are a part of; it takes at most cpu_ms"},
		{head + "work: {native_ms: 6, cpu_ms: 5}\n", "f.yaml:3:30: work.cpu_ms", "6 ms with the GIL released"},
		{head + "work: {native_ms: 6}\n", "f.yaml:3:19: work.native_ms", "cpu_ms, which is missing; give work.cpu_ms"},
		{head + "work: {serial_fraction: 0.1}\nscaling: {sigma: 0.1}\n", "f.yaml:4:10: scaling", "a fitted scaling already holds the serial part"},
		{head + "scaling: {sigma: 0.1}\nwork: {serial_fraction: 0.1}\n", "f.yaml:4:25: work.serial_fraction", "already holds the serial part"},
		{head + "load: {nested: false, ranks_per: llc}\n", "f.yaml:3:34: load.ranks_per", "a rank for each llc runs several threads, and nested: false forbids them"},
		{head + "model: async\nload: {nested: true}\n", "f.yaml:4:16: load.nested", "cannot share an event loop; leave model out"},
		{head + "model: async\nload: {ranks_per: core}\n", "f.yaml:4:19: load.ranks_per", "cannot share an event loop"},
		// A mistake is not taken for a missing field.
		{head + "work: {cpu_ms: 10ms, native_ms: 6}\n", "f.yaml:3:16: work.cpu_ms", "carries a unit"},
	})
	for _, text := range []string{
		"model: async\n", "model: async\nwork: {blocking: false}\n", "work: {cpu_ms: 5, native_ms: 5}\n",
		"work: {serial_fraction: 0}\nscaling: {sigma: 0.1}\n", "load: {nested: true, ranks_per: llc}\n", "load: {nested: false}\nmodel: async\n",
	} {
		if found := mistakes(t, head+text); found != nil {
			t.Errorf("%s is fine: %v", text, found)
		}
	}
	// Of another version nobody knows what fields mean together.
	if found := mistakes(t, "schema: berth.profile/v2\nname: x\nwork: {native_ms: 6}\n"); len(found) != 1 {
		t.Errorf("%v", found)
	}
}

// Texts that are no profile at all.
func TestTexts(t *testing.T) {
	begins := "; a profile begins with schema: berth.profile/v1"
	run(t, []wrong{
		{"", "f.yaml:1:1:", "it is empty" + begins},
		{"\n \n", "f.yaml:1:1:", "it is empty"},
		{"# cpu_ms: 1\n", "f.yaml:1:1:", "it holds nothing but comments" + begins},
		{"# a\n---\n", "f.yaml:3:1:", "it holds no field" + begins},
		{"~\n", "f.yaml:1:1:", "it holds no field"},
		{"thumbnailer\n", "f.yaml:1:1:", `it is the text "thumbnailer"; a profile is a mapping`},
		{"- schema: " + Schema + "\n", "f.yaml:1:1:", "it is a list"},
		{head + "---\n" + head, "f.yaml:3:1:", "a second document begins here; one file holds one profile"},
		{head + "---\n", "f.yaml:3:1:", "a second document begins here"},
		{strings.Repeat("#", 10<<20), "f.yaml:0:0:", "it is larger than 1024 KiB"},

		// Bytes.
		{head + "work:\n  near: nic:\xff\n", "f.yaml:4:13:", "byte 0xff is not UTF-8; a profile is a YAML text in UTF-8"},
		{"\xff\xfes\x00", "f.yaml:1:1:", "byte 0xff is not UTF-8"},
		{head + "# \x1b[31m\n", "f.yaml:3:3:", "it holds the control character U+001B"},
		{head + "# é \x00\n", "f.yaml:3:5:", "it holds the control character U+0000"},
		{head + "# \u0080\n", "f.yaml:3:3:", "it holds the control character U+0080"},
		{"\ufeff\x01", "f.yaml:1:1:", "it holds the control character U+0001"},

		// Not YAML: the line that spoils it, wherever the parser gave up.
		{head + "work:\n\tcpu_ms: 1\n", "f.yaml:4:1:", "a tab indents this line; YAML indents with spaces only"},
		{head + "work:\n  cpu_ms: 1\n \twait_ms: 1\n", "f.yaml:5:2:", "a tab indents this line"},
		{head + "work:\n  cpu_ms: 1\n   wait_ms: 2\n", "f.yaml:5:0:", "not YAML: "},
		{"# A comment.\n" + head + "work:\n  cpu_ms: 1\n wait_ms: 2\nload:\n  tasks: 3\n", "f.yaml:6:0:",
			"look at the indentation, colons, brackets and quotes there"},
		{head + "work: [1, 2\nload: {tasks: 1}\n", "f.yaml:3:0:", "not YAML: "},
		{head + "work: {kind: \"integer}\nload: {tasks: 1}\n", "f.yaml:3:0:", "not YAML: "},
		{"name x\nschema: y\n", "f.yaml:2:0:", "not YAML: "},
		{head + "work: *it\n", "f.yaml:3:0:", "unknown anchor 'it' referenced"},
		{head + strings.Repeat("# a\n", 300) + "name: [\n", "f.yaml:303:0:", "not YAML: "},
	})
}

// Mean texts are refused, and do not outlast the test's own limit: what grows with
// the square would.
func TestHostile(t *testing.T) {
	bomb := strings.Builder{}
	bomb.WriteString(head + "a0: &a0 [x, x]\n")
	for i := range 60 {
		fmt.Fprintf(&bomb, "a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	names := strings.Builder{}
	for i := range 90_000 {
		fmt.Fprintf(&names, "k%d: 1\n", i)
	}
	for name, text := range map[string]string{
		"brackets":            strings.Repeat("[", 100_000),
		"brackets in a field": head + "work:\n  cpu_ms: " + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
		"braces":              strings.Repeat("{a: ", 100_000),
		"question marks":      strings.Repeat("? ", 100_000),
		"dashes":              strings.Repeat("- ", 100_000),
		"alias bomb":          bomb.String(),
		"alias to itself":     head + "work: &w\n  cpu_ms: *w\n",
		"alias to the top":    "&top\n" + head + "work: *top\n",
		"merge with itself":   head + "work: &w\n  <<: *w\n",
		"many names":          head + names.String(),
		"long name":           head + "? " + strings.Repeat("a", 1_000_000) + "\n: 1\n",
		"long word":           head + "runtime: " + strings.Repeat("a", 1_000_000) + "\n",
		"long number":         head + "work: {wait_ms: -" + strings.Repeat("1", 1_000_000) + "}\n",
		"long list":           head + "limits: {avoid_cpus: '" + strings.Repeat("9,", 500_000) + "'}\n",
		"open quote":          head + "x: \"" + strings.Repeat("a\n", 400_000),
		"many lines":          head + "work: [" + strings.Repeat("\n", 199) + strings.Repeat("a,", 8000),
	} {
		found := mistakes(t, text)
		if found == nil {
			t.Errorf("%s: taken for a profile", name)
		}
		if said := len(found.Error()); said > 20_000 {
			t.Errorf("%s: the answer is %d bytes long", name, said)
		}
	}
	last := mistakes(t, head+names.String())
	if m := last[len(last)-1]; len(last) != enough+1 || !strings.Contains(m.Problem, "the rest is not read") {
		t.Errorf("%d mistakes, the last %v", len(last), m)
	}
}

// All mistakes are told at once, in the order of the lines.
func TestAllAtOnce(t *testing.T) {
	found := mistakes(t, `schema: berth.profile/v1
runtime: pyton
wrk: {}
work:
  cpu_ms: 10ms
  wait_ms: -1
load: {quantile: 1.0, tasks: 1.5}
limits: 3
`)
	var got []string
	for _, m := range found {
		got = append(got, fmt.Sprintf("%d:%d %s", m.Line, m.Column, m.Path))
	}
	want := []string{"1:1 name", "2:10 runtime", "3:1 wrk", "5:11 work.cpu_ms", "6:12 work.wait_ms", "7:18 load.quantile",
		"7:30 load.tasks", "8:9 limits"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if lines := strings.Split(found.Error(), "\n"); len(lines) != len(want) ||
		lines[1] != `f.yaml:2:10: runtime: "pyton" is not known; did you mean python? It takes one of native, go, java, node, python, python-free-threaded, openmp` {
		t.Errorf("%s", found.Error())
	}
}

func TestDefaults(t *testing.T) {
	p, err := Parse([]byte(head), "f.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := &Profile{
		Schema: Schema, Name: "test", Runtime: Native, Objective: Throughput, Model: AnyModel,
		Work: Work{Kind: Integer, Partition: Dynamic}, Load: Load{Quantile: 0.99}, Limits: Limits{MemoryReserveFraction: 0.10},
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if !p.BlockingWaits() || p.NestedTasks() || p.Target() != 0.98 || p.Weight() != 1 {
		t.Errorf("blocking %v, nested %v, target %v, priority %v", p.BlockingWaits(), p.NestedTasks(), p.Target(), p.Weight())
	}
	// The table says the same: what it gives as the default changes nothing.
	for _, f := range fields() {
		if f.standard == "" || strings.HasPrefix(f.path, "scaling.") {
			continue
		}
		got, err := p.With("--set", Setting{f.path, f.standard})
		if err != nil {
			t.Fatal(err)
		}
		if got.BlockingWaits() != p.BlockingWaits() || got.NestedTasks() != p.NestedTasks() || got.Target() != p.Target() || got.Weight() != p.Weight() {
			t.Errorf("%s: %s is not the default", f.path, f.standard)
		}
		got.Work.Blocking, got.Load.Nested, got.Limits.TargetUtilisation, got.Priority = nil, nil, nil, nil
		if diff := cmp.Diff(p, got); diff != "" {
			t.Errorf("%s: %s is not the default\n%s", f.path, f.standard, diff)
		}
	}
	if p := parse(t, "objective: efficiency\n"); p.Target() != 0.90 {
		t.Errorf("efficiency aims at %v", p.Target())
	}
	if p := parse(t, "model: async\n"); p.BlockingWaits() {
		t.Error("async waits block")
	}
}

func parse(t *testing.T, fields string) *Profile {
	t.Helper()
	p, err := Parse([]byte(head+fields), "f.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// One profile in the shapes that YAML has for it.
func TestShapes(t *testing.T) {
	want := parse(t, "work:\n  cpu_ms: 10\n  wait_ms: 90\nlimits:\n  avoid_cpus: \"0\"\n")
	body := head + "work:\n  cpu_ms: 10\n  wait_ms: 90\nlimits:\n  avoid_cpus: 0\n"
	for name, text := range map[string]string{
		"byte order mark": "\ufeff" + body,
		"CRLF":            strings.ReplaceAll(body, "\n", "\r\n"),
		"CR":              strings.ReplaceAll(body, "\n", "\r"),
		"flow":            "{schema: " + Schema + ", name: test, work: {cpu_ms: 10, wait_ms: 90}, limits: {avoid_cpus: 0}}",
		"JSON":            `{"schema": "` + Schema + `", "name": "test", "work": {"cpu_ms": 10, "wait_ms": 90}, "limits": {"avoid_cpus": "0"}}`,
		"document marks":  "%YAML 1.1\n---\n" + body + "...\n# The end.\n",
		"numbers":         head + "work: {cpu_ms: 1e1, wait_ms: +90.0}\nlimits: {avoid_cpus: '0'}\n",
		"aliases":         head + "work: {cpu_ms: &ten 10, wait_ms: 90, native_ms: &zero 0}\nlimits: {avoid_cpus: *zero, memory_shared_mib: *zero}\n",
		"less than none":  head + "work: {cpu_ms: 10, wait_ms: 90, native_ms: -0.0}\nlimits: {avoid_cpus: 0}\n",
		"empty sections":  body + "load:\nscaling: ~\nmeasured: {}\n",
		"no line end":     strings.TrimSpace(body),
	} {
		got, err := Parse([]byte(text), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestEveryField(t *testing.T) {
	got := parse(t, `runtime: python
objective: latency
model: processes
priority: 2.5
work: {kind: service, cpu_ms: 10, native_ms: 4, wait_ms: 90, blocking: false, smt_yield: -0.1, thread_bandwidth_gbs: 12.5,
  communicates: true, partition: static, near: "0000:81:00.0"}
scaling: {sigma: 0.02, kappa: 0.0005}
load: {tasks: 1000, nested: true, ranks_per: llc, arrival_per_s: 500, wait_target_ms: 6, quantile: 0.95}
limits: {memory_per_worker_mib: 3072, memory_shared_mib: 2048, memory_reserve_fraction: 0, downstream_concurrency: 20,
  target_utilisation: 0.9, reserve_cores: 1, avoid_cpus: 0-3}
measured: {seconds: 10, utilisation: 0.15, confidence: 0.9}
`)
	want := &Profile{
		Schema: Schema, Name: "test", Runtime: Python, Objective: Latency, Model: Processes, Priority: new(2.5),
		Work: Work{Kind: Service, CPUMS: new(10.0), NativeMS: 4, WaitMS: 90, Blocking: new(false), SMTYield: new(-0.1),
			ThreadBandwidthGBS: new(12.5), Communicates: true, Partition: Static, Near: "0000:81:00.0"},
		Scaling: &Scaling{Sigma: 0.02, Kappa: 0.0005},
		Load: Load{Tasks: new(int64(1000)), Nested: new(true), RanksPer: PerLLC, ArrivalPerS: new(500.0), WaitTargetMS: new(6.0),
			Quantile: 0.95},
		Limits: Limits{MemoryPerWorkerMiB: new(3072.0), MemorySharedMiB: 2048, DownstreamConcurrency: new(int64(20)),
			TargetUtilisation: new(0.9), ReserveCores: 1, AvoidCPUs: "0-3"},
		Measured: &Measured{Seconds: 10, Utilisation: new(0.15), Confidence: 0.9},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestWith(t *testing.T) {
	p := parse(t, "work: {cpu_ms: 10}\nscaling: {sigma: 0.1}\nmeasured: {seconds: 1}\nload: {tasks: 5}\n")
	before := p.clone()
	got, err := p.With("--set", Setting{"work.cpu_ms", "20"}, Setting{"scaling.sigma", "0.2"}, Setting{"measured.seconds", "2"},
		Setting{"load.tasks", "6"}, Setting{"limits.avoid_cpus", "0,2"}, Setting{"name", "other # and why"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, p); diff != "" {
		t.Errorf("the original is changed:\n%s", diff)
	}
	if *got.Work.CPUMS != 20 || got.Scaling.Sigma != 0.2 || got.Measured.Seconds != 2 || *got.Load.Tasks != 6 ||
		got.Limits.AvoidCPUs != "0,2" || got.Name != "other" {
		t.Errorf("%+v", got)
	}
	if got, err := p.With("--set"); err != nil || !cmp.Equal(got, p) {
		t.Errorf("nothing set: %v, %v", got, err)
	}

	for _, row := range []struct {
		settings []Setting
		says     []string
	}{
		{[]Setting{{"work.cpu_ms", "10ms"}}, []string{`--set work.cpu_ms=10ms: work.cpu_ms: "10ms" carries a unit, and the unit is in the field's name; it takes a number (milliseconds) from 1e-6 to 1e9`}},
		{[]Setting{{"work.cpums", "10"}}, []string{"--set work.cpums=10: work.cpums: there is no such field; did you mean work.cpu_ms?"}},
		{[]Setting{{"cpu_ms", "10"}}, []string{"--set cpu_ms=10: cpu_ms: there is no such field; did you mean work.cpu_ms?"}},
		{[]Setting{{"work", "10"}}, []string{"--set work=10: work: it is a section of fields; set them one by one, as work.kind"}},
		{[]Setting{{"work.cpu_ms", ""}}, []string{`--set work.cpu_ms=: work.cpu_ms: "" is not one YAML value; it takes`}},
		{[]Setting{{"work.cpu_ms", "["}}, []string{`work.cpu_ms: "[" is not one YAML value`}},
		{[]Setting{{"work.cpu_ms", "1\n---\n2"}}, []string{`work.cpu_ms: "1\n---\n2" is not one YAML value`}},
		{[]Setting{{"work.cpu_ms", "[1]"}}, []string{"work.cpu_ms: it is a list"}},
		{[]Setting{{"work.cpu_ms", "~"}}, []string{"work.cpu_ms: it has no value"}},
		{[]Setting{{"work.native_ms", "11"}, {"name", "x"}}, []string{"--set work.native_ms=11: work.native_ms: 11 ms with the GIL released are more than the 10 ms"}},
		{[]Setting{{"load.quantile", "1"}, {"work.wait_ms", "-1"}}, []string{"--set load.quantile=1: load.quantile: 1 is out of range",
			"--set work.wait_ms=-1: work.wait_ms: -1 is out of range"}},
	} {
		_, err := p.With("--set", row.settings...)
		var found Mistakes
		if !errors.As(err, &found) || len(found) != len(row.says) {
			t.Errorf("%v: %v", row.settings, err)
			continue
		}
		for i, says := range row.says {
			if !strings.HasPrefix(found[i].Error(), says) && !strings.Contains(found[i].Error(), ": "+says) {
				t.Errorf("%q\ndoes not say %q", found[i].Error(), says)
			}
		}
	}
	if diff := cmp.Diff(before, p); diff != "" {
		t.Errorf("the original is changed:\n%s", diff)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	if err := os.WriteFile(path, []byte(head+"work: {cpu_ms: 0}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.HasPrefix(err.Error(), path+":3:16: work.cpu_ms: ") {
		t.Errorf("%v", err)
	}
	var found Mistakes
	for _, path := range []string{dir, filepath.Join(dir, "none.yaml")} {
		if _, err := ReadFile(path); err == nil || errors.As(err, &found) || !strings.HasPrefix(err.Error(), "read profile: ") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Every field has what the loader, the schema and the templates look for.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range fields() {
		section, _, below := strings.Cut(f.path, ".")
		if seen[f.path] || f.what == "" || f.allowed() == "" || below && !slices.Contains(sections(), section) {
			t.Errorf("%s: it is twice in the table, not described or in no section", f.path)
		}
		seen[f.path] = true
	}
}
