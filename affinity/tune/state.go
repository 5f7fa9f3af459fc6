//go:build linux

package tune

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"berth/probe/cpuset"
)

// StateSchema names the first line of a state file; the lines after it are a run
// each.
const StateSchema = "berth.tune-state/v1"

// maxState bounds a state file, in bytes.
const maxState = 64 << 20

// stateHead says what the runs of a state file are of.
type stateHead struct {
	Schema      string   `json:"schema"`
	Command     []string `json:"command"`
	Metric      string   `json:"metric"`
	ForS        float64  `json:"for_s,omitempty"`
	Env         []string `json:"env,omitempty"`
	Fingerprint string   `json:"machine_fingerprint,omitempty"`
}

// stateRun is one run.
type stateRun struct {
	N      int        `json:"n"`
	CPUs   cpuset.Set `json:"cpus"` // empty: any
	Value  float64    `json:"value,omitempty"`
	WallS  float64    `json:"wall_s"`
	Failed *Failure   `json:"failed,omitempty"`
}

func (s *Settings) head() stateHead {
	h := stateHead{StateSchema, s.Command, s.Metric.key(), s.For.Seconds(), s.Env, ""}
	if s.Machine != nil {
		h.Fingerprint = s.Machine.Fingerprint
	}
	return h
}

// differs says in what two searches are not the same; empty: they are.
func (h *stateHead) differs(from *stateHead) string {
	switch {
	case h.Schema != from.Schema:
		return fmt.Sprintf("it is %q, not %q", shorten(h.Schema), from.Schema)
	case !slices.Equal(h.Command, from.Command):
		return fmt.Sprintf("it is of another command: %q, not %q", h.Command, from.Command)
	case h.Metric != from.Metric:
		return fmt.Sprintf("its metric is %s, not %s", h.Metric, from.Metric)
	case h.ForS != from.ForS:
		return fmt.Sprintf("its runs are stopped after %g s, not %g s", h.ForS, from.ForS)
	case !slices.Equal(h.Env, from.Env):
		return fmt.Sprintf("its count is in the variables %q, not %q", h.Env, from.Env)
	case h.Fingerprint != "" && from.Fingerprint != "" && h.Fingerprint != from.Fingerprint:
		return fmt.Sprintf("it is of machine %s, and this is machine %s", h.Fingerprint, from.Fingerprint)
	}
	return ""
}

// parseState reads a state file. A last line that was not written to its end is
// passed over: whole is the length of the rest. No text is no error and no head.
func parseState(text []byte) (head *stateHead, runs []stateRun, whole int, err error) {
	for line := 1; ; line++ {
		end := bytes.IndexByte(text[whole:], '\n')
		if end < 0 {
			if head == nil && len(text) > 0 {
				return nil, nil, 0, errors.New("line 1 has no end: it is not a state of berth tune")
			}
			return head, runs, whole, nil
		}
		data := text[whole : whole+end]
		whole += end + 1
		if head == nil {
			head = &stateHead{}
			if err := json.Unmarshal(data, head); err != nil {
				return nil, nil, 0, fmt.Errorf("line 1 is not the beginning of a state of berth tune: %w", err)
			}
			if head.Schema != StateSchema {
				return nil, nil, 0, fmt.Errorf("line 1 has the schema %q, not %q", shorten(head.Schema), StateSchema)
			}
			continue
		}
		var r stateRun
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, nil, 0, fmt.Errorf("line %d: %w", line, err)
		}
		if r.N < 1 || r.N > MostWorkers || r.WallS < 0 || r.Failed == nil && !(r.Value > 0) {
			return nil, nil, 0, fmt.Errorf("line %d is not a run: it needs a count, and a value above 0 or a failure", line)
		}
		runs = append(runs, r)
	}
}

// stateFile is one that is being added to.
type stateFile struct{ f *os.File }

// openState takes an earlier search up, or begins the file.
func openState(name string, want stateHead) (*stateFile, []stateRun, error) {
	bad := func(err error) (*stateFile, []stateRun, error) {
		return nil, nil, &StateError{name, err}
	}
	// The command that it holds may name secrets. A link could be another user's,
	// and lead to a file that nobody meant.
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, unix.ELOOP) {
		err = fmt.Errorf("%s is a link, which is not followed: give the file that it leads to", name)
	}
	if err != nil {
		return bad(err)
	}
	give := func(err error) (*stateFile, []stateRun, error) {
		_ = f.Close()
		return bad(err)
	}
	if info, err := f.Stat(); err != nil {
		return give(err)
	} else if !info.Mode().IsRegular() {
		return give(fmt.Errorf("%s is not a regular file", name))
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%s is in use by another search", name)
		}
		return give(err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return give(err)
	}
	if len(text) > maxState {
		return give(fmt.Errorf("%s is larger than %d bytes", name, maxState))
	}
	head, runs, whole, err := parseState(text)
	if err != nil {
		return give(fmt.Errorf("%s: %w", name, err))
	}
	s := &stateFile{f}
	if head == nil {
		if err := s.write(want); err != nil {
			return give(err)
		}
		return s, nil, nil
	}
	if why := head.differs(&want); why != "" {
		return give(fmt.Errorf("%s cannot be taken up: %s", name, why))
	}
	if whole < len(text) {
		if err := f.Truncate(int64(whole)); err != nil {
			return give(err)
		}
	}
	return s, runs, nil
}

// StateError is the error of a state file that cannot be used.
type StateError struct {
	Name string
	Err  error
}

func (e *StateError) Error() string { return e.Err.Error() }
func (e *StateError) Unwrap() error { return e.Err }

// write adds a line by one write: a crash leaves at most its beginning.
func (s *stateFile) write(v any) error {
	if s == nil {
		return nil
	}
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = s.f.Write(append(line, '\n'))
	return err
}

func (s *stateFile) close() error {
	if s == nil {
		return nil
	}
	return s.f.Close()
}
