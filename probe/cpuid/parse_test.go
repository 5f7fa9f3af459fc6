package cpuid

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/root"
)

func readFiles(t *testing.T, files map[string]string) (*Dump, string) {
	t.Helper()
	d, found, err := ReadDir(root.FromFiles(files).Dir)
	if err != nil {
		t.Fatal(err)
	}
	return d, codes(found)
}

func TestReadDir(t *testing.T) {
	d, found := readFiles(t, map[string]string{
		"pu0":   "# a comment\n1 0 0 0 0 => d 68747541 444d4163 69746e65\n5 4 0 1 0 => 121 1c0003f 3f 0\n\n1 4 0 0 0 => 9 9 9 9\n",
		"pu2":   "1 0 0 0 0 => d 68747541 444d4163 69746e65\r\n",
		"pu02":  "not a CPU's",
		"notes": "neither",
	})
	if found != "" || d.CPUs().String() != "0,2" {
		t.Fatalf("findings %q, CPUs %s", found, d.CPUs())
	}
	for _, c := range []struct {
		cpu       cpuset.CPU
		leaf, sub uint32
		eax       uint32
		ok        bool
	}{
		{0, 0, 0, 0xd, true},
		{0, 0, 7, 0xd, true}, // leaf 0 has no sub-leaves: any gives it
		{0, 4, 1, 0x121, true},
		{0, 4, 2, 9, true}, // the mask of the second line says that ecx does not matter
		{0, 1, 0, 0, false},
		{2, 0, 0, 0xd, true},
		{1, 0, 0, 0, false},
	} {
		if r, ok := d.Get(c.cpu, c.leaf, c.sub); ok != c.ok || r.EAX != c.eax {
			t.Errorf("CPU %d leaf %#x.%d: %x %v", c.cpu, c.leaf, c.sub, r, ok)
		}
	}
}

func TestReadDirOdd(t *testing.T) {
	good := "1 0 0 0 0 => d 68747541 444d4163 69746e65\n"
	for name, text := range map[string]string{
		"no arrow":      "1 0 0 0 0 d 68747541 444d4163 69746e65\n",
		"cut short":     "1 1 0 0 0 => 600f20 c08",
		"too many":      "1 1 0 0 0 => 1 2 3 4 5\n",
		"not hex":       "1 1 0 0 0 => 1 2 3 x\n",
		"over 32 bits":  "1 1 0 0 0 => 1 2 3 123456789\n",
		"negative":      "1 1 0 0 0 => 1 2 3 -4\n",
		"no leaf asked": "4 1 0 0 0 => 1 2 3 4\n",
		"binary":        "\x00\xff\xfe\n",
	} {
		d, found := readFiles(t, map[string]string{"pu0": good + text, "pu1": good})
		if found != "malformed" || d.CPUs().Len() != 2 {
			t.Errorf("%s: findings %q, CPUs %s", name, found, d.CPUs())
		}
		if r, ok := d.Get(0, 0, 0); !ok || r.EAX != 0xd {
			t.Errorf("%s: the good line is lost", name)
		}
	}
	entries, found := parsePU([]byte(good+"?\n?\n"), "pu7")
	if len(entries) != 1 || len(found) != 1 || !strings.Contains(found[0].Message, "pu7 has 2 unreadable lines") || !strings.HasPrefix(found[0].Evidence[0], "pu7:2: ") {
		t.Errorf("%v", found)
	}
}

