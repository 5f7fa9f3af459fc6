package cpuid

import (
	"context"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"berth/probe/cpuset"
)

func allowed(t testing.TB) cpuset.Set {
	t.Helper()
	m := unix.NewCPUSet(cpuset.Limit)
	if err := unix.SchedGetaffinityDynamic(0, m); err != nil {
		t.Fatal(err)
	}
	return cpuset.FromUnixDynamic(m)
}

func TestLive(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		d, found, err := Live(context.Background(), cpuset.Range(0, 3), Needed)
		if err != nil || len(found) > 0 || !d.CPUs().IsEmpty() {
			t.Errorf("%v %v %v", d, found, err)
		}
		t.Skip("no CPUID on " + runtime.GOARCH)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := allowed(t)
	for _, depth := range []Depth{Needed, Everything} {
		d, found, err := Live(context.Background(), before, depth)
		if err != nil || len(found) > 0 {
			t.Fatalf("%v %v", found, err)
		}
		if !d.CPUs().Equal(before) {
			t.Errorf("read %s of %s", d.CPUs(), before)
		}
		if id := d.Identity(); id.Vendor == "" || id.Family == nil {
			t.Errorf("identity: %+v", id)
		}
		topo, odd := d.Topology()
		sound(t, d, topo)
		t.Logf("%s %+v %v\n%s", d.Identity().Brand, d.Hypervisor(), odd, draw(topo))
	}
	if after := allowed(t); !after.Equal(before) {
		t.Errorf("the caller's CPUs went from %s to %s", before, after)
	}
}

// Whatever threads served Live, none may keep a narrowed mask.
func TestLiveLeavesNoThreadPinned(t *testing.T) {
	before := allowed(t)
	ctx, cancel := context.WithCancel(context.Background())
	for range 20 {
		if _, _, err := Live(ctx, before, Needed); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if runtime.GOARCH == "amd64" {
		if _, _, err := Live(ctx, before, Needed); err == nil {
			t.Error("no error of a cancelled context")
		}
	}
	done := make(chan cpuset.Set)
	for range 50 {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			done <- allowed(t)
		}()
	}
	for range 50 {
		if s := <-done; !s.Equal(before) {
			t.Errorf("a thread has CPUs %s, not %s", s, before)
		}
	}
}

func TestLiveRefused(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("no CPUID on " + runtime.GOARCH)
	}
	one := cpuset.Of(allowed(t).First())
	d, found, err := Live(context.Background(), one.Union(cpuset.Of(cpuset.Limit-1)), Needed)
	if err != nil || codes(found) != "unreadable" || !d.CPUs().Equal(one) {
		t.Errorf("%v %v %v", d, found, err)
	}
}

func TestLiveFeatures(t *testing.T) {
	features, level := LiveFeatures()
	if runtime.GOARCH == "amd64" && (len(features) == 0 || level < 1 || level > 4) {
		t.Errorf("level %d, features %v", level, features)
	}
}

func BenchmarkLive(b *testing.B) {
	cpus := allowed(b)
	for name, depth := range map[string]Depth{"needed": Needed, "everything": Everything} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := Live(context.Background(), cpus, depth); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
