//go:build !(linux && amd64)

package cpuid

import (
	"context"

	"berth/probe/cpuset"
	"berth/probe/finding"
)

// Live returns an empty dump: this architecture has no CPUID, or this system no
// way to read it on each CPU.
func Live(context.Context, cpuset.Set, Depth) (*Dump, []finding.Finding, error) {
	return &Dump{}, nil, nil
}
