package root

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/finding"
)

// Reader reads small facts from the files of a directory. Each method reports
// false where there is no answer: without a word if the file is not there,
// with a finding that names the file if it cannot be read or understood.
type Reader struct {
	Dir
	Found *finding.List
}

// Text is a file's content without the white space and NUL bytes around it,
// which some kernels leave at the end.
func (r Reader) Text(name string) (string, bool) {
	data, err := r.ReadFile(name)
	if err != nil {
		r.Report(err)
		return "", false
	}
	return strings.Trim(data, " \t\r\n\x00"), true
}

// Report turns an error of a file into a finding, unless it says that the file
// is not there.
func (r Reader) Report(err error) {
	if IsMissing(err) {
		return
	}
	evidence := []string{err.Error()}
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		evidence[0] = fmt.Sprintf("%s: %v", pe.Path, pe.Err)
	}
	if errors.Is(err, ErrOutside) {
		r.Found.Add("outside-root", finding.Warning, evidence, "A link leads outside the machine's files; it was not followed.")
		return
	}
	r.Found.Add(finding.Unreadable, finding.Warning, evidence, "A file cannot be read; what it would say is unknown.")
}

// Malformed reports a file whose content makes no sense.
func (r Reader) Malformed(name string, err error) {
	r.Found.Add(finding.Malformed, finding.Warning, []string{fmt.Sprintf("%s: %v", r.full(name), err)},
		"A file holds something that it should not; it was left out.")
}

func (r Reader) full(name string) string { return strings.TrimSuffix(r.Path(), "/") + "/" + name }

// Int is a file that holds one decimal number.
func (r Reader) Int(name string) (int64, bool) {
	text, ok := r.Text(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		r.Malformed(name, fmt.Errorf("%.40q is not a number", text))
		return 0, false
	}
	return n, true
}

// CPUs is a file that holds a CPU list.
func (r Reader) CPUs(name string) (cpuset.Set, bool) {
	return r.set(name, cpuset.Parse)
}

// CPUMask is a file that holds a mask of CPUs.
func (r Reader) CPUMask(name string) (cpuset.Set, bool) {
	return r.set(name, cpuset.ParseMask)
}

func (r Reader) set(name string, parse func(string) (cpuset.Set, error)) (cpuset.Set, bool) {
	text, ok := r.Text(name)
	if !ok || text == "(null)" { // an unset mask, as older kernels print it
		return cpuset.Set{}, false
	}
	set, err := parse(text)
	if err != nil {
		r.Malformed(name, err)
		return cpuset.Set{}, false
	}
	return set, true
}
