//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"berth/advisor"
	"berth/affinity"
	"berth/affinity/experiment"
	"berth/affinity/fleet"
	"berth/affinity/tune"
	"berth/probe"
	"berth/probe/difference"
	"berth/profiles"
	"berth/profiles/observe"
)

// operand is one of the two things that berth compare compares.
type operand struct {
	arg     string // as it was given
	name    string // as errors call it
	kind    *operandKind
	text    []byte // of a document
	profile *profiles.Profile
	machine *probe.Machine
}

// operandKind is what a document can be, by the schema that it names.
type operandKind struct {
	name, words, schema string
	// compare compares two that are no machines and no profiles.
	compare func(*comparison, *operand, *operand) (*difference.Report, error)
}

var (
	machineKind = &operandKind{"machine", "a machine", probe.Schema, nil}
	profileKind = &operandKind{"profile", "a profile", profiles.Schema, nil}
)

var operandKinds = [...]*operandKind{
	machineKind, profileKind,
	{"plan", "a plan", advisor.Schema, comparePlans},
	{"calibration", "a calibration", probe.CalibrationSchema, compareCalibrations},
	{"experiment", "an experiment", experiment.Schema, compareExperiments},
	{"observation", "an observation", observe.Schema, compareObservations},
	{"tune", "a search by berth tune", tune.Schema, compareSearches},
	{"receipt", "a receipt", affinity.ReceiptSchema, compareReceipts},
	{"doctor", "what berth doctor found", doctorSchema, compareDiagnoses},
	{"fleet", "a fleet", fleet.Schema, compareFleets},
}

// liveOperand is the word for the machine that berth runs on. A file of that name
// is ./now.
const liveOperand = "now"

// mostOperand bounds a document that is compared, in bytes.
const mostOperand = 256 << 20

const operandHint = "give a file that berth wrote as JSON, a profile, - for standard input, or the word now for this machine"

// readOperands reads both. Standard input can be only one of them, or the
// document that --machine names.
func readOperands(cmd *cobra.Command, first, second, machine string) (a, b *operand, err error) {
	dashes := 0
	for _, name := range [...]string{first, second, machine} {
		if name == "-" {
			dashes++
		}
	}
	if dashes > 1 {
		return nil, nil, usage("put one of them into a file", "standard input is named twice")
	}
	if a, err = readOperand(cmd, first); err != nil {
		return nil, nil, err
	}
	b, err = readOperand(cmd, second)
	return a, b, err
}

func readOperand(cmd *cobra.Command, arg string) (*operand, error) {
	o := &operand{arg: arg, name: arg}
	if arg == liveOperand {
		m, err := (&machineFlags{}).probe(cmd, 0)
		o.kind, o.machine = machineKind, m
		return o, err
	}
	if arg != "-" && !isFile(arg) && !strings.Contains(arg, ".") {
		p, err := loadProfile(cmd, arg)
		o.kind, o.profile = profileKind, p
		return o, err
	}
	text, err := o.read(cmd)
	if err != nil {
		return nil, &usageError{err, operandHint}
	}
	return o, o.recognise(text)
}

func (o *operand) read(cmd *cobra.Command) ([]byte, error) {
	in := io.Reader(cmd.InOrStdin())
	if o.arg == "-" {
		o.name = "standard input"
	} else {
		f, err := os.Open(o.arg)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, mostOperand+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", o.name, err)
	case len(text) > mostOperand:
		return nil, fmt.Errorf("%s is larger than %d MiB: not a document of berth's", o.name, mostOperand>>20)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, fmt.Errorf("%s is empty", o.name)
	}
	return text, nil
}

// recognise finds out what a document is. One that does not begin as JSON does
// is a profile, or the YAML of something else.
func (o *operand) recognise(text []byte) error {
	isJSON := bytes.HasPrefix(bytes.TrimSpace(text), []byte("{"))
	var head struct{ Schema string }
	if !isJSON {
		_ = yaml.Unmarshal(text, &head) // what is wrong with a profile is told by its own reader
		if head.Schema == "" || head.Schema == profiles.Schema {
			return o.takeProfile(text)
		}
	} else if err := probe.Decode(text, o.name, &head); err != nil {
		return &usageError{err, operandHint}
	}
	if head.Schema == "" {
		return usage(operandHint, "%s has no schema field: it is no document of berth's", o.name)
	}
	for _, k := range operandKinds {
		if head.Schema != k.schema {
			continue
		}
		switch {
		case k == profileKind:
			return o.takeProfile(text)
		case !isJSON:
			return usage("print it with -o json", "%s is %s in YAML, and only its JSON is read", o.name, k.words)
		}
		o.kind, o.text = k, text
		if k != machineKind {
			return nil
		}
		var err error
		if o.machine, err = probe.Read(bytes.NewReader(text), o.name); err != nil {
			return &usageError{err, operandHint}
		}
		return nil
	}
	return o.unknown(head.Schema)
}

// unknown says what a document is that cannot be compared.
func (o *operand) unknown(schema string) error {
	family, _, _ := strings.Cut(schema, "/")
	for _, k := range operandKinds {
		if mine, version, _ := strings.Cut(k.schema, "/"); mine == family {
			return usage("write it with this berth, or compare it with the one that wrote it",
				"%s is a %q document, and this berth reads version %s of it", o.name, schema, strings.TrimPrefix(version, "v"))
		}
	}
	var words []string
	for _, k := range operandKinds {
		words = append(words, k.schema)
	}
	return usage("those that can be are "+strings.Join(words, ", "), "%s is a %q document, which cannot be compared", o.name, schema)
}

func (o *operand) takeProfile(text []byte) error {
	p, err := profiles.Parse(text, o.name)
	var found profiles.Mistakes
	switch {
	case errors.As(err, &found) && len(found) > 1:
		return usage(profileHint, "%d mistakes in %s:\n  %s", len(found), o.name, strings.ReplaceAll(found.Error(), "\n", "\n  "))
	case err != nil:
		return usage(profileHint, "%w", err)
	}
	o.kind, o.profile = profileKind, p
	return nil
}
