//go:build linux

package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"berth/probe"
)

// mostDocument bounds one answer, in bytes: a machine of 4096 CPUs takes some 2 MiB.
const mostDocument = 64 << 20

// document is an answer that can be used.
type document struct {
	machine *probe.Machine
	text    []byte // the document alone
	again   []byte // what follows it, if that is another document
	notes   []string
}

// readDocument finds the one document in what a node wrote. Around it may stand
// what a login shell prints; that is noted.
func readDocument(answer []byte) (*document, *Trouble) {
	if len(answer) > mostDocument {
		return nil, trouble(Garbage, "its answer is larger than %d MiB", mostDocument>>20)
	}
	start := documentStart(answer)
	if start < 0 {
		return nil, noDocument(answer)
	}
	d := &document{machine: &probe.Machine{}}
	if n := bytes.Count(answer[:start], []byte{'\n'}); n > 0 {
		d.notes = append(d.notes, fmt.Sprintf("%s before its answer, the first %s", lines(n), firstLine(answer)))
	}
	body := answer[start:]
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(d.machine); err != nil {
		return nil, badDocument(body, err)
	}
	if d.machine.Schema != probe.Schema {
		return nil, otherSchema(d.machine.Schema)
	}
	if err := d.machine.Check("its answer"); err != nil {
		return nil, trouble(Garbage, "%v", err)
	}
	end := int(decoder.InputOffset())
	d.text = body[:end]
	if rest := bytes.TrimSpace(body[end:]); len(rest) > 0 {
		if rest[0] == '{' {
			d.again = rest
		} else {
			d.notes = append(d.notes, fmt.Sprintf("%s after its answer, the first %s", lines(bytes.Count(rest, []byte{'\n'})+1), firstLine(rest)))
		}
	}
	return d, nil
}

func lines(n int) string {
	if n == 1 {
		return "1 line"
	}
	return fmt.Sprintf("%d lines", n)
}

// documentStart is where the first line begins that a document can begin with;
// -1: there is none.
func documentStart(text []byte) int {
	for at := 0; at < len(text); {
		line := text[at:]
		if trimmed := bytes.TrimLeft(line, " \t\r"); len(trimmed) > 0 && trimmed[0] == '{' {
			return at
		}
		next := bytes.IndexByte(line, '\n')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return -1
}

func noDocument(answer []byte) *Trouble {
	if len(bytes.TrimSpace(answer)) == 0 {
		return trouble(Garbage, "its answer is empty")
	}
	return trouble(Garbage, "it answered no document, but %s", firstLine(answer))
}

// badDocument tells half a document from none.
func badDocument(body []byte, err error) *Trouble {
	var head struct{ Schema string }
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return trouble(BrokeOff, "its answer broke off after %d bytes", len(body))
	case errors.As(err, &kind) && json.NewDecoder(bytes.NewReader(body)).Decode(&head) == nil && head.Schema != probe.Schema:
		return otherSchema(head.Schema)
	}
	return trouble(Garbage, "its answer is not a document that can be read (%v); it begins with %s", err, firstLine(body))
}

// otherSchema says which side is the older one, where the name tells it.
func otherSchema(schema string) *Trouble {
	name, version := cutVersion(schema)
	ours, current := cutVersion(probe.Schema)
	switch {
	case schema == "":
		return trouble(Garbage, "its answer has no schema field, and should say %q", probe.Schema)
	case name != ours || version < 0:
		return trouble(Garbage, "it answered a document of schema %q, not %s", shown(schema), probe.Schema)
	case version < current:
		return trouble(OtherSchema, "its berth is older than this one: it answered %s, not %s; put this one there, or let it be brought along", schema, probe.Schema)
	}
	return trouble(OtherSchema, "its berth is newer than this one: it answered %s, not %s; look at the fleet with that one", schema, probe.Schema)
}

func cutVersion(schema string) (name string, version int) {
	name, digits, _ := strings.Cut(schema, "/v")
	if n, err := strconv.Atoi(digits); err == nil {
		return name, n
	}
	return name, -1
}

// firstLine is the first line with something on it, for a message.
func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte{'\n'})
	return strconv.Quote(shown(string(line[:min(len(line), 400)])))
}

// shown makes text of anybody's fit for a message: one short line of what can
// be printed.
func shown(text string) string { return shownUpTo(100, text) }

func shownUpTo(most int, text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSpace(text), string(utf8.RuneError)))
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most-1]) + "…"
	}
	return text
}
