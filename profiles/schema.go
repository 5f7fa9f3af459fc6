package profiles

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"berth/probe/cpuset"
)

// JSONSchema is the JSON Schema, draft 2020-12, of a profile. It holds all that
// [Parse] asks of one field; what fields ask of each other it leaves to Parse.
func JSONSchema() []byte {
	var top object
	below := map[string]object{}
	for _, f := range fields() {
		section, name, ok := strings.Cut(f.path, ".")
		if !ok {
			top = append(top, member{f.path, f.schema()})
			continue
		}
		if below[section] == nil {
			top = append(top, member{section, nil}) // keeps its place
		}
		below[section] = append(below[section], member{name, f.schema()})
	}
	for i, m := range top {
		if slices.Contains(sections(), m.key) {
			top[i].value = object{
				{"type", []string{"object", "null"}}, {"additionalProperties", false}, {"properties", below[m.key]},
			}
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"$id", Schema},
		{"title", "berth profile"},
		{"description", "A workload, described by one of its tasks. Units are in the names; what is not known is left out. " +
			"berth profiles validate also checks that the fields can be true together."},
		{"type", "object"},
		{"required", []string{"schema", "name"}},
		{"additionalProperties", false},
		{"properties", top},
	})
	if err != nil {
		panic(err) // the table is part of the program
	}
	return b.Bytes()
}

func (f *field) schema() object {
	out := object{{"description", f.what}}
	add := func(key string, value any) { out = append(out, member{key, value}) }
	r := &f.rule
	switch f.at(&Profile{}).(type) {
	case *bool, **bool:
		add("type", "boolean")
	case *int64, **int64:
		add("type", "integer")
		out = append(out, r.bounds()...)
	case *float64, **float64:
		add("type", "number")
		out = append(out, r.bounds()...)
	default:
		switch {
		case len(r.words) == 1:
			add("const", r.words[0])
		case r.words != nil:
			add("enum", r.words)
		case f.path == "name": // which may look like anything
			add("type", []string{"string", "number", "boolean"})
			add("pattern", `\S`)
		case f.path == "limits.avoid_cpus": // one CPU looks like a number
			add("type", []string{"string", "integer"})
			out = append(out, (&rule{from: 0, below: cpuset.Limit}).bounds()...)
		case f.path == "work.near":
			add("type", "string")
			add("pattern", `^[^:\s]+:\S+$`)
		}
	}
	if f.standard != "" {
		var standard any
		if err := yaml.Unmarshal([]byte(f.standard), &standard); err != nil {
			panic(err) // as above
		}
		add("default", standard)
	}
	return out
}

func (r *rule) bounds() object {
	from, below := "minimum", "exclusiveMaximum"
	if r.open {
		from = "exclusiveMinimum"
	}
	if r.upTo {
		below = "maximum"
	}
	return object{{from, r.from}, {below, r.below}}
}

// object is a JSON object that keeps its order.
type object []member

type member struct {
	key   string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(m.key)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
