package emit

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"berth/advisor"
)

// FuzzPlans emits whatever berth emit --plan would take: every target has text
// for it, in characters that print.
func FuzzPlans(f *testing.F) {
	for i, c := range testPlans() {
		if i%4 != 0 {
			continue
		}
		text, err := json.Marshal(c.advise(f))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	const head = `{"schema":"berth.plan/v1","workers":{"model":"threads",`
	for _, text := range []string{
		`"processes":1,"threads_per_process":1},"placement":{"pin":"per_cpu","seats":[]},"budget_cpus":-1,"memory_mib":-5}`,
		`"processes":3,"threads_per_process":2,"in_flight":-1,"event_loops":-5},"placement":{"pin":"?","cpus":"","seats":[{"worker":2,"cpus":"0-3","mems":"7"}]},"runtime":"x"}`,
		`"processes":1,"threads_per_process":4194304},"placement":{"pin":"none","cpus":"65535"},"budget_cpus":1e300,"runtime":"java"}`,
	} {
		f.Add([]byte(head + text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := advisor.Read(bytes.NewReader(text), "f.json")
		if err != nil || p.Workers.Total() > 4096 { // more only takes longer
			return
		}
		for _, target := range Targets() {
			got := target.Emit(p).Text
			if got == "" || !utf8.ValidString(got) || strings.ContainsFunc(got, hidden) {
				t.Errorf("%s gives %q", target.Name(), got)
			}
		}
	})
}
