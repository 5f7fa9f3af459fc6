package measured

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"berth/probe/difference"
)

// Compare adds to a report how one value of two results differs: intervals that
// do not overlap make a change. Nil is a value that was not measured.
func Compare(r *difference.Report, name, unit string, a, b *Value) {
	switch {
	case a == nil && b == nil:
	case a == nil || b == nil:
		r.Unknown = append(r.Unknown, name)
	default:
		r.Measured(name, unit, *a, *b, a.interval(), b.interval(), min(a.Runs, b.Runs) < Fewest)
	}
}

func (v *Value) interval() difference.Interval {
	return difference.Interval{Median: v.Median, Low: v.Low, High: v.High}
}

// CompareDocuments compares every measured value of two JSON documents, as
// [encoding/json] decodes them into any. Values belong together that stand in
// the same place; members of a list are told apart by what they say of
// themselves, as runs[parallel,integer,threads,2].throughput_per_s.
func CompareDocuments(r *difference.Report, a, b any) {
	was, is := map[string]Value{}, map[string]Value{}
	names := find(was, nil, "", a)
	for _, name := range find(is, nil, "", b) {
		if _, both := was[name]; !both {
			names = append(names, name)
		}
	}
	for _, name := range names {
		Compare(r, name, "", at(was, name), at(is, name))
	}
}

func at(values map[string]Value, name string) *Value {
	if v, ok := values[name]; ok {
		return &v
	}
	return nil
}

// find collects the values below a node of a document, and returns their names
// in order.
func find(into map[string]Value, names []string, path string, node any) []string {
	switch node := node.(type) {
	case map[string]any:
		if v, ok := valueOf(node); ok {
			for n, name := 2, path; ; n++ { // members that say the same of themselves
				if _, taken := into[path]; !taken {
					break
				}
				path = fmt.Sprintf("%s#%d", name, n)
			}
			into[path] = v
			return append(names, path)
		}
		for _, key := range slices.Sorted(maps.Keys(node)) {
			below := key
			if path != "" {
				below = path + "." + key
			}
			names = find(into, names, below, node[key])
		}
	case []any:
		for _, member := range node {
			names = find(into, names, path+"["+identity(member)+"]", member)
		}
	}
	return names
}

// identity is what a member of a list of results says of itself.
func identity(member any) string {
	object, ok := member.(map[string]any)
	if !ok {
		return ""
	}
	var parts []string
	for _, key := range [...]string{"mode", "kernel", "work", "means", "carrier", "seats", "workers", "threads", "n", "placement", "node", "size_bytes",
		"working_set_bytes", "switch_interval_ms", "python"} {
		if v, ok := object[key]; ok {
			parts = append(parts, fmt.Sprint(v))
		}
	}
	return strings.Join(parts, ",")
}

// valueOf is the value that an object is, if it is one.
func valueOf(object map[string]any) (Value, bool) {
	for _, key := range [...]string{"median", "low", "high", "runs"} {
		if _, ok := object[key].(float64); !ok {
			return Value{}, false
		}
	}
	text, err := json.Marshal(object)
	if err != nil {
		return Value{}, false
	}
	var v Value
	return v, json.Unmarshal(text, &v) == nil
}
