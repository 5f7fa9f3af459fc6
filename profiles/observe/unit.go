//go:build linux

package observe

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
)

// Unit counts the work that a program does while it is watched.
type Unit interface {
	begin(*Watch) error
	// units that were done; false: not known. switches is how often the busy
	// threads gave up a CPU to wait, -1 unknown.
	count(switches int64) (units float64, ok bool, err error)
	// name says in words what is counted.
	name() string
}

// Wakeups takes every wait of a busy thread for a unit of work. What comes of it
// is the right ratio of waiting to computing, whatever the size of the unit.
type Wakeups struct{}

func (Wakeups) begin(*Watch) error { return nil }
func (Wakeups) name() string       { return "wakeup of a busy thread" }
func (Wakeups) count(switches int64) (float64, bool, error) {
	return float64(switches), switches > 0, nil
}

// Count is a number of units that the user knows to be done in the time.
type Count float64

func (Count) begin(*Watch) error { return nil }
func (Count) name() string       { return "unit, as counted by you" }
func (c Count) count(int64) (float64, bool, error) {
	return float64(c), c > 0, nil
}

// LogLines counts the lines added to a file that an expression matches.
type LogLines struct {
	Path string
	Line *regexp.Regexp

	from int64
}

func (l *LogLines) name() string {
	return fmt.Sprintf("line of %s that fits %s", l.Path, l.Line)
}

func (l *LogLines) begin(*Watch) error {
	info, err := os.Stat(l.Path)
	if err != nil {
		return fmt.Errorf("count lines: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("count lines of %s: it is no regular file", l.Path)
	}
	l.from = info.Size()
	return nil
}

func (l *LogLines) count(int64) (float64, bool, error) {
	f, err := os.Open(l.Path)
	if err != nil {
		return 0, false, fmt.Errorf("count lines: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() < l.from { // begun anew meanwhile
		l.from = 0
	}
	if _, err := f.Seek(l.from, io.SeekStart); err != nil {
		return 0, false, fmt.Errorf("count lines: %w", err)
	}
	n := 0.0
	lines := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 && l.Line.Match(bytes.TrimRight(line, "\r\n")) { // of a very long line, each 64 KiB
			n++
		}
		switch err {
		case nil, bufio.ErrBufferFull:
		case io.EOF:
			return n, n > 0, nil
		default:
			return 0, false, fmt.Errorf("count lines of %s: %w", l.Path, err)
		}
	}
}
