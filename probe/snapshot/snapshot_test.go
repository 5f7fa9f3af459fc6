//go:build linux

package snapshot_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"berth/probe"
	"berth/probe/finding"
	"berth/probe/root"
	"berth/probe/snapshot"

	"github.com/google/go-cmp/cmp"
)

func take(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := snapshot.Write(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestReplay expects a replay to give the live answer, but for the host's
// name, the names of control groups and what only CPUID says. A machine may
// change between the two, as by memory that is plugged in, so it has three tries.
func TestReplay(t *testing.T) {
	diff := "not tried"
	for range 3 {
		if diff = replay(t); diff == "" {
			return
		}
	}
	t.Errorf("-live +replayed:\n%s", diff)
}

// replay compares the live machine with a snapshot of it.
func replay(t *testing.T) string {
	r, err := root.OpenArchive(bytes.NewReader(take(t)), "snapshot")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) > 0 {
		t.Errorf("the archive is odd: %v", r.Findings)
	}
	replayed, err := probe.Probe(context.Background(), probe.Source{Root: r})
	if err != nil {
		t.Fatal(err)
	}
	live, err := probe.Probe(context.Background(), probe.Live())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*probe.Machine{live, replayed} {
		m.Host.Hostname, m.Host.Hypervisor = "", ""
		m.Limits.Throttled = nil // it goes on counting
		for i := range m.Limits.Chain {
			m.Limits.Chain[i].Path = ""
		}
		var kept []finding.Finding
		for _, f := range m.Findings {
			if !strings.HasPrefix(f.Code, "vcpu-") && !strings.Contains(f.Message, "CPUID") {
				f.Evidence = nil // may hold the names of control groups
				kept = append(kept, f)
			}
		}
		m.Findings = kept
	}
	return cmp.Diff(live, replayed)
}

// TestPrivacy looks for what must not be in a snapshot.
func TestPrivacy(t *testing.T) {
	host, _ := os.Hostname()
	mac := regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`)
	uuid := regexp.MustCompile(`\b[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\b`)
	tr := tar.NewReader(bytes.NewReader(take(t)))
	files := 0
	last := ""
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg && h.Name <= last {
			t.Errorf("%s comes after %s", h.Name, last)
		}
		if h.Typeflag == tar.TypeReg {
			last = h.Name
			files++
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{h.Name, h.Linkname, string(data)} {
			if len(host) > 3 && strings.Contains(text, host) {
				t.Errorf("%s names the host", h.Name)
			}
			if mac.MatchString(text) || uuid.MatchString(text) {
				t.Errorf("%s holds a MAC address or a UUID", h.Name)
			}
		}
		for _, secret := range []string{"serial", "uuid", "environ", "address"} {
			if strings.Contains(h.Name, secret) {
				t.Errorf("%s has no place in a snapshot", h.Name)
			}
		}
		if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
			t.Errorf("%s carries a time: %v", h.Name, h.ModTime)
		}
	}
	if files < 5 {
		t.Errorf("only %d files", files)
	}
}
