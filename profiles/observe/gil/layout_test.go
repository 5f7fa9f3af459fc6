//go:build linux

package gil

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var layouts = map[string]layout{
	"64 little": {binary.LittleEndian, 8}, "64 big": {binary.BigEndian, 8},
	"32 little": {binary.LittleEndian, 4}, "32 big": {binary.BigEndian, 4},
}

// put writes a word.
func (l layout) put(b []byte, x uint64) {
	if l.word == 8 {
		l.order.PutUint64(b, x)
	} else {
		l.order.PutUint32(b, uint32(x))
	}
}

// place is the beginning of a lock.
func (l layout) place(interval, holder uint64, locked uint32, switches uint64) []byte {
	b := make([]byte, l.size())
	l.put(b, interval)
	l.put(b[l.word:], holder)
	l.order.PutUint32(b[2*l.word:], locked)
	l.put(b[3*l.word:], switches)
	return b
}

func TestSearch(t *testing.T) {
	for name, l := range layouts {
		join := func(parts ...[]byte) (all []byte) {
			for _, p := range parts {
				all = append(append(all, make([]byte, 5*l.word)...), p...)
			}
			return all
		}
		pair := make([]byte, map[int]int{4: 72, 8: 88}[l.word])
		l.order.PutUint32(pair[36:], 2|1<<3)
		l.order.PutUint32(pair[48:], 1)
		lock := l.place(5000, 0x7fff1000, 1, 42)
		unusual := l.place(2000, 0x7fff1000, 0, 42)
		whole := join(append(append(unusual, pair...), pair...))
		text := append(l.place(231, 0x6f677270, 0, 1<<32-1), strings.Repeat("no condition ", 24)...)
		tests := []struct {
			name   string
			memory []byte
			want   int
		}{
			{"one", join(lock), 1},
			{"one with another interval, and what follows in it", whole, 1},
			{"beside text", append(join(text), whole...), 1},
			{"some numbers", join(unusual), 0},
			{"and one pair", join(append(unusual[:l.size():l.size()], pair...)), 0},
			{"the usual interval wins", join(whole, lock), 1},
			{"two", join(lock, lock), 2},
			{"not initialised", join(l.place(5000, 0, 0, 0)), 0},
			{"before its creation", join(l.place(5000, 0x7fff1000, 1<<32-1, 42)), 0},
			{"no boolean", join(l.place(5000, 0x7fff1000, 7, 42)), 0},
			{"a holder that is no address", join(l.place(5000, 0x7fff1001, 1, 42)), 0},
			{"nothing", nil, 0},
		}
		for _, test := range tests {
			got := search(test.memory, l)
			if len(got) != test.want {
				t.Errorf("%s, %s: %v, want %d", name, test.name, got, test.want)
			}
		}
	}
}

// runtime is the beginning of _PyRuntime of 3.13 or, with one field more before
// those of the lock, of a later version. Interpreters lie at 4096, 8192 …, and
// have their locks at 256.
func (l layout) runtime(more int, free uint64) []byte {
	b := make([]byte, 512)
	copy(b, "xdebugpy")
	set := func(i int, x uint64) { l.order.PutUint64(b[8*i:], x) }
	set(1, 0x030d00f0)
	set(2, free)
	set(5, 400) // interpreters_head
	set(6, 2048)
	set(8, 16) // next
	for i := 9; i < 14+more; i++ {
		set(i, uint64(100+8*i))
	}
	w := uint64(l.word)
	for i, x := range []uint64{32, 256, 0, 256 + 2*w, 256 + w} {
		set(14+more+i, x)
	}
	l.put(b[400:], 4096)
	return b
}

// memoryOf makes a file stand for the memory of a process.
func memoryOf(t *testing.T, b []byte) *Lock {
	t.Helper()
	name := filepath.Join(t.TempDir(), "mem")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &Lock{pid: 7, memory: int(f.Fd())}
}

func TestDebugOffsets(t *testing.T) {
	for name, l := range layouts {
		for more := range 3 {
			for _, test := range []struct {
				what   string
				change func(memory []byte)
				want   error
			}{
				{"one interpreter", func([]byte) {}, nil},
				{"two with one lock", func(b []byte) {
					l.put(b[4096+16:], 8192)
					l.put(b[8192+32:], 4096+256)
				}, nil},
				{"two with a lock each", func(b []byte) {
					l.put(b[4096+16:], 8192)
					l.put(b[8192+32:], 8192+256)
				}, ErrSeveral},
				{"an endless list", func(b []byte) { l.put(b[4096+16:], 4096) }, nil},
				{"none yet", func(b []byte) { l.put(b[400:], 0) }, ErrNotFound},
				{"no lock yet", func(b []byte) { l.put(b[4096+32:], 0) }, ErrNotFound},
				{"what is no lock", func(b []byte) { l.put(b[4096+256:], 0) }, ErrNotFound},
				{"free-threaded", func(b []byte) { l.order.PutUint64(b[16:], 1) }, ErrFreeThreaded},
				{"no offsets", func(b []byte) { b[0] = 0 }, ErrNotFound},
			} {
				memory := make([]byte, 3*4096)
				copy(memory, l.runtime(more, 0))
				l.put(memory[4096+32:], 4096+256)
				copy(memory[4096+256:], l.place(5000, 0x7fff1000, 1, 42))
				test.change(memory)
				lock := memoryOf(t, memory)
				lock.layout = l
				at, err := lock.locate(symbol{path: "libpython3.13.so", layout: l, size: 512})
				if !errors.Is(err, test.want) || err == nil && at != 4096+256 {
					t.Errorf("%s, %d more, %s: %d %v, want %v", name, more, test.what, at, err, test.want)
					continue
				}
				if err != nil {
					continue
				}
				lock.at = at
				if s, err := lock.Read(); err != nil || !s.Held || s.Switches != 42 || s.Holder != 0x7fff1000 {
					t.Errorf("%s: %+v %v", name, s, err)
				}
			}
		}
	}
}

