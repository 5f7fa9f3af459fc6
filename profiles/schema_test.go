package profiles

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(JSONSchema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("profile.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("profile.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON is what an editor's YAML reader hands to a schema.
func asJSON(t *testing.T, text []byte) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal(text, &value); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if m, ok := value.(map[any]any); ok { // names that are not text
		named := map[string]any{}
		for k, v := range m {
			b, err := yaml.Marshal(k)
			if err != nil {
				t.Fatal(err)
			}
			named[string(bytes.TrimSpace(b))] = v
		}
		value = named
	}
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestSchemaAccepts(t *testing.T) {
	s := schema(t)
	texts := map[string][]byte{
		"least":          []byte(head),
		"empty sections": []byte(head + "work:\nscaling: ~\nload: {}\n"),
		"one CPU":        []byte(head + "limits: {avoid_cpus: 0}\n"),
		"name":           []byte("schema: " + Schema + "\nname: 5\n"),
		"whole":          []byte(head + "load: {tasks: 1e3}\n"),
		"ends":           []byte(head + "work: {cpu_ms: 1e-6, wait_ms: 1e9, smt_yield: 1, serial_fraction: 1}\nload: {tasks: 1e12}\n"),
	}
	for _, r := range Runtimes() {
		texts["template for "+string(r)] = []byte(Template(r))
	}
	for _, name := range Shipped() {
		text, err := Source(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = text
	}
	for name, text := range texts {
		if _, err := Parse(text, name); err != nil {
			t.Errorf("%v", err)
		}
		if err := s.Validate(asJSON(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A profile that a program writes keeps to it as well.
	p := parse(t, "work: {cpu_ms: 10}\nlimits: {memory_reserve_fraction: 0}\n")
	for _, write := range []func(any) ([]byte, error){yaml.Marshal, json.Marshal} {
		text, err := write(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(asJSON(t, text)); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := schema(t)
	for _, row := range fieldMistakes {
		if err := s.Validate(asJSON(t, []byte(row.text))); err == nil {
			t.Errorf("it takes\n%s", row.text)
		}
	}
	for _, cpus := range []string{"-1", "1.5", "65536", "true", "[0]", "{}"} {
		if err := s.Validate(asJSON(t, []byte(head+"limits: {avoid_cpus: "+cpus+"}\n"))); err == nil {
			t.Errorf("it takes avoid_cpus: %s", cpus)
		}
	}
}
