package profiles

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDifferences(t *testing.T) {
	parse := func(text string) *Profile {
		t.Helper()
		p, err := Parse([]byte("schema: "+Schema+"\n"+text), "x")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a := parse("name: a\nwork: {cpu_ms: 5, wait_ms: 10}\nload: {tasks: 3}")
	b := parse("name: b\nruntime: go\nwork: {cpu_ms: 5, wait_ms: 20, communicates: true}\nscaling: {sigma: 0.1, kappa: 0}")
	want := []Part{{"scaling", "", "sigma 0.1, kappa 0"}, {"runtime", "native", "go"}, {"work.wait_ms", "10", "20"},
		{"work.communicates", "false", "true"}, {"load.tasks", "3", ""}}
	if diff := cmp.Diff(want, Differences(a, b)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if d := Differences(a, a); d != nil || a.Scaling != nil || a.Measured != nil {
		t.Errorf("a profile and itself: %v; or looking at it changed it", d)
	}
	// Part by part, one becomes the other.
	now := a
	for i, part := range want {
		now = now.Taking(part.Path, b)
		if left := Differences(now, b); len(left) != len(want)-i-1 {
			t.Errorf("after %s: %v are left", part.Path, left)
		}
	}
	if a.Work.WaitMS != 10 || a.Scaling != nil {
		t.Error("the profile itself was changed")
	}
}

// Every field but the names can be told apart and taken, those of sections that
// count as a whole with them.
func TestDifferencesKnowEveryField(t *testing.T) {
	for _, f := range fields() {
		if f.path == "schema" || f.path == "name" {
			continue
		}
		a, b := blank(), blank()
		switch at := f.at(&b).(type) {
		case *float64:
			*at = 0.5
		case **float64:
			*at = new(0.5)
		case *int64:
			*at = 3
		case **int64:
			*at = new(int64(3))
		case *bool:
			*at = true
		case **bool:
			*at = new(true)
		case *string:
			*at = "else"
		default:
			continue // words: tested above
		}
		d := Differences(&a, &b)
		if len(d) != 1 {
			t.Errorf("%s: %v", f.path, d)
			continue
		}
		if left := Differences(a.Taking(d[0].Path, &b), &b); left != nil {
			t.Errorf("%s: %v are left after taking it", f.path, left)
		}
	}
}
