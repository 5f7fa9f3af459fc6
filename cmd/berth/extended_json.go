package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"berth/probe/topology"
)

// tableSchema names the JSON document of berth inspect --extended.
const tableSchema = "berth.table/v1"

// tableDocument is the table of CPUs for programs: each row is an object with
// the columns in the order asked for, named in lower case as lscpu -J does.
type tableDocument struct {
	Schema string     `json:"schema"`
	CPUs   []tableRow `json:"cpus"`
}

type tableRow []tableCell

type tableCell struct {
	name  string
	value any
}

// MarshalJSON keeps the order of the columns.
func (r tableRow) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, c := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(c.value)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.name, err)
		}
		fmt.Fprintf(&b, "%q:%s", c.name, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// typedCell is what a column's text says: yes or no, a text, or a number; nil
// where nothing is known.
func typedCell(column, text string) any {
	if text == "-" {
		return nil
	}
	switch column {
	case "ALLOWED", "ONLINE", "ISOLATED", "NOHZ":
		return text == "yes"
	case "KIND", "LLC", "SIBLINGS":
		return text
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return text
	}
	return n
}

// extendedJSON writes a row per CPU with all columns, also those that say the
// same of each CPU. A column that is asked for twice is there once.
func extendedJSON(w io.Writer, t *topology.Topology, choice columnChoice, logical bool) error {
	all := t.Online.Union(t.Offline)
	table := newCPUTable(t, all)
	doc := tableDocument{Schema: tableSchema}
	for _, cpu := range table.rows(all, logical) {
		var row tableRow
		seen := map[string]bool{}
		for _, c := range choice.columns {
			if !seen[c.name] {
				seen[c.name] = true
				row = append(row, tableCell{strings.ToLower(c.name), typedCell(c.name, c.value(table, cpu))})
			}
		}
		doc.CPUs = append(doc.CPUs, row)
	}
	return writeJSON(w, doc)
}
