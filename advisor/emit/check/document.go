package check

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"gopkg.in/yaml.v3"
)

// documents are those of a YAML stream, with their lines.
func documents(text string) ([]*yaml.Node, error) {
	var out []*yaml.Node
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var document yaml.Node
		switch err := decoder.Decode(&document); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, err
		}
		if document.Kind == yaml.DocumentNode && len(document.Content) == 1 {
			out = append(out, document.Content[0])
		}
	}
}

// field is what a mapping has under a key, through aliases and merges; nil if it
// has none. A mapping is looked at once, however often merges name it.
func field(n *yaml.Node, key string) *yaml.Node { return fieldOf(n, key, map[*yaml.Node]bool{}) }

func fieldOf(n *yaml.Node, key string, seen map[*yaml.Node]bool) *yaml.Node {
	n = resolved(n)
	if n == nil || n.Kind != yaml.MappingNode || seen[n] {
		return nil
	}
	seen[n] = true
	var merged *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch n.Content[i].Value {
		case key:
			return resolved(n.Content[i+1])
		case "<<":
			from := []*yaml.Node{n.Content[i+1]}
			if list := resolved(n.Content[i+1]); list != nil && list.Kind == yaml.SequenceNode {
				from = list.Content
			}
			for _, f := range from {
				if merged == nil {
					merged = fieldOf(f, key, seen)
				}
			}
		}
	}
	return merged
}

func resolved(n *yaml.Node) *yaml.Node {
	for depth := 0; n != nil && n.Kind == yaml.AliasNode && depth < 20; depth++ {
		n = n.Alias
	}
	return n
}

// readCompose reads the services of a Compose file.
func readCompose(text string) ([]fact, error) {
	all, err := documents(text)
	if err != nil {
		return nil, err
	}
	var out []fact
	for _, document := range all {
		services := field(document, "services")
		if services == nil || services.Kind != yaml.MappingNode {
			return nil, fmt.Errorf("it has no services")
		}
		for i := 1; i < len(services.Content); i += 2 {
			service := services.Content[i]
			put := func(n *yaml.Node, setting, value string) {
				out = append(out, fact{n.Line, setting, n.Value, value})
			}
			limits := field(field(field(service, "deploy"), "resources"), "limits")
			if n := field(service, "cpuset"); n != nil {
				put(n, "cpuset", set(n.Value))
			}
			for _, n := range []*yaml.Node{field(service, "cpus"), field(limits, "cpus")} {
				if n != nil {
					put(n, "cpus", cpus(n.Value))
				}
			}
			for _, n := range []*yaml.Node{field(service, "mem_limit"), field(limits, "memory")} {
				if n != nil {
					put(n, "mem_limit", bytes(n.Value, 1, 1024))
				}
			}
			out = append(out, variables(field(service, "environment"))...)
		}
	}
	return out, nil
}

// variables are those of a mapping or of a list of NAME=VALUE.
func variables(n *yaml.Node) []fact {
	var out []fact
	if n == nil {
		return nil
	}
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			name, value, _ := strings.Cut(item.Value, "=")
			if f, ok := environment(item.Line, name, value); ok {
				out = append(out, f)
			}
		}
		return out
	}
	for _, name := range planVariables {
		if value := field(n, name); value != nil {
			if f, ok := environment(value.Line, name, value.Value); ok {
				out = append(out, f)
			}
		}
	}
	return out
}

// readPod reads the containers of pods, alone or in what makes pods of a
// template (kubernetes.io, "Resource Management for Pods and Containers").
func readPod(text string) ([]fact, error) {
	all, err := documents(text)
	if err != nil {
		return nil, err
	}
	var out []fact
	for _, document := range all {
		spec := field(document, "spec")
		if job := field(spec, "jobTemplate"); job != nil {
			spec = field(job, "spec")
		}
		if template := field(spec, "template"); template != nil {
			spec = field(template, "spec")
		}
		containers := field(spec, "containers")
		if containers == nil || containers.Kind != yaml.SequenceNode {
			continue // a service, a map of settings
		}
		for _, container := range containers.Content {
			for _, kind := range []string{"requests", "limits"} {
				amounts := field(field(container, "resources"), kind)
				if n := field(amounts, "cpu"); n != nil {
					out = append(out, fact{n.Line, "resources." + kind + ".cpu", n.Value, cpus(n.Value)})
				}
				if n := field(amounts, "memory"); n != nil {
					value := bytes(n.Value, 1, 1000)
					if strings.HasSuffix(n.Value, "m") { // thousandths, which nobody means
						value = ""
					}
					out = append(out, fact{n.Line, "resources." + kind + ".memory", n.Value, value})
				}
			}
			env := field(container, "env")
			if env == nil || env.Kind != yaml.SequenceNode {
				continue
			}
			for _, item := range env.Content {
				name, value := field(item, "name"), field(item, "value")
				if name == nil || value == nil {
					continue
				}
				if f, ok := environment(value.Line, name.Value, value.Value); ok {
					out = append(out, f)
				}
			}
		}
	}
	if all == nil {
		return nil, fmt.Errorf("it is empty")
	}
	return out, nil
}
