//go:build linux

package affinity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"berth/probe"
	"berth/probe/cpuset"
)

// Set lets a thread run on a set of CPUs only, and reads back what the kernel
// made of it; 0 is the calling thread, to which a goroutine must be locked.
//
// Where the kernel gave less, the error is a [*Trimmed], and the thread sits on
// what is left; where it gave nothing, the error is a *Trimmed with an empty
// Got, and the thread stays where it was. Other errors wrap the kernel's:
// unix.ESRCH for a thread that is gone, unix.EPERM for another user's.
func Set(tid int, want cpuset.Set) (got cpuset.Set, err error) {
	return new(seater).set(tid, want)
}

// seater seats many threads. Many get the same seat, so that a set is converted
// once as long as it is the same.
type seater struct {
	read probe.Masks
	want cpuset.Set
	mask unix.CPUSetDynamic // of want
}

func (s *seater) set(tid int, want cpuset.Set) (got cpuset.Set, err error) {
	if want.IsEmpty() {
		return cpuset.Set{}, errors.New("seat a thread: the set of CPUs is empty")
	}
	if !want.Equal(s.want) {
		s.want, s.mask = want, want.Unix()
	}
	if err := unix.SchedSetaffinityDynamic(tid, s.mask); err != nil {
		if err == unix.EINVAL {
			return cpuset.Set{}, trimmed(tid, want, cpuset.Set{})
		}
		if tid == 0 && err == unix.EPERM { // nobody is refused his own thread
			return cpuset.Set{}, fmt.Errorf("seat on %s: %w: %s", want, err, filtered)
		}
		return cpuset.Set{}, fmt.Errorf("sched_setaffinity of thread %d to %s: %w", tid, want, err)
	}
	got, err = s.read.Affinity(tid)
	if err != nil {
		return cpuset.Set{}, err
	}
	if !want.SubsetOf(got) {
		return got, trimmed(tid, want, got)
	}
	if !got.Equal(want) {
		return got, fmt.Errorf("thread %d was seated on %s and sits on %s: another program moved it meanwhile", tid, want, got)
	}
	return got, nil
}

// Trimmed says that the kernel gave fewer CPUs than were asked for, as it does
// without an error of its own (sched_setaffinity(2)).
type Trimmed struct {
	Thread    int // 0: the calling thread
	Want, Got cpuset.Set
	Missing   cpuset.Set // that the machine has not
	Offline   cpuset.Set
	Outside   cpuset.Set // of the cpuset of the thread's control group
	Group     string     // that group's path; empty where it is not known
}

// Error names every CPU that was dropped, why, and what to do.
func (t *Trimmed) Error() string {
	var why []string
	for _, part := range [...]struct {
		cpus   cpuset.Set
		reason string
	}{
		{t.Missing, "not in this machine"},
		{t.Offline, "offline"},
		{t.Outside, "outside the cpuset" + t.group()},
	} {
		if !part.cpus.IsEmpty() {
			why = append(why, cpusAre(part.cpus)+" "+part.reason)
		}
	}
	if why == nil {
		why = []string{"the kernel did not say why"}
	}
	got := "no CPU is left, and nothing was changed"
	if !t.Got.IsEmpty() {
		got = "the kernel gave " + t.Got.String()
	}
	return fmt.Sprintf("seat on %s: %s (%s)", t.Want, got, strings.Join(why, "; "))
}

func (t *Trimmed) group() string {
	if t.Group == "" {
		return ""
	}
	return " of " + t.Group
}

func cpusAre(s cpuset.Set) string {
	if s.Len() == 1 {
		return inWords(s) + " is"
	}
	return inWords(s) + " are"
}

func inWords(s cpuset.Set) string {
	if s.Len() == 1 {
		return "CPU " + s.String()
	}
	return "CPUs " + s.String()
}

// trimmed finds out why the kernel dropped CPUs.
func trimmed(tid int, want, got cpuset.Set) *Trimmed {
	t := &Trimmed{Thread: tid, Want: want, Got: got}
	lost := want.Minus(got)
	if present, ok := systemCPUs("present"); ok {
		t.Missing = lost.Minus(present)
		lost = lost.Intersect(present)
	}
	if online, ok := systemCPUs("online"); ok {
		t.Offline = lost.Minus(online)
		t.Outside = lost.Intersect(online)
	}
	if !t.Outside.IsEmpty() {
		who := "thread-self"
		if tid != 0 {
			who = strconv.Itoa(tid)
		}
		if text, err := os.ReadFile(filepath.Join("/proc", who, "cpuset")); err == nil {
			t.Group = strings.TrimSpace(string(text))
		}
	}
	return t
}

// systemCPUs reads a list of CPUs of the live system, as online.
func systemCPUs(name string) (cpuset.Set, bool) {
	return systemList("/sys/devices/system/cpu/" + name)
}

func systemList(file string) (cpuset.Set, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return cpuset.Set{}, false
	}
	set, err := cpuset.Parse(strings.TrimSpace(string(text)))
	return set, err == nil
}

// Isolated are those of a set that the scheduler leaves alone (the kernel
// parameter isolcpus, or an isolated cpuset partition): threads there never
// move by themselves, so each needs a CPU of its own.
func Isolated(set cpuset.Set) cpuset.Set {
	isolated, _ := systemCPUs("isolated")
	return set.Intersect(isolated)
}
