//go:build linux

package observe

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"berth/profiles"
)

// profileText is one unit of the work as a profile, with comments that say how
// it was measured; nil where nothing is known.
func profileText(o *Observation, j *judgement, native float64) []byte {
	if o.Class == profiles.Idle {
		return nil
	}
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	number := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	line("# Observed: %s, %s; one task is one %s.", o.Class, printable(o.Command), printable(o.Unit))
	line("schema: %s", profiles.Schema)
	line("name: %s", nameOf(o.Command))
	runtime := cmp.Or(o.Runtime, profiles.Native)
	if o.RuntimeWhy == "" {
		line("runtime: %s # not known: taken for native code", runtime)
	} else {
		line("runtime: %s", runtime)
	}
	line("work:")
	line("  kind: integer # not told apart from float or memory from outside: berth experiment modes")
	if c := o.CPUMS; c != nil && *c > 0 {
		line("  cpu_ms: %s", number(*c))
		if native > 0 {
			line("  native_ms: %s # with the interpreter's lock released", number(significant(native**c)))
		}
		if o.WaitMS != nil && j.waits >= leastWait {
			line("  wait_ms: %s", number(*o.WaitMS))
			line("  blocking: %t", !j.async && runtime != profiles.Go)
		}
	}
	line("measured:")
	line("  seconds: %s", number(o.DurationS))
	line("  utilisation: %s", number(round(o.Shares.OnCPU, 3)))
	line("  confidence: %s", number(o.Confidence))
	return b.Bytes()
}

// leastWait is the share of waiting below which work counts as pure: everything
// waits a little.
const leastWait = 0.03

// printable is text that a comment can hold.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
}

// nameOf is a name for a program's profile.
func nameOf(command string) string {
	first, _, _ := strings.Cut(command, " ")
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, path.Base(first))
	return cmp.Or(strings.Trim(name, "-"), "observed")
}
