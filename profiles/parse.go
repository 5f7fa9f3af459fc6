package profiles

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/agext/levenshtein"
	"gopkg.in/yaml.v3"
)

// MaxSize bounds a profile in bytes: ones that people or berth write are a
// thousandth of it.
const MaxSize = 1 << 20

// enough mistakes are named; a file with more of them is no profile.
const enough = 100

// Mistake is one thing wrong with a profile.
type Mistake struct {
	File         string // as it was named, or the flag that set the value
	Line, Column int    // from 1; 0: not known, or not in a file
	Path         string // of the field: work.cpu_ms; empty for the file as a whole
	Problem      string // what was found
	Want         string // what is allowed, or what to do
}

func (m Mistake) Error() string {
	var b strings.Builder
	b.WriteString(m.File)
	if m.Line > 0 {
		fmt.Fprintf(&b, ":%d", m.Line)
		if m.Column > 0 {
			fmt.Fprintf(&b, ":%d", m.Column)
		}
	}
	b.WriteString(": ")
	if m.Path != "" {
		b.WriteString(m.Path + ": ")
	}
	b.WriteString(m.Problem)
	if m.Want != "" {
		b.WriteString("; " + m.Want)
	}
	return b.String()
}

// Mistakes is every mistake of a profile, in the order of its lines.
type Mistakes []Mistake