// TestHolderTells: of two places, the one whose holder is an address there is.
func TestHolderTells(t *testing.T) {
	l := layouts["64 little"]
	memory := make([]byte, 1<<17)
	copy(memory[64:], l.place(5000, 1<<16, 0, 3))
	copy(memory[160:], l.place(5000, 1<<40, 0, 3))
	lock := memoryOf(t, memory)
	lock.layout = l
	if at, err := lock.locate(symbol{layout: l, size: 512}); err != nil || at != 64 {
		t.Errorf("%d %v", at, err)
	}
	for _, size := range []uint64{0, 8, mostSymbol + 1} {
		if _, err := lock.locate(symbol{layout: l, size: size}); !errors.Is(err, ErrNotFound) {
			t.Errorf("a symbol of %d bytes: %v", size, err)
		}
	}
}

func TestReadNotices(t *testing.T) {
	l := layouts["64 little"]
	lock := memoryOf(t, l.place(5000, 1<<16, 0, 3))
	lock.layout, lock.last = l, 4
	if s, err := lock.Read(); !errors.Is(err, ErrNotFound) {
		t.Errorf("fewer switches than before: %+v %v", s, err)
	}
	lock.at = 1 << 63
	if s, err := lock.Read(); err == nil {
		t.Errorf("beyond all memory: %+v", s)
	}
}

func TestHolds(t *testing.T) {
	for name, want := range map[string]bool{
		"python": true, "python3": true, "python3.11": true, "python3.13t": true, "python3.7m": true, "python3.11d": true, "libpython3.8.so.1.0": true,
		"libpython3.7m.so.1.0": true, "libpython3.13t.so": true, "libpython3.so": true, "python3.11-config": false,
		"_pickle.cpython-311-x86_64-linux-gnu.so": false, "libc.so.6": false, "pythonish": false, "": false,
	} {
		if got := holds().MatchString(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestParseMap(t *testing.T) {
	for line, want := range map[string]mapping{
		"7f00-7f10 r--p 00001000 00:1f 1234   /usr/lib/libpython3.11.so.1.0\n": {"7f00-7f10", 0x7f00, 0x1000, "/usr/lib/libpython3.11.so.1.0", false},
		"7f00-7f10 r--p 00000000 00:1f 1234   /a b/python (deleted)\n":         {"7f00-7f10", 0x7f00, 0, "/a b/python", true},
		"7f00-7f10 rw-p 00000000 00:00 0\n":                                    {},
		"7f00-7f10 rw-p 00000000 00:00 0   [heap]\n":                           {},
		"7f00 rw-p 00000000 00:00 0   /a":                                      {},
		"7g00-7f10 rw-p 00000000 00:00 0   /a":                                 {},
		"7f00-7f10 rw-p x 00:00 0   /a":                                        {},
	} {
		got, ok := parseMap(line)
		if ok != (want.path != "") || ok && got != want {
			t.Errorf("%q: %+v %v", line, got, ok)
		}
	}
}

func FuzzParseMap(f *testing.F) {
	f.Add("7f0000000000-7f0000001000 r--p 00000000 00:1f 1234   /usr/lib/libpython3.11.so.1.0\n")
	f.Add("00400000-00401000 r-xp 00002000 fd:00 1 /a name with spaces (deleted)\n")
	f.Add("- - - - - /")
	f.Fuzz(func(t *testing.T, line string) {
		if m, ok := parseMap(line); ok && (m.path == "" || m.path[0] != '/' && !m.deleted) {
			t.Errorf("%q: %+v", line, m)
		}
	})
}

func FuzzSearch(f *testing.F) {
	f.Add(make([]byte, 4*mostSize))
	f.Add(layouts["64 little"].runtime(0, 0))
	f.Fuzz(func(t *testing.T, memory []byte) {
		for _, l := range layouts {
			for _, at := range search(memory, l) {
				if at+l.size() > len(memory) {
					t.Errorf("%d is beyond %d bytes", at, len(memory))
				}
			}
			if o, ok := debugOffsets(memory, l); ok && !o.freeThreaded && o.head >= uint64(len(memory)) {
				t.Errorf("%+v", o)
			}
		}
	})
}
