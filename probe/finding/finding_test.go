package finding_test

import (
	"fmt"
	"testing"

	"berth/probe/finding"
)

func TestList(t *testing.T) {
	var l finding.List
	for i := range 20 {
		l.Add(finding.Malformed, finding.Warning, []string{fmt.Sprint("file ", i)}, "A file is bad.")
		l.Add(finding.Malformed, finding.Warning, []string{"file 0"}, "A file is bad.") // said before
	}
	l.Add(finding.Missing, finding.Info, nil, "%s is missing.", "It")
	all := l.Report()
	if len(all) != 2 || len(all[0].Evidence) != 9 || all[0].Evidence[8] != "and 12 more" || all[1].Message != "It is missing." {
		t.Errorf("%+v", all)
	}
	var second finding.List
	second.Append(l.All()...)
	if again := second.Report(); len(again) != 2 || len(again[0].Evidence) != 9 || again[0].Evidence[8] != "and 12 more" {
		t.Errorf("taken over: %+v", again)
	}
}
