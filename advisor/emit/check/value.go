package check

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
)

// variable begins the setting that an environment variable is.
const variable = "environment "

// number is a whole number in one form; empty if it is none.
func number(text string) string {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return ""
	}
	return strconv.Itoa(n)
}

// set is a list of CPUs or nodes in one form, where commas or spaces may stand
// between items.
func set(text string) string {
	s, err := cpuset.Parse(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }), ","))
	if err != nil || s.IsEmpty() {
		return ""
	}
	return s.String()
}

// cpus is a number of CPUs in thousandths: 2, 2.5, 2500m, or in percent.
func cpus(text string) string {
	scale := 1000.0
	if rest, ok := strings.CutSuffix(text, "m"); ok {
		text, scale = rest, 1
	} else if rest, ok := strings.CutSuffix(text, "%"); ok {
		text, scale = rest, 10
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(n >= 0) || n > cpuset.Limit*100 {
		return ""
	}
	return strconv.FormatFloat(math.Round(n*scale), 'f', -1, 64) + " thousandths"
}

// bytes is an amount of memory. The unit where none is written, in bytes, is the
// format's, and so is the base of K, M and G.
func bytes(text string, unit, base float64) string {
	text = strings.TrimSpace(text)
	i := strings.LastIndexAny(text, "0123456789.") + 1
	n, err := strconv.ParseFloat(text[:i], 64)
	if err != nil || !(n >= 0) {
		return ""
	}
	suffix := strings.ToLower(strings.TrimSpace(text[i:]))
	if strings.HasSuffix(suffix, "i") || strings.HasSuffix(suffix, "ib") {
		base = 1024
	}
	power := -1
	if suffix != "" && suffix != "b" {
		if power = strings.IndexByte("kmgtp", suffix[0]); power < 0 || !strings.Contains(" b i ib ", " "+suffix[1:]+" ") && suffix[1:] != "" {
			return ""
		}
		unit = math.Pow(base, float64(power+1))
	} else if suffix == "b" {
		unit = 1
	}
	return strconv.FormatFloat(math.Round(n*unit), 'f', -1, 64) + " bytes"
}

// environment is a fact about a variable, if plans set it.
func environment(line int, name, value string) (fact, bool) {
	if value == "" || !slices.Contains(planVariables, name) {
		return fact{}, false
	}
	f := fact{line, variable + name, value, value}
	if strings.ContainsAny(value, "$`") { // the shell's to say
		f.value = ""
	}
	if name == "JAVA_TOOL_OPTIONS" { // other options are the program's own
		f.value = "none"
		for _, option := range strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == '}' }) {
			if strings.HasPrefix(option, "-XX:ActiveProcessorCount=") {
				f.value = option
			}
		}
	}
	return f, true
}

// planVariables are the variables that plans set.
var planVariables = []string{"BERTH_PROCESSES", "BERTH_THREADS", "BERTH_IN_FLIGHT", "OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "GOMAXPROCS", "JAVA_TOOL_OPTIONS", "PYTHON_CPU_COUNT"}

// unquoted is a word without the quotes around it.
func unquoted(word string) string {
	word = strings.TrimSpace(word)
	if n := len(word); n >= 2 && (word[0] == '"' || word[0] == '\'') && word[n-1] == word[0] {
		return word[1 : n-1]
	}
	return word
}