func TestReadDirErrors(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"no file pu0":    {"readme": ""},
		"over the limit": {"pu0": "", fmt.Sprintf("pu%d", cpuset.Limit): ""},
	} {
		if _, _, err := ReadDir(root.FromFiles(files).Dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	// A directory in a file's place cannot be read: the CPU is there, unknown.
	d, found := readFiles(t, map[string]string{"pu0/x": "", "pu1": "1 0 0 0 0 => d 68747541 444d4163 69746e65\n"})
	if found != "unreadable" || d.CPUs().String() != "0-1" {
		t.Errorf("findings %q, CPUs %s", found, d.CPUs())
	}
}

func TestWriteRead(t *testing.T) {
	for name, b := range boards() {
		d, _ := b.read(Everything)
		files := map[string]string{}
		for c := range d.CPUs().All() {
			var w bytes.Buffer
			if err := d.WritePU(&w, c); err != nil {
				t.Fatal(err)
			}
			files[fmt.Sprintf("pu%d", c)] = w.String()
		}
		back, found := readFiles(t, files)
		if found != "" || !back.CPUs().Equal(d.CPUs()) {
			t.Fatalf("%s: findings %q, CPUs %s", name, found, back.CPUs())
		}
		for c := range d.CPUs().All() {
			was, is := d.Entries(c), back.Entries(c)
			if fmt.Sprint(was) != fmt.Sprint(is) {
				t.Errorf("%s: CPU %d was\n%v\nis\n%v", name, c, was, is)
			}
		}
	}
}

const textHead = "------[ Versions ]------\n\nProgram Version : Some v1\n\n------[ CPU Info ]------\n\nCPUID Manufacturer : GenuineIntel\nCPUID Revision     : 000306F2h\n\n"

func TestParseText(t *testing.T) {
	leaf0 := "CPUID 00000000: 0000000B-756E6547-6C65746E-49656E69 [GenuineIntel]\n"
	l1 := func(apic int) string {
		return fmt.Sprintf("CPUID 00000001: 000306F2-%02X100800-7FFEFBFF-BFEBFBFF\n", apic)
	}
	cache := "CPUID 00000004: 1C004121-01C0003F-0000003F-00000000 [SL 00] [L1D: 32 KB]\nCPUID 00000004: 1C004143-01C0003F-000001FF-00000000 [SL 0A]\n"
	plain := "CPUID 00000004: 1C004121-01C0003F-0000003F-00000000\nCPUID 00000004: 1C004143-01C0003F-000001FF-00000000\n"
	msr := "\n------[ MSR Registers / Logical CPU #%d ]------\n\nMSR 00000010: 0000-0000-0000-0001\n"
	for _, c := range []struct {
		name, text  string
		cpus, found string
		second      uint32 // the sub-leaf of the second cache
	}{
		{"headings", textHead + "------[ CPUID Registers / Logical CPU #0 ]------\n\nallcpu: Valid\n\n" + leaf0 + l1(0) + cache + fmt.Sprintf(msr, 0) +
			"------[ CPUID Registers / Logical CPU #1 ]------\n" + leaf0 + l1(2) + cache + fmt.Sprintf(msr, 1), "0-1", "", 10},
		{"short headings", "------[ Logical CPU #0 ]------\n" + leaf0 + l1(0) + plain + "------[ Logical CPU #1 ]------\n" + leaf0 + l1(2) + plain, "0-1", "", 1},
		{"counting from 1", "CPUID Registers (CPU #1):\n" + strings.ReplaceAll(leaf0+l1(0)+plain, ": ", "  \t") + "\nCPUID Registers (CPU #2):\n" + leaf0 + l1(2) + plain, "0-1", "", 1},
		{"no headings", leaf0 + l1(0) + plain + "\n" + leaf0 + l1(2) + plain, "0-1", "", 1},
		{"one block", leaf0 + l1(0) + plain, "0", "", 1},
		{"carriage returns", strings.ReplaceAll(leaf0+l1(0)+plain, "\n", "\r\n"), "0", "", 1},
		{"leaf-subleaf", leaf0 + "CPUID 00000004-0000: 1C004121-01C0003F-0000003F-00000000\nCPUID 00000004-00000003: 1C004143-01C0003F-000001FF-00000000\n", "0", "", 3},
		{"a block twice", "------[ Logical CPU #0 ]------\n" + leaf0 + l1(0) + plain + "------[ Logical CPU #0 ]------\n" + leaf0 + l1(0) + plain + "CPUID 40000010: 00000001-00000002-00000000-00000000\n", "0", "duplicate", 1},
		{"a number twice, another CPU", "------[ Logical CPU #0 ]------\n" + leaf0 + l1(0) + plain + "------[ Logical CPU #0 ]------\n" + leaf0 + l1(2) + plain, "0-1", "", 1},
		{"cut short", leaf0 + plain + "CPUID 0000000B: 00000001-0000", "0", "malformed", 1},
		{"bad sub-leaf", leaf0 + plain + "CPUID 0000000B: 00000001-00000002-00000100-00000000 [SL zz]\n", "0", "malformed", 1},
		{"bad dash", leaf0 + plain + "CPUID 0000000B-zz: 00000001-00000002-00000100-00000000\n", "0", "malformed", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, found, err := ParseText([]byte(c.text), "x.txt")
			if err != nil {
				t.Fatal(err)
			}
			if codes(found) != c.found || d.CPUs().String() != c.cpus {
				t.Errorf("findings %v, CPUs %s", found, d.CPUs())
			}
			for cpu := range d.CPUs().All() {
				if r, ok := d.Get(cpu, 4, 0); !ok || r.EAX != 0x1c004121 {
					t.Errorf("CPU %d leaf 4.0: %x", cpu, r)
				}
				if r, ok := d.Get(cpu, 4, c.second); !ok || r.EAX != 0x1c004143 {
					t.Errorf("CPU %d leaf 4.%d: %x", cpu, c.second, r)
				}
			}
		})
	}
}

func TestParseTextErrors(t *testing.T) {
	many := bytes.Repeat([]byte("CPUID 00000000: 0000000B-756E6547-6C65746E-49656E69\n"), cpuset.Limit+1)
	for want, data := range map[string][]byte{
		"no line of the form": []byte("hello\nCPUID Revision : 000306F2h\n"),
		"over the limit":      many,
	} {
		if _, _, err := ParseText(data, "x.txt"); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.txt") {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func FuzzParsePU(f *testing.F) {
	for _, b := range boards() {
		d, _ := b.read(Everything)
		var w bytes.Buffer
		d.WritePU(&w, 0)
		f.Add(w.Bytes(), w.Bytes())
		var v bytes.Buffer
		d.WritePU(&v, 1)
		f.Add(w.Bytes(), v.Bytes())
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		d := &Dump{}
		for i, data := range [][]byte{a, b, a} {
			entries, _ := parsePU(data, "pu")
			d.add(cpuset.CPU(i*3), entries)
		}
		d.Identity()
		d.Hypervisor()
		topo, _ := d.Topology()
		sound(t, d, topo)
	})
}

func FuzzParseText(f *testing.F) {
	for _, b := range boards() {
		d, _ := b.read(Everything)
		var w bytes.Buffer
		for c := range d.CPUs().All() {
			fmt.Fprintf(&w, "------[ Logical CPU #%d ]------\n", c)
			for _, e := range d.Entries(c) {
				fmt.Fprintf(&w, "CPUID %08X: %08X-%08X-%08X-%08X", e.Leaf, e.Regs.EAX, e.Regs.EBX, e.Regs.ECX, e.Regs.EDX)
				if e.Indexed {
					fmt.Fprintf(&w, " [SL %02X]", e.Sub)
				}
				w.WriteByte('\n')
			}
		}
		f.Add(w.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, _, err := ParseText(data, "fuzz")
		if err != nil {
			return
		}
		d.Identity()
		d.Hypervisor()
		topo, _ := d.Topology()
		sound(t, d, topo)
	})
}
