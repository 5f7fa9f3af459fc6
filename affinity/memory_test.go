//go:build linux

package affinity

import (
	"errors"
	"os"
	"strings"
	"testing"

	"berth/probe/cpuset"

	"golang.org/x/sys/unix"
)

func TestParseMemory(t *testing.T) {
	for text, want := range map[string]string{
		"bind:0": "bind:0", "preferred:0,1": "preferred:0-1", "interleave:0-3": "interleave:0-3", "weighted:0-1": "weighted:0-1", "local": "local", "default": "default",
	} {
		m, err := ParseMemory(text)
		if err != nil || m.String() != want {
			t.Errorf("%s: %v, %v", text, m, err)
		}
	}
	for text, want := range map[string]string{
		"": "is one of bind", "membind:0": "is one of bind", "bind": "needs nodes, as bind:0", "bind:": "needs nodes", "bind:x": "nodes: ",
		"local:0": "takes no nodes", "default:": "takes no nodes",
	} {
		if _, err := ParseMemory(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSetMemory(t *testing.T) {
	if _, err := OwnMemory(); errors.Is(err, unix.ENOSYS) {
		t.Skip("the kernel was built without NUMA")
	}
	node := one(0)
	if text, err := os.ReadFile("/sys/devices/system/node/has_memory"); err == nil {
		if set, err := cpuset.Parse(strings.TrimSpace(string(text))); err == nil {
			node = one(set.First())
		}
	}
	for _, m := range []Memory{{Mode: MemoryBind, Nodes: node}, {Mode: MemoryPreferred, Nodes: node}, {Mode: MemoryInterleave, Nodes: node}, {Mode: MemoryLocal}, {Mode: MemoryDefault}} {
		onThread(func() {
			err := SetMemory(m)
			got, readErr := OwnMemory()
			if err != nil || readErr != nil || got.String() != m.String() {
				t.Errorf("%s: %v; the kernel has %s, %v", m, err, got, readErr)
			}
		})
	}
	onThread(func() {
		far := Memory{Mode: MemoryBind, Nodes: one(63)}
		if err := SetMemory(far); err == nil || !strings.Contains(err.Error(), "memory policy bind:63") {
			t.Errorf("a node that is not there: %v", err)
		}
		if err := SetMemory(Memory{Mode: MemoryBind, Nodes: one(5000)}); err == nil || !strings.Contains(err.Error(), "there is no node 5000") {
			t.Errorf("a node beyond all: %v", err)
		}
	})
	if _, err := MovePages(os.Getpid(), node); err != nil {
		t.Error(err)
	}
}

func FuzzParseMemory(f *testing.F) {
	for _, text := range []string{"local", "default", "bind:0", "interleave:0-3,7", "preferred:0x3", "weighted:0-6:2", "bind:", "local:0", ":", "bind:0:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMemory(text)
		if err != nil {
			return
		}
		takes := m.Mode != MemoryDefault && m.Mode != MemoryLocal
		if takes == m.Nodes.IsEmpty() {
			t.Fatalf("%q is %+v", text, m)
		}
		if again, err := ParseMemory(m.String()); err != nil || again.Mode != m.Mode || !again.Nodes.Equal(m.Nodes) {
			t.Fatalf("%q is %s, which is %s, %v", text, m, again, err)
		}
	})
}
