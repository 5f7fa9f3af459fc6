//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"berth/advisor"
	"berth/affinity"
	"berth/affinity/fleet"
	"berth/probe"
)

func text(t *testing.T, m *probe.Machine, o textOptions) string {
	t.Helper()
	o.live = true
	o.title = (&machineFlags{}).title(m)
	var b bytes.Buffer
	if err := textView(bufio.NewWriter(&b), m, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestText(t *testing.T) {
	for name, m := range machines(t) {
		for _, width := range []int{80, 200} {
			t.Run(fmt.Sprint(name, width), func(t *testing.T) {
				got := text(t, m, textOptions{screen: screen{width: width}})
				golden(t, fmt.Sprintf("%s.%d.txt", name, width), got)
				lines := strings.Split(got, "\n")
				if len(lines) > 40 {
					t.Errorf("%d lines do not fit a screen", len(lines))
				}
				for _, l := range lines {
					if runes(l) > width {
						t.Errorf("%d columns wide: %q", runes(l), l)
					}
				}
			})
		}
	}
}

func TestFullAndLogical(t *testing.T) {
	m := machines(t)
	for _, name := range []string{"laptop", "epyc-pod", "offline"} {
		golden(t, name+".full.txt", text(t, m[name], textOptions{full: true, screen: screen{width: 100}}))
		golden(t, name+".logical.txt", text(t, m[name], textOptions{logical: true, screen: screen{width: 100}}))
	}
}

func TestColour(t *testing.T) {
	m := pod(t)
	coloured := text(t, m, textOptions{screen: screen{width: 80, colour: true}})
	golden(t, "epyc-pod.colour.txt", coloured)
	for _, code := range []string{bold, dim, yellow, green, plain} {
		coloured = strings.ReplaceAll(coloured, code, "")
	}
	if diff := cmp.Diff(text(t, m, textOptions{screen: screen{width: 80}}), coloured); diff != "" {
		t.Errorf("colour changes more than colour (-plain +coloured)\n%s", diff)
	}
}

func TestTables(t *testing.T) {
	for name, m := range machines(t) {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			usual, err := parseColumns("+")
			if err != nil {
				t.Fatal(err)
			}
			if err := extendedView(&b, &m.Topology, usual, false); err != nil {
				t.Fatal(err)
			}
			b.WriteByte('\n')
			if err := cachesView(&b, &m.Topology); err != nil {
				t.Fatal(err)
			}
			if m.Topology.Online.Len() <= 64 {
				golden(t, name+".tables.txt", b.String())
			}
		})
	}
}

// Every column must have something to say of every CPU.
func TestAllColumns(t *testing.T) {
	var names []string
	for _, c := range allColumns() {
		names = append(names, c.name)
	}
	choice, err := parseColumns(strings.ToLower(strings.Join(names, ",")))
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range machines(t) {
		for _, logical := range []bool{false, true} {
			var b bytes.Buffer
			if err := extendedView(&b, &m.Topology, choice, logical); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(b.String()), "\n")
			if want := 1 + m.Topology.Online.Union(m.Topology.Offline).Len(); len(lines) != want {
				t.Errorf("%s: %d lines, want %d", name, len(lines), want)
			}
			for _, l := range lines {
				if n := len(strings.Fields(l)); n != len(names) {
					t.Errorf("%s: %d cells, want %d: %q", name, n, len(names), l)
				}
			}
		}
	}
}

