package probe_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"berth/probe"
	"berth/probe/cpuset"
)

// TestLive holds the live machine against the kernel's own answers.
func TestLive(t *testing.T) {
	m, err := probe.Probe(context.Background(), probe.Live())
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile("/sys/devices/system/cpu/online"); err == nil {
		if want, err := cpuset.Parse(string(data)); err != nil || !m.Topology.Online.Equal(want) {
			t.Errorf("online %s, the kernel says %s", m.Topology.Online, data)
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "Cpus_allowed_list:")
	line, _, _ := strings.Cut(rest, "\n")
	if want, err := cpuset.Parse(line); err != nil || !m.Topology.Allowed.Equal(want.Intersect(m.Topology.Online)) {
		t.Errorf("allowed %s, the kernel says %s", m.Topology.Allowed, line)
	}
	if m.Limits.EffectiveCPUs <= 0 || m.Limits.EffectiveCPUs > float64(m.Topology.Allowed.Len()) {
		t.Errorf("budget %v of %s", m.Limits.EffectiveCPUs, m.Topology.Allowed)
	}
}
