//go:build linux

package fleet

import (
	"regexp"
	"strconv"
	"sync"
)

// ranks takes apart what `mpirun --tag-output` prints of all ranks in one
// stream. mpirun hands on what a rank has written in pieces that end anywhere,
// and puts a tag before each piece and each line of it: several tags can stand
// in a line, and a rank's line in several. What has no tag is mpirun's own.
type ranks struct {
	line  func(rank int, text string) // a rank's line, without its end
	other func(text string)
	parts map[int]*lineWriter
}

// tag is [JOB,RANK]<STREAM>: as orte_iof_base_write_output writes it. Nothing
// that berth prints holds one.
var tag = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\[[^][<>, ]+,([0-9]{1,9})\]<std(?:out|err|diag)>:`)
})

// take takes in one line of the stream, without its end.
func (r *ranks) take(text string) {
	at := tag().FindAllStringSubmatchIndex(text, -1)
	if len(at) == 0 || at[0][0] > 0 {
		end := len(text)
		if len(at) > 0 {
			end = at[0][0]
		}
		r.other(text[:end])
	}
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		part := text[m[1]:end]
		if i+1 == len(at) {
			part += "\n"
		}
		rank, err := strconv.Atoi(text[m[2]:m[3]])
		if err != nil {
			continue // nine digits are a number
		}
		w := r.parts[rank]
		if w == nil {
			if r.parts == nil {
				r.parts = map[int]*lineWriter{}
			}
			w = &lineWriter{line: func(text string) { r.line(rank, text) }}
			r.parts[rank] = w
		}
		_, _ = w.Write([]byte(part))
	}
}

// end hands on what had no end.
func (r *ranks) end() {
	for _, w := range r.parts {
		w.end()
	}
}