func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i, one := range m {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// ReadFile reads a profile from a file. What is wrong with the text is
// reported as [Mistakes].
func ReadFile(path string) (*Profile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	defer f.Close()
	return Read(f, path)
}

// Read reads a profile that errors shall call name.
func Read(r io.Reader, name string) (*Profile, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	return Parse(data, name)
}

// Parse reads a profile of one YAML document, berth.profile/v1. Errors call it
// name; all mistakes are reported at once, as [Mistakes].
func Parse(data []byte, name string) (*Profile, error) {
	l := loader{file: name, seen: map[string]Mistake{}}
	p := blank()
	if top := l.document(data); top != nil {
		l.mapping(&p, top, "")
		if l.found == nil || !l.wrongSchema() {
			l.check(&p)
		}
	}
	if l.found != nil {
		slices.SortStableFunc(l.found, func(a, b Mistake) int {
			return cmp.Or(a.Line-b.Line, a.Column-b.Column)
		})
		return nil, l.found
	}
	return &p, nil
}

// Setting gives one field a value, as a flag does: work.wait_ms, 50.
type Setting struct{ Path, Value string }

// With returns a copy of the profile with some fields set. Errors name the flag
// that asked for it.
func (p *Profile) With(flag string, settings ...Setting) (*Profile, error) {
	l := loader{file: flag, seen: map[string]Mistake{}}
	out := p.clone()
	for _, s := range settings {
		l.file = fmt.Sprintf("%s %s=%s", flag, s.Path, s.Value)
		l.set(out, s)
	}
	if l.found == nil {
		l.check(out)
	}
	if l.found != nil {
		return nil, l.found
	}
	return out, nil
}

func (l *loader) set(p *Profile, s Setting) {
	f := l.field(s.Path)
	switch {
	case slices.Contains(sections(), s.Path):
		l.add(nil, s.Path, "it is a section of fields", "set them one by one, as "+l.below(s.Path))
		return
	case f == nil:
		l.unknown(nil, s.Path, s.Path)
		return
	}
	docs, err := documents([]byte(s.Value))
	if err != nil || len(docs) != 1 {
		l.add(nil, s.Path, fmt.Sprintf("%q is not one YAML value", short(s.Value)), "it takes "+f.allowed())
		return
	}
	value := resolve(docs[0])
	value.Line, value.Column = 0, 0 // a flag, not a file
	l.seen[s.Path] = Mistake{File: l.file}
	l.value(p, f, value)
}

// below names the first field of a section.
func (l *loader) below(section string) string {
	for _, f := range l.table {
		if strings.HasPrefix(f.path, section+".") {
			return f.path
		}
	}
	return ""
}

// clone copies the profile and all that it points to.
func (p *Profile) clone() *Profile {
	out := *p
	for _, f := range [...]**float64{&out.Priority, &out.Work.CPUMS, &out.Work.SMTYield, &out.Work.ThreadBandwidthGBS, &out.Load.ArrivalPerS,
		&out.Load.WaitTargetMS, &out.Limits.MemoryPerWorkerMiB, &out.Limits.TargetUtilisation} {
		*f = copied(*f)
	}
	out.Work.Blocking, out.Load.Nested = copied(p.Work.Blocking), copied(p.Load.Nested)
	out.Load.Tasks, out.Limits.DownstreamConcurrency = copied(p.Load.Tasks), copied(p.Limits.DownstreamConcurrency)
	out.Scaling, out.Measured = copied(p.Scaling), copied(p.Measured)
	if out.Measured != nil {
		out.Measured.Utilisation = copied(out.Measured.Utilisation)
	}
	return &out
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// loader collects what is wrong while a profile is filled.
type loader struct {
	file  string
	seen  map[string]Mistake // where each field that the profile names stands
	found Mistakes
	table []field
}

func (l *loader) add(n *yaml.Node, path, problem, want string) {
	m := Mistake{File: l.file, Path: path, Problem: problem, Want: want}
	if n != nil {
		m.Line, m.Column = n.Line, n.Column
	}
	l.found = append(l.found, m)
}

// document finds the one mapping that the file holds, or reports what it is
// instead.
func (l *loader) document(data []byte) *yaml.Node {
	if len(data) > MaxSize {
		l.add(nil, "", fmt.Sprintf("it is larger than %d KiB", MaxSize>>10), "a profile describes one workload in some lines")
		return nil
	}
	if line, column, problem := unreadable(data); problem != "" {
		l.add(&yaml.Node{Line: line, Column: column}, "", problem, "a profile is a YAML text in UTF-8")
		return nil
	}
	docs, err := documents(data)
	if err != nil {
		l.syntax(err, data)
		return nil
	}
	begin := "a profile begins with schema: " + Schema
	if len(docs) == 0 {
		problem := "it is empty"
		if len(bytes.TrimSpace(data)) > 0 {
			problem = "it holds nothing but comments"
		}
		l.add(&yaml.Node{Line: 1, Column: 1}, "", problem, begin)
		return nil
	}
	top := resolve(docs[0])
	switch {
	case top.Tag == "!!null":
		l.add(top, "", "it holds no field", begin)
	case top.Kind != yaml.MappingNode:
		l.add(top, "", "it is "+describe(top), "a profile is a mapping that begins with schema: "+Schema)
	case len(docs) > 1:
		l.add(docs[1], "", "a second document begins here", "one file holds one profile")
	default:
		return top
	}
	return nil
}

// documents parses the documents of a text, but no more than two: the second
// is one too many.
func documents(data []byte) ([]*yaml.Node, error) {
	var docs []*yaml.Node
	for decoder := yaml.NewDecoder(bytes.NewReader(data)); len(docs) < 2; {
		doc := &yaml.Node{}
		switch err := decoder.Decode(doc); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return docs, err
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

// syntax reports an error of the YAML parser.
func (l *loader) syntax(err error, data []byte) {
	problem := strings.TrimPrefix(err.Error(), "yaml: ")
	n := &yaml.Node{}
	if rest, ok := strings.CutPrefix(problem, "line "); ok {
		if number, rest, ok := strings.Cut(rest, ": "); ok {
			n.Line, _ = strconv.Atoi(number)
			problem = rest
		}
	}
	want := "look at the indentation, colons, brackets and quotes there"
	if line := broken(data); line > 0 {
		n.Line = line
		text := bytes.Split(data, []byte("\n"))[line-1]
		indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
		if tab := bytes.IndexByte(indent, '\t'); tab >= 0 {
			n.Column, problem, want = tab+1, "a tab indents this line", "YAML indents with spaces only"
		}
	}
	l.add(n, "", "not YAML: "+problem, want)
}

// broken finds the line that spoils a YAML text: what stands above it parses.
// The parser itself often names the line where the mapping began, or none. A
// text too long for that many attempts gives 0.
func broken(data []byte) int {
	lines := bytes.SplitAfter(data, []byte("\n"))
	if len(lines) > 200 || len(data) > 16<<10 {
		return 0
	}
	end := len(data)
	for i := len(lines); i > 0; i-- {
		end -= len(lines[i-1])
		if _, err := documents(data[:end]); err == nil {
			return i
		}
	}
	return 0
}

// unreadable finds the first byte that no YAML text may hold.
func unreadable(data []byte) (line, column int, problem string) {
	line, column = 1, 1
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // as YAML counts
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1:
			return line, column, fmt.Sprintf("byte 0x%02x is not UTF-8", data[0])
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', 0x7f <= r && r < 0xa0 && r != 0x85, r == 0xfffe, r == 0xffff:
			return line, column, fmt.Sprintf("it holds the control character %U", r)
		case r == '\n':
			line, column = line+1, 0
		}
		column++
		data = data[size:]
	}
	return 0, 0, ""
}

// resolve follows a document to its content and an alias to what it names.
func resolve(n *yaml.Node) *yaml.Node {
	for {
		switch {
		case n.Kind == yaml.AliasNode:
			n = n.Alias
		case n.Kind == yaml.DocumentNode && len(n.Content) == 1:
			n = n.Content[0]
		default:
			return n
		}
	}
}

// mapping fills the fields below a path; "" is the profile itself.
func (l *loader) mapping(p *Profile, node *yaml.Node, section string) {
	first := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if len(l.found) == enough {
			l.add(key, "", fmt.Sprintf("after %d mistakes the rest is not read", enough), "")
		}
		if len(l.found) > enough {
			return
		}
		name := resolve(key).Value
		path := name
		if section != "" {
			path = section + "." + name
		}
		if resolve(key).Kind != yaml.ScalarNode {
			l.add(key, section, "a key is "+describe(resolve(key)), "keys are names")
			continue
		}
		if line, twice := first[name]; twice {
			l.add(key, shown(path), fmt.Sprintf("it is set twice, first in line %d", line), "leave one out")
			continue
		}
		first[name] = key.Line
		target := *resolve(value)
		target.Line, target.Column = value.Line, value.Column // an alias stands where it is used
		if target.Line == 0 {
			target.Line, target.Column = key.Line, key.Column
		}
		l.seen[path] = Mistake{File: l.file, Line: target.Line, Column: target.Column}
		if f := l.field(path); f != nil {
			l.value(p, f, &target)
		} else if section == "" && slices.Contains(sections(), name) {
			switch {
			case target.Kind == yaml.MappingNode:
				l.mapping(p, &target, name)
			case target.Tag != "!!null": // an empty section says nothing
				l.add(&target, name, "it is "+describe(&target), "it holds fields, indented below it")
			}
		} else {
			l.unknown(key, path, name)
		}
	}
	if section == "" {
		for _, required := range [...]string{"schema", "name"} {
			if _, ok := first[required]; !ok {
				want := "write " + required + ": " + Schema
				if required == "name" {
					want = "say what the workload is called"
				}
				l.add(&yaml.Node{Line: node.Line, Column: node.Column}, required, "it is missing", want)
			}
		}
	}
}

func (l *loader) field(path string) *field {
	if l.table == nil {
		l.table = fields()
	}
	for i := range l.table {
		if l.table[i].path == path {
			return &l.table[i]
		}
	}
	return nil
}

// unknown reports a name that is none, with the one that was meant.
func (l *loader) unknown(n *yaml.Node, path, name string) {
	want := "`berth profiles new native` shows the fields there are"
	if like := l.nearest(path, name); like != "" {
		want = "did you mean " + like + "?"
	}
	problem := "there is no such field"
	if name == "<<" {
		problem, want = "merge keys are not read", "write the fields out"
	}
	l.add(n, shown(path), problem, want)
}

// nearest finds the field that a path or its last name looks most like, and
// prefers the same section.
func (l *loader) nearest(path, name string) string {
	if len(path) > 64 {
		return "" // than which every field is shorter
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	best, least := "", len(last)/3+1
	for _, s := range sections() {
		if d := levenshtein.Distance(path, s, nil); d <= least {
			best, least = s, d-1
		}
	}
	for _, f := range l.table {
		field := f.path[strings.LastIndexByte(f.path, '.')+1:]
		d := min(levenshtein.Distance(path, f.path, nil), 1+levenshtein.Distance(last, field, nil))
		if d <= least {
			best, least = f.path, d-1
		}
	}
	return best
}

// value puts a scalar into its field if the field takes it.
func (l *loader) value(p *Profile, f *field, n *yaml.Node) {
	refuse := func(problem string) { l.add(n, f.path, problem, "it takes "+f.allowed()) }
	if n.Kind != yaml.ScalarNode {
		refuse("it is " + describe(n))
		return
	}
	if n.Tag == "!!null" {
		l.add(n, f.path, "it has no value", "leave the line out where it is not known; it takes "+f.allowed())
		return
	}
	switch at := f.at(p).(type) {
	case *float64:
		l.number(f, n, func(x float64) { *at = x })
	case **float64:
		l.number(f, n, func(x float64) { *at = &x })
	case *int64:
		l.whole(f, n, func(x int64) { *at = x })
	case **int64:
		l.whole(f, n, func(x int64) { *at = &x })
	case *bool:
		l.boolean(f, n, func(b bool) { *at = b })
	case **bool:
		l.boolean(f, n, func(b bool) { *at = &b })
	default:
		l.text(f, n, at)
	}
}

func (l *loader) number(f *field, n *yaml.Node, set func(float64)) {
	refuse := func(problem string) { l.add(n, f.path, problem, "it takes "+f.allowed()) }
	text, digits := short(n.Value), strings.TrimLeft(n.Value, "+-")
	isNumber := n.Tag == "!!int" || n.Tag == "!!float"
	x, err := strconv.ParseFloat(n.Value, 64)
	switch {
	case n.Style == 0 && errors.Is(err, strconv.ErrRange): // text to YAML
		refuse(text + " is out of range")
	case !isNumber && n.Style == 0 && hasUnit(n.Value):
		refuse(fmt.Sprintf("%q carries a unit, and the unit is in the field's name", text))
	case !isNumber:
		refuse("it is " + describe(n))
	case n.Style != 0 && err != nil: // tagged !!int or !!float
		refuse(fmt.Sprintf("%q is not a number", text))
	case math.IsNaN(x) || math.IsInf(x, 0) || strings.EqualFold(digits, ".nan") || strings.EqualFold(digits, ".inf"):
		refuse(text + " is no number to plan with")
	case err != nil || len(digits) > 1 && digits[0] == '0' && !strings.ContainsRune(".eE", rune(digits[1])) || strings.ContainsAny(digits, "xXpP_"):
		refuse(text + " can be read in two ways; write a plain decimal number")
	case !f.rule.holds(x):
		refuse(text + " is out of range")
	case x == 0: // or less by a sign
		set(0)
	default:
		set(x)
	}
}

// hasUnit tells a number with letters behind it: 10ms, 3 GiB, 5%.
func hasUnit(text string) bool {
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZµ%/ ")
	if number == "" || number == text {
		return false
	}
	_, err := strconv.ParseFloat(number, 64)
	return err == nil
}

func (l *loader) whole(f *field, n *yaml.Node, set func(int64)) {
	l.number(f, n, func(x float64) {
		if x != math.Trunc(x) {
			l.add(n, f.path, short(n.Value)+" is not whole", "it takes "+f.allowed())
			return
		}
		set(int64(x))
	})
}

func (l *loader) boolean(f *field, n *yaml.Node, set func(bool)) {
	value := strings.ToLower(n.Value)
	if n.Tag != "!!bool" || value != "true" && value != "false" { // a tag alone makes no truth
		l.add(n, f.path, "it is "+describe(n), "it takes "+f.allowed())
		return
	}
	set(value == "true")
}

func (l *loader) text(f *field, n *yaml.Node, at any) {
	text := n.Value
	printed := short(text)
	if len(f.rule.words) > 0 && !slices.Contains(f.rule.words, text) {
		want := "it takes " + f.allowed()
		best, least := "", len(printed)/2+1
		for _, w := range f.rule.words {
			if d := levenshtein.Distance(strings.ToLower(printed), w, nil); d < least {
				best, least = w, d
			}
		}
		if best != "" && len(f.rule.words) > 1 {
			want = "did you mean " + best + "? It takes " + f.allowed()
		}
		l.add(n, f.path, fmt.Sprintf("%q is not known", printed), want)
		return
	}
	// A list of one CPU looks like a number; a name may look like anything.
	if n.Tag != "!!str" && n.Tag != "!!int" && n.Tag != "!!float" && n.Tag != "!!bool" && n.Tag != "!!timestamp" {
		l.add(n, f.path, "it is "+describe(n), "it takes "+f.allowed())
		return
	}
	if f.path == "limits.avoid_cpus" && n.Tag == "!!float" {
		l.add(n, f.path, "without quotes YAML reads "+printed+" as a number", "it takes "+f.allowed())
		return
	}
	if f.rule.check != nil {
		if err := f.rule.check(text); err != nil {
			l.add(n, f.path, fmt.Sprintf("%q: %v", printed, err), "it takes "+f.allowed())
			return
		}
	}
	switch at := at.(type) {
	case *string:
		*at = text
	case *Runtime:
		*at = Runtime(text)
	case *Objective:
		*at = Objective(text)
	case *Model:
		*at = Model(text)
	case *Kind:
		*at = Kind(text)
	case *Partition:
		*at = Partition(text)
	case *RanksPer:
		*at = RanksPer(text)
	}
}

// describe says what a YAML value is.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		value := short(n.Value)
		switch n.Tag {
		case "!!null":
			return "empty"
		case "!!int", "!!float":
			return "the number " + value
		case "!!bool":
			return "the truth value " + value
		case "!!str":
			return fmt.Sprintf("the text %q", value)
		}
		return fmt.Sprintf("%q, tagged %s", value, n.Tag)
	}
	return "not a value"
}

// short cuts text from a file to what a line of an error holds.
func short(text string) string {
	if len(text) > 40 {
		return strings.ToValidUTF8(text[:40], "") + "…"
	}
	return text
}

// shown makes a name from a file fit for a terminal.
func shown(name string) string {
	name = short(name)
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// wrongSchema reports whether the document is of another version: then what its
// fields mean together is not known.
func (l *loader) wrongSchema() bool {
	return slices.ContainsFunc(l.found, func(m Mistake) bool { return m.Path == "schema" })
}
