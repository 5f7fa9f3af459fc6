package hwloc

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// object is an object element. Pointers are nil where the attribute is missing.
type object struct {
	line, parent        int // parent is an index, -1 for the first
	typ, subtype, name  string
	id                  *int
	cpus, nodes         *cpuset.Set
	complete, allowed   *cpuset.Set
	allowedNodes        *cpuset.Set
	kind, subkind       int
	gp, size, memory    *int64
	depth               int
	cacheLine, ways     *int
	cache               topology.CacheType
	osdev, pci, pciType string
	infos               map[string]string
}

// distances is a distances2 element of NUMA nodes, or a distances element of
// version 1.
type distances struct {
	line, count int
	byGP        bool
	text        [2]strings.Builder // indexes and values
	values      []float64          // version 1
}

// document is a file's content, not yet looked at as a whole.
type document struct {
	version   int
	objects   []object
	kinds     []map[string]string // infos; the set is under ""
	kindLines []int
	distances []*distances
}

// parser reads the elements of a file.
type parser struct {
	*document
	dec    *xml.Decoder
	stack  []frame
	masks  map[string]cpuset.Set
	digits int
}

// frame is an element that is open.
type frame struct {
	name   string
	object int               // index of the object it is or belongs to, or -1
	infos  map[string]string // of a cpukind
	dist   *distances
	text   *strings.Builder // where its text goes
}

func (p *parser) fail(format string, args ...any) error {
	line, _ := p.dec.InputPos()
	return &Error{line, fmt.Sprintf(format, args...)}
}

