//go:build linux

package tasks

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// ParseNUMAMaps adds up /proc/PID/numa_maps: bytes of the process's memory on
// each NUMA node, shared pages counted in full (numa(7)). Pages swapped out
// are on no node.
func ParseNUMAMaps(data []byte) (map[int]int64, error) {
	nodes := map[int]int64{}
	type pages struct {
		node  int
		count int64
	}
	var row []pages
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		row = row[:0]
		var size int64
		for rest := line; ; {
			var field []byte
			if field, rest = cut(rest); len(field) == 0 {
				break
			}
			key, value, ok := bytes.Cut(field, []byte("="))
			if !ok {
				continue
			}
			if string(key) == "kernelpagesize_kB" {
				kB, ok := integer(value)
				if !ok || kB <= 0 || kB > math.MaxInt64>>10 {
					return nil, fmt.Errorf("parse numa_maps: %.60q is not a page size in kB", field)
				}
				size = kB << 10
			}
			if len(key) == 0 || key[0] != 'N' { // names of files have no "=" in them here: the kernel writes it as \075
				continue
			}
			node, ok1 := integer(key[1:])
			count, ok2 := integer(value)
			if !ok1 || !ok2 || node < 0 || node > maxID || count < 0 {
				return nil, fmt.Errorf("parse numa_maps: %.60q is not a node and its pages", field)
			}
			row = append(row, pages{int(node), count})
		}
		for _, p := range row {
			if size == 0 {
				return nil, fmt.Errorf("parse numa_maps: %.80q counts pages of unknown size: kernelpagesize_kB is missing", line)
			}
			if p.count > (math.MaxInt64-nodes[p.node])/size {
				return nil, fmt.Errorf("parse numa_maps: %.80q counts more memory than there can be", line)
			}
			nodes[p.node] += p.count * size
		}
	}
	return nodes, nil
}

// NUMAMaps reads where the memory of a process lies, in bytes by NUMA node.
// The kernel walks all its page tables meanwhile and holds off its changes to
// its mappings: once in a while, not at every sample. It needs the right to
// trace the process (ptrace(2)) and a kernel with CONFIG_NUMA.
func (p Proc) NUMAMaps(pid int) (map[int]int64, error) {
	return readParsed(p, strconv.Itoa(pid)+"/numa_maps", ParseNUMAMaps)
}
