//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

// maxRules bounds a rules file, in bytes.
const maxRules = 1 << 20

// readRules reads --rule, then --rules: rules that come first count first.
func (o *pinOptions) readRules(cmd *cobra.Command) ([]*pinRule, error) {
	var out []*pinRule
	for _, text := range o.rules {
		at := strings.LastIndexByte(text, '=')
		if at < 0 {
			return nil, usage("for example --rule 'io-*=0-1' or --rule 'worker-*=each:2-7'", "--rule %s is not NAME=[each:]LIST", text)
		}
		list, each := strings.CutPrefix(text[at+1:], "each:")
		r, err := makeRule(cmd, text[:at], list, "", each)
		if err != nil {
			return nil, usage("for example --rule 'worker-*=each:2-7'", "--rule %s: %w", text, err)
		}
		out = append(out, r)
	}
	if o.rulesFile == "" {
		return out, nil
	}
	more, err := o.readRulesFile(cmd)
	if err != nil {
		return nil, usage("`berth pin --help` shows a rules file", "--rules: %w", err)
	}
	return append(out, more...), nil
}

func (o *pinOptions) readRulesFile(cmd *cobra.Command) ([]*pinRule, error) {
	f, err := os.Open(o.rulesFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRules+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxRules {
		return nil, fmt.Errorf("%s is larger than %d bytes: not a file of rules", o.rulesFile, maxRules)
	}
	return parseRules(cmd, text, o.rulesFile)
}

// parseRules reads the YAML of a rules file.
func parseRules(cmd *cobra.Command, text []byte, name string) ([]*pinRule, error) {
	type entry struct {
		Name, CPUs, Place string
		Each              bool
	}
	var doc struct{ Rules []yaml.Node }
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(doc.Rules) == 0 {
		return nil, fmt.Errorf("%s holds no rules", name)
	}
	var out []*pinRule
	for i := range doc.Rules {
		node := &doc.Rules[i]
		var e entry
		err := knownKeys(node, "name", "cpus", "place", "each")
		if err == nil {
			err = node.Decode(&e)
		}
		var r *pinRule
		if err == nil {
			r, err = makeRule(cmd, e.Name, e.CPUs, e.Place, e.Each)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d:%d: %w", name, node.Line, node.Column, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// knownKeys refuses keys of a mapping that are not among those known; yaml.v3
// does so for a whole document only.
func knownKeys(node *yaml.Node, keys ...string) error {
	if node.Kind != yaml.MappingNode {
		return errors.New("a rule is a mapping, as {name: \"io-*\", cpus: \"0-1\"}")
	}
	for i := 0; i < len(node.Content); i += 2 {
		if err := known("key", node.Content[i].Value, keys, ""); err != nil {
			return fmt.Errorf("there is no key %q; a rule has %s", node.Content[i].Value, strings.Join(keys, ", "))
		}
	}
	return nil
}

func makeRule(cmd *cobra.Command, name, cpus, expression string, each bool) (*pinRule, error) {
	if name == "" {
		return nil, errors.New("it has no name; * stands for every thread")
	}
	if _, err := filepath.Match(name, ""); err != nil {
		return nil, fmt.Errorf("the name %q is no pattern: a [ is not closed", name)
	}
	if (cpus == "") == (expression == "") {
		return nil, errors.New("it needs CPUs: a list in cpus, or an expression in place")
	}
	seats := seating{cpus: cpus, place: expression}
	places, err := seats.find(cmd)
	if err != nil {
		return nil, err
	}
	return &pinRule{name: name, each: each, places: places}, nil
}
