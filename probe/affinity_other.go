//go:build !linux

package probe

import (
	"fmt"
	"runtime"

	"berth/probe/cpuset"
)

// Affinity is an error here: Linux only.
func Affinity(int) (cpuset.Set, error) {
	return cpuset.Set{}, fmt.Errorf("read this machine: Linux only, and this is %s; a machine that was recorded or described can be read here", runtime.GOOS)
}

func machineName() string { return "" }
