//go:build linux

package observe

import (
	"fmt"
	"time"

	"berth/probe/tasks"
)

// delays is what the kernel's delay accounting adds, where it is on and may be
// asked: waits for disks that it counted itself, against the sampled ones.
type delays struct {
	reader *tasks.DelayReader // nil: it cannot be asked
	before map[int]tasks.Delays
}

func (d *delays) begin(w *Watch) {
	reader, err := tasks.OpenDelays()
	if err != nil {
		return
	}
	d.reader, d.before = reader, map[int]tasks.Delays{}
	for pid := range w.processes {
		if is, err := reader.Process(pid); err == nil {
			d.before[pid] = is
		}
	}
}

// end says what was counted since.
func (d *delays) end(w *Watch, length time.Duration) []string {
	if d.reader == nil {
		return nil
	}
	defer d.reader.Close()
	var block, swap, reclaim time.Duration
	known := false
	for pid, before := range d.before {
		is, err := d.reader.Process(pid)
		if err != nil {
			continue
		}
		since := is.Since(before)
		known = known || since.Block >= 0
		block, swap, reclaim = block+max(0, since.Block), swap+max(0, since.Swap), reclaim+max(0, since.Reclaim)
	}
	if !known {
		return nil
	}
	return []string{fmt.Sprintf("delay accounting: its threads waited %d ms for block devices, %d ms for swap, %d ms for memory to be freed, in %.1f s",
		block.Milliseconds(), swap.Milliseconds(), reclaim.Milliseconds(), length.Seconds())}
}
