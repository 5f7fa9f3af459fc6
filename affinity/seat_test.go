//go:build linux

package affinity

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestLauncher(t *testing.T) {
	all := allowed(t)
	l, err := NewLauncher()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ask := func(seat Seat, field string) string {
		t.Helper()
		cmd := exec.Command("grep", "^"+field+":", "/proc/self/status")
		var out strings.Builder
		cmd.Stdout = &out
		if trim, err := l.Start(cmd, seat); err != nil || trim != nil {
			t.Fatal(trim, err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(strings.TrimPrefix(out.String(), field+":"))
	}
	for c := range all.All() {
		if got := ask(Seat{CPUs: one(c)}, "Cpus_allowed_list"); got != strconv.Itoa(int(c)) {
			t.Errorf("CPU %d: the process sits on %s", c, got)
		}
	}
	if got := ask(Seat{}, "Cpus_allowed_list"); got != all.String() {
		t.Errorf("no seat: the process sits on %s", got)
	}
	cmd := exec.Command("true")
	trim, err := l.Start(cmd, Seat{CPUs: all.Union(nowhere)})
	if err != nil || trim == nil || !trim.Got.Equal(all) {
		t.Errorf("a trimmed seat: %v, %v", trim, err)
	}
	_ = cmd.Wait()
	if _, err := l.Start(exec.Command("true"), Seat{Worker: 7, CPUs: nowhere}); err == nil || !strings.Contains(err.Error(), "worker 7: seat on 65535") {
		t.Errorf("a seat that cannot be had: %v", err)
	}
	if now := allowed(t); !now.Equal(all) {
		t.Errorf("the launcher moved this thread to %s", now)
	}
}