func compiledSchemas(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	out := map[string]*jsonschema.Schema{}
	for _, name := range schemaNames() {
		text, err := schemas.ReadFile("schema/" + name + schemaSuffix)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		if err := c.AddResource(name, doc); err != nil {
			t.Fatal(err)
		}
		if out["berth."+name+"/v1"], err = c.Compile(name); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// The JSON keeps to the schema, holds what the Machine holds, and the YAML has
// the same names and values.
func TestJSON(t *testing.T) {
	schema := compiledSchemas(t)[probe.Schema]
	for name, m := range machines(t) {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := writeJSON(&b, m); err != nil {
				t.Fatal(err)
			}
			if strings.Count(b.String(), "\n") < 5 || !strings.HasSuffix(b.String(), "}\n") {
				t.Errorf("the layout is off:\n%s", b.String())
			}
			laidOut, err := jsonschema.UnmarshalJSON(bytes.NewReader(b.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(laidOut); err != nil {
				t.Errorf("%#v", err)
			}
			plain, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			var want, got any
			if err := json.Unmarshal(plain, &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the layout changes the data (-want +got)\n%s", diff)
			}

			b.Reset()
			if err := writeYAML(&b, m); err != nil {
				t.Fatal(err)
			}
			var fromYAML any
			if err := yaml.Unmarshal(b.Bytes(), &fromYAML); err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(fromYAML)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(again, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("YAML differs from JSON (-json +yaml)\n%s", diff)
			}
		})
	}
	golden(t, "laptop.json", jsonOf(t, laptop()))
	var b bytes.Buffer
	if err := writeYAML(&b, pod(t)); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); strings.Contains(got, " \n") || !strings.HasPrefix(got, "schema: ") || !strings.HasSuffix(got, "\n") {
		t.Errorf("the YAML is not tidy:\n%.300s", got)
	}
}

// Text of any kind comes back as it was, from JSON and from YAML.
func TestLayoutText(t *testing.T) {
	type item struct {
		Name string `json:"name"`
		None []int  `json:"none"`
		Bare any    `json:"bare"`
	}
	type document struct {
		Empty  []item         `json:"empty"`
		Nested map[string]any `json:"nested"`
		Items  []item         `json:"items"`
		Plain  []string       `json:"plain"`
	}
	want := document{Empty: []item{}, Nested: map[string]any{"a": map[string]any{}, "b": []any{[]any{}, []any{1.5}}, "c": true}}
	for _, s := range []string{"", " ", "- x", "a: b # c", `"`, `\`, "{[,]}", "\u007f\t\n\u2028", "é€𝄞", "0-3,8", "yes", "<&>"} {
		want.Items = append(want.Items, item{Name: s, None: []int{}})
		want.Plain = append(want.Plain, s)
	}
	var b bytes.Buffer
	var got document
	if err := writeJSON(&b, want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s", err, b.Bytes())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("JSON (-want +got)\n%s", diff)
	}
	b.Reset()
	if err := writeYAML(&b, want); err != nil {
		t.Fatal(err)
	}
	got = document{}
	if err := yaml.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s", err, b.Bytes())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("YAML (-want +got)\n%s\n%s", diff, b.Bytes())
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	if err := writeJSON(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The schema leaves room for further members; the program must not use it for
// names that the schema does not tell.
func TestSchemaNamesAll(t *testing.T) {
	namesAll(t, "inspect", reflect.TypeFor[probe.Machine]())
	namesAll(t, "plan", reflect.TypeFor[advisor.Plan]())
	namesAll(t, "sweep", reflect.TypeFor[sweepDocument]())
	namesAll(t, "division", reflect.TypeFor[advisor.Division]())
	namesAll(t, "receipt", reflect.TypeFor[affinity.Receipt]())
	namesAll(t, "fleet", reflect.TypeFor[fleet.Fleet]())
	namesAll(t, "fleet-plan", reflect.TypeFor[fleet.Plan]())
	namesAll(t, "fleet-run", reflect.TypeFor[fleet.Outcome]())
}

func namesAll(t *testing.T, schema string, document reflect.Type) {
	text, err := schemas.ReadFile("schema/" + schema + schemaSuffix)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	// property finds a name in a schema, or in those it refers to.
	var property func(at map[string]any, name string) map[string]any
	property = func(at map[string]any, name string) map[string]any {
		properties, _ := at["properties"].(map[string]any)
		if p, ok := properties[name].(map[string]any); ok {
			return p
		}
		all, _ := at["allOf"].([]any)
		for _, one := range append(all, at) {
			if r, ok := one.(map[string]any)["$ref"].(string); ok {
				to := doc["$defs"].(map[string]any)[strings.TrimPrefix(r, "#/$defs/")].(map[string]any)
				if p := property(to, name); p != nil {
					return p
				}
			}
		}
		return nil
	}
	var walk func(reflect.Type, map[string]any)
	walk = func(typ reflect.Type, at map[string]any) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			if items, ok := at["items"].(map[string]any); ok {
				at = items
			}
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || (typ == reflect.TypeFor[advisor.Plan]() || typ == reflect.TypeFor[probe.Machine]() || typ == reflect.TypeFor[affinity.Receipt]()) && typ != document {
			return
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || name == "-" {
				continue
			}
			if y, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); y != name {
				t.Errorf("%s.%s: %q in JSON and %q in YAML", typ, f.Name, name, y)
			}
			if p := property(at, name); p != nil {
				walk(f.Type, p)
			} else if name != "limit" {
				t.Errorf("%s.%s: the schema does not know %q", typ, f.Name, name)
			}
		}
	}
	walk(document, doc)
}

func TestSchemaRefuses(t *testing.T) {
	schema := compiledSchemas(t)[probe.Schema]
	var b bytes.Buffer
	if err := writeJSON(&b, laptop()); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`"schema": "berth.inspect/v1"`, `"schema": "berth.inspect/v2"`},
		{`"online": "0-15"`, `"online": ""`},
		{`"online": "0-15"`, `"online": "0-15,"`},
		{`"online": "0-15"`, `"online": [0, 1]`},
		{`"type": "data"`, `"type": "Data"`},
		{`"effective_cpus": 16`, `"effective_cpus": "16"`},
		{`"chain"`, `"links"`},
		{`"family": 6`, `"family": "6"`},
	} {
		bad := strings.Replace(b.String(), change[0], change[1], 1)
		if bad == b.String() {
			t.Errorf("%q is not in the output", change[0])
			continue
		}
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(bad))
		if err != nil {
			t.Fatal(err)
		}
		if schema.Validate(doc) == nil {
			t.Errorf("%s passes", change[1])
		}
	}
}

// No machine, however contradictory, makes a view fail.
func FuzzViews(f *testing.F) {
	f.Add([]byte("0"), uint16(100))
	f.Add([]byte("\x01\x07\x12\x3f\x55\x04\x0a\x90\x21\x0c\x33\x48\x02\x1f"), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, width uint16) {
		m := tangled(data)
		for _, o := range []textOptions{{}, {full: true}, {logical: true}} {
			o.screen = screen{width: max(40, int(width%300)), colour: width%2 == 0}
			text(t, m, o)
		}
		usual, err := parseColumns("+SIBLINGS,LLC,DIE,CLUSTER")
		if err != nil {
			t.Fatal(err)
		}
		if err := extendedView(io.Discard, &m.Topology, usual, width%3 == 0); err != nil {
			t.Fatal(err)
		}
		if err := cachesView(io.Discard, &m.Topology); err != nil {
			t.Fatal(err)
		}
		jsonOf(t, m)
	})
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		got, want string
	}{
		{cacheSize(48 << 10), "48 KiB"},
		{cacheSize(1280 << 10), "1.25 MiB"},
		{cacheSize(1408 << 10), "1408 KiB"},
		{cacheSize(36 << 20), "36 MiB"},
		{cacheSize(28160 << 10), "27.5 MiB"},
		{cacheSize(1 << 30), "1 GiB"},
		{cacheSize(1536), "1.5 KiB"},
		{cacheSize(100), "100 bytes"},
		{memorySize(263856312 << 10), "251.6 GiB"},
		{memorySize(1<<40 - 1), "1 TiB"},
		{memorySize(512), "512 bytes"},
		{cpuTime(2.5), "2.5"},
		{cpuTime(1.0 / 3), "0.333"},
		{cpuTime(0.00015), "0.00015"},
		{cpuList(cpus("0-30:2,64-94:2")), "0-30:2,64-94:2"},
		{cpuList(cpus("0-3,8")), "0-3,8"},
		{cpuList(cpus("0,2,4")), "0,2,4"},
		{numbers([]int{8442, 36, 37, 38}), "36-38,8442"},
		{count(1, "core"), "1 core"},
		{count(3, "package"), "3 packages"},
		{strings.Join(wrap("a · bb · ccc", " · ", 8), "|"), "a · bb ·|ccc"},
		{spread([]string{"0-3", "4-7", "8-11", "12-15"}, " | ", 17), "0-3 | 4-7 … 12-15"},
		{spread([]string{"0-3", "4-7", "8-11", "12-15"}, " | ", 16), "0-3 … 12-15"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// BenchmarkJSON writes machines of 256 and of 4096 CPUs.
func BenchmarkJSON(b *testing.B) {
	for _, packages := range []int{2, 32} {
		source, err := probe.Synthetic(fmt.Sprintf("package:%d numa:1 l3:8 l2:8 l1d:1 l1i:1 core:1 pu:2", packages))
		if err != nil {
			b.Fatal(err)
		}
		m, err := probe.Probe(context.Background(), source)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(m.Topology.Online.Len()), func(b *testing.B) {
			for b.Loop() {
				if err := writeJSON(io.Discard, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
