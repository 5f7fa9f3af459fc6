package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
)

// CalibrationSchema names the JSON document that a [Calibration] marshals to.
const CalibrationSchema = "berth.calibration/v1"

// Calibration is what experiments measured on one machine, as medians. What is
// nil or missing was not measured.
type Calibration struct {
	Schema string `json:"schema" yaml:"schema"`
	// SMTYield is the extra throughput of an SMT sibling, by kind of work.
	SMTYield map[string]float64 `json:"smt_yield,omitempty" yaml:"smt_yield,omitempty"`
	// MemoryBandwidthGBS is in 10^9 bytes per second, by NUMA node.
	MemoryBandwidthGBS map[string]float64 `json:"memory_bandwidth_gbs,omitempty" yaml:"memory_bandwidth_gbs,omitempty"`
	// SwitchUS is the hand-over between two threads on one CPU, in microseconds.
	SwitchUS *float64 `json:"switch_us,omitempty" yaml:"switch_us,omitempty"`
	// CoreToCoreNS is one way, from row to column; nil on the diagonal.
	CoreToCoreNS [][]*float64         `json:"core_to_core_ns,omitempty" yaml:"core_to_core_ns,omitempty"`
	Fingerprint  string               `json:"machine_fingerprint,omitempty" yaml:"machine_fingerprint,omitempty"`
	MeasuredAt   map[string]time.Time `json:"measured_at,omitempty" yaml:"measured_at,omitempty"` // by key
}

// maxDocument bounds a machine or a calibration that is read, in bytes: 4096
// CPUs take some 2 MiB, a matrix of their latencies a hundred.
const maxDocument = 256 << 20

// ReadCalibration reads a berth.calibration/v1 document, which errors call
// name. Fields that this version does not know are left alone.
func ReadCalibration(r io.Reader, name string) (*Calibration, error) {
	var c Calibration
	if err := ReadDocument(r, name, CalibrationSchema, &c); err != nil {
		return nil, err
	}
	for kind, y := range c.SMTYield {
		if y <= -1 || y > 16 || math.IsNaN(y) {
			return nil, fmt.Errorf("%s: smt_yield.%s is %g; an extra throughput per sibling lies above -1", name, kind, y)
		}
	}
	for node, b := range c.MemoryBandwidthGBS {
		if id, err := strconv.Atoi(node); err != nil || id < 0 {
			return nil, fmt.Errorf("%s: memory_bandwidth_gbs.%s: its keys are numbers of NUMA nodes", name, node)
		}
		if b <= 0 {
			return nil, fmt.Errorf("%s: memory_bandwidth_gbs.%s is %g; a bandwidth is above 0", name, node, b)
		}
	}
	return &c, nil
}

// ReadDocument decodes one JSON document, which errors call name, of a schema
// that its field "schema" must name. Fields that into does not have are passed
// over; an error tells the line and column, or is a [*WrongSchema].
func ReadDocument(r io.Reader, name, schema string, into any) error {
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxDocument {
		return fmt.Errorf("%s is larger than %d MiB: not a document of berth's", name, maxDocument>>20)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return fmt.Errorf("%s is empty; it should hold a %s document", name, schema)
	}
	var head struct {
		Schema *string `json:"schema"`
	}
	if err := Decode(data, name, &head); err != nil {
		return err
	}
	switch {
	case head.Schema == nil:
		return fmt.Errorf("%s has no schema field; it should say %q", name, schema)
	case *head.Schema != schema:
		return &WrongSchema{name, *head.Schema, schema}
	}
	return Decode(data, name, into)
}

// Decode decodes JSON that errors call name; they tell the line and column.
func Decode(data []byte, name string, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return atPlace(err, name, data)
	}
	return nil
}

// WrongSchema is a document of berth's that is not the one asked for.
type WrongSchema struct {
	Name string // of the file
	Is   string // its schema
	Want string
}

func (e *WrongSchema) Error() string {
	return fmt.Sprintf("%s is a %q document, not %s", e.Name, e.Is, e.Want)
}

// atPlace turns the offset of a JSON error into a line and a column.
func atPlace(err error, name string, data []byte) error {
	offset := int64(-1)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
		err = fmt.Errorf("%s cannot be a JSON %s", kind.Field, kind.Value)
	}
	if offset < 0 || offset > int64(len(data)) {
		return fmt.Errorf("%s: %w", name, err)
	}
	before := data[:offset]
	line := bytes.Count(before, []byte{'\n'}) + 1
	column := max(1, len(before)-(bytes.LastIndexByte(before, '\n')+1))
	return fmt.Errorf("%s:%d:%d: %w", name, line, column, err)
}