func parse(data []byte) (*document, error) {
	p := &parser{document: &document{}, dec: xml.NewDecoder(bytes.NewReader(data)), masks: map[string]cpuset.Set{}}
	for {
		token, err := p.dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var syntax *xml.SyntaxError
			if errors.As(err, &syntax) {
				return nil, &Error{syntax.Line, "not well-formed XML: " + syntax.Msg}
			}
			return nil, p.fail("not well-formed XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			err = p.start(token)
		case xml.EndElement:
			if len(p.stack) == 0 || p.stack[len(p.stack)-1].name != token.Name.Local {
				return nil, p.fail("</%s> closes nothing that is open", short(token.Name.Local))
			}
			p.stack = p.stack[:len(p.stack)-1]
		case xml.CharData:
			if n := len(p.stack); n > 0 && p.stack[n-1].text != nil {
				p.stack[n-1].text.Write(token)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case p.version == 0:
		return nil, p.fail("no <topology> element; this is no XML of hwloc")
	case len(p.stack) > 0:
		return nil, p.fail("the file ends inside <%s>", short(p.stack[len(p.stack)-1].name))
	case len(p.objects) == 0:
		return nil, p.fail("the topology holds no object")
	}
	return p.document, nil
}

func (p *parser) start(e xml.StartElement) error {
	name := e.Name.Local
	top := frame{object: -1}
	if n := len(p.stack); n > 0 {
		top = p.stack[n-1]
	}
	if len(p.stack) >= maxDepth {
		return p.fail("more than %d elements inside each other", maxDepth)
	}
	next := frame{name: name, object: top.object}
	var err error
	switch {
	case len(p.stack) == 0:
		err = p.topology(name, e.Attr)
	case name == "object":
		next.object, err = p.object(e.Attr, top)
	case name == "info" && top.infos != nil:
		addInfo(top.infos, e.Attr)
	case name == "info" && top.name == "object":
		o := &p.objects[top.object]
		if o.infos == nil {
			o.infos = map[string]string{}
		}
		addInfo(o.infos, e.Attr)
	case name == "cpukind" && top.name == "topology":
		next.infos = map[string]string{"": attr(e.Attr, "cpuset")}
		p.kinds = append(p.kinds, next.infos)
		line, _ := p.dec.InputPos()
		p.kindLines = append(p.kindLines, line)
	case name == "distances2" && attr(e.Attr, "type") == "NUMANode" && attr(e.Attr, "name") == "NUMALatency",
		name == "distances" && top.name == "object":
		next.dist, err = p.distance(e.Attr)
	case top.dist != nil && name == "indexes":
		next.text = &top.dist.text[0]
	case top.dist != nil && name == "u64values":
		next.text = &top.dist.text[1]
	case top.dist != nil && name == "latency":
		value, badly := strconv.ParseFloat(attr(e.Attr, "value"), 64)
		if badly != nil {
			return p.fail("latency value %q is no number", short(attr(e.Attr, "value")))
		}
		top.dist.values = append(top.dist.values, value)
	}
	if err != nil {
		return err
	}
	p.stack = append(p.stack, next)
	return nil
}

// topology checks the first element: its name and version.
func (p *parser) topology(name string, attrs []xml.Attr) error {
	switch {
	case p.version != 0:
		return p.fail("<%s> after the end of the topology", short(name))
	case name == "topologydiff":
		return p.fail("this is a difference between two topologies; give the topology itself")
	case name != "topology":
		return p.fail("the first element is <%s>, where hwloc writes <topology>", short(name))
	}
	switch version := attr(attrs, "version"); {
	case version == "":
		p.version = 1
	case strings.HasPrefix(version, "2."), strings.HasPrefix(version, "1."):
		p.version = int(version[0] - '0')
	default:
		return p.fail("version %q of the format is not known; write version 2 (lstopo --of xml --export-xml-flags v2)", short(version))
	}
	return nil
}

func (p *parser) object(attrs []xml.Attr, top frame) (int, error) {
	if len(p.objects) == maxObjects {
		return 0, p.fail("more than %d objects", maxObjects)
	}
	if top.object < 0 && len(p.objects) > 0 {
		return 0, p.fail("a second outermost object")
	}
	line, _ := p.dec.InputPos()
	o := object{line: line, parent: top.object}
	for _, a := range attrs {
		v := a.Value
		var err error
		switch a.Name.Local {
		case "type":
			o.typ = v
		case "subtype":
			o.subtype = v
		case "name":
			o.name = v
		case "os_index":
			if v != "-1" && v != "4294967295" { // unknown, in version 1
				o.id, err = number(a, 1<<31-1)
			}
		case "gp_index":
			o.gp, err = long(a)
		case "cpuset":
			o.cpus, err = p.mask(v)
		case "complete_cpuset":
			o.complete, err = p.mask(v)
		case "allowed_cpuset":
			o.allowed, err = p.mask(v)
		case "allowed_nodeset":
			o.allowedNodes, err = p.mask(v)
		case "nodeset":
			o.nodes, err = p.mask(v)
		case "kind":
			o.kind, err = small(a)
		case "subkind":
			o.subkind, err = small(a)
		case "cache_size":
			if o.size, err = long(a); err == nil && *o.size == 0 {
				o.size = nil // not known
			}
		case "depth":
			o.depth, err = small(a)
		case "cache_linesize":
			if o.cacheLine, err = number(a, 1<<20); err == nil && *o.cacheLine == 0 {
				o.cacheLine = nil
			}
		case "cache_associativity":
			o.ways, err = ways(a)
		case "cache_type":
			kind, known := map[string]topology.CacheType{"0": topology.Unified, "1": topology.Data, "2": topology.Instruction}[v]
			if o.cache = kind; !known {
				err = fmt.Errorf("cache_type %q is none of 0, 1 and 2", short(v))
			}
		case "local_memory":
			o.memory, err = long(a)
		case "osdev_type":
			o.osdev = v
		case "pci_busid":
			o.pci = v
		case "pci_type":
			o.pciType = v
		}
		if err != nil {
			return 0, p.fail("object %s: %v", short(o.typ), err)
		}
	}
	if o.typ == "" {
		return 0, p.fail("an object without a type")
	}
	p.objects = append(p.objects, o)
	return len(p.objects) - 1, nil
}

// distance opens a matrix of distances.
func (p *parser) distance(attrs []xml.Attr) (*distances, error) {
	for _, a := range attrs {
		if a.Name.Local != "nbobjs" {
			continue
		}
		n, err := number(a, maxNodes)
		if err != nil {
			return nil, p.fail("distances: %v", err)
		}
		line, _ := p.dec.InputPos()
		d := &distances{line: line, count: *n, byGP: attr(attrs, "indexing") == "gp"}
		p.distances = append(p.distances, d)
		return d, nil
	}
	return nil, p.fail("distances without nbobjs")
}

// mask reads a set as hwloc writes it: words of 32 bits, the highest first,
// each with 0x, those that are zero left empty (hwloc_bitmap_sscanf(3)).
func (p *parser) mask(text string) (*cpuset.Set, error) {
	if set, ok := p.masks[text]; ok {
		return &set, nil
	}
	set, err := parseMask(text)
	if err != nil {
		return nil, err
	}
	if p.digits += len(text) - strings.Count(text, ","); p.digits > maxDigits {
		return nil, fmt.Errorf("its masks and those before have more than %d digits in all", maxDigits)
	}
	p.masks[text] = set
	return &set, nil
}

func parseMask(text string) (cpuset.Set, error) {
	if strings.HasPrefix(text, "0xf...f") {
		return cpuset.Set{}, fmt.Errorf("the set %s has no end", short(text))
	}
	if n := strings.Count(text, ","); n >= cpuset.Limit/32 {
		return cpuset.Set{}, fmt.Errorf("the set %s goes beyond CPU %d", short(text), cpuset.Limit-1)
	}
	words := strings.Split(text, ",")
	for i, w := range words {
		digits, ok := strings.CutPrefix(w, "0x")
		switch {
		case w == "" && i < len(words)-1:
			digits = "0"
		case !ok || digits == "" || len(digits) > 8:
			return cpuset.Set{}, fmt.Errorf("%q is no set of hwloc's, which are made of words as 0x0000000f", short(text))
		}
		words[i] = digits
	}
	set, err := cpuset.ParseMask(strings.Join(words, ","))
	if err != nil {
		return cpuset.Set{}, fmt.Errorf("%q is no set of hwloc's: %w", short(text), err)
	}
	return set, nil
}

func addInfo(to map[string]string, attrs []xml.Attr) {
	if name := attr(attrs, "name"); name != "" {
		if _, there := to[name]; !there {
			to[name] = attr(attrs, "value")
		}
	}
}

func attr(attrs []xml.Attr, name string) string {
	for _, a := range attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func number(a xml.Attr, most int) (*int, error) {
	n, err := strconv.ParseInt(a.Value, 10, 64)
	if err != nil || n < 0 || n > int64(most) {
		return nil, fmt.Errorf("%s is %q, where a number from 0 to %d stands", a.Name.Local, short(a.Value), most)
	}
	i := int(n)
	return &i, nil
}

// small is a number that is zero where it is missing.
func small(a xml.Attr) (int, error) {
	n, err := number(a, 1<<20)
	if err != nil {
		return 0, err
	}
	return *n, nil
}

func long(a xml.Attr) (*int64, error) {
	n, err := strconv.ParseInt(a.Value, 10, 64)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("%s is %q, where a number stands", a.Name.Local, short(a.Value))
	}
	return &n, nil
}

// ways reads an associativity: in hwloc -1 is fully associative and 0 unknown,
// in package topology 0 is fully associative.
func ways(a xml.Attr) (*int, error) {
	if a.Value == "-1" {
		return new(int), nil
	}
	n, err := number(a, 1<<20)
	if err != nil || *n == 0 {
		return nil, err
	}
	return n, nil
}

// short keeps what an error quotes readable.
func short(text string) string {
	if len(text) > 40 {
		return strings.ToValidUTF8(text[:40], "") + "…"
	}
	return text
}
