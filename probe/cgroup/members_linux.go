package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"berth/probe/tasks"

	"golang.org/x/sys/unix"
)

// Members lists the processes of a group, given its directory, and of all
// groups below it, in ascending order.
func Members(dir string) ([]int, error) {
	var all []int
	err := filepath.WalkDir(dir, func(at string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			return nil
		}
		var pids []int
		if err == nil {
			pids, err = tasks.Proc("").Members(at)
		}
		if at != dir && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)) {
			return fs.SkipDir // a group below, gone meanwhile
		}
		all = append(all, pids...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the processes of control group %s: %w", dir, err)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
