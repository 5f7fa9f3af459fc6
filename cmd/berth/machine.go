package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"berth/probe"
)

// machineFlags name the machine that a command looks at: this one, or another
// that was recorded or described.
type machineFlags struct {
	sysroot, cpuid, hwlocXML, synthetic string
}

func (f *machineFlags) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.sysroot, "sysroot", "", "another machine: the sys/ and proc/ below a `DIR|TARBALL`")
	flags.StringVar(&f.cpuid, "cpuid", "", "another machine: a CPUID dump, `DIR|FILE` (pu0 …, or InstLatX64)")
	flags.StringVar(&f.hwlocXML, "hwloc-xml", "", "another machine: a `FILE` of hwloc's (lstopo --of xml)")
	flags.StringVar(&f.synthetic, "synthetic", "", "a made-up machine: `DESCRIPTION`, as 'package:2 l3:4 core:8 pu:2'")
}

// live reports whether the machine is the one that berth runs on.
func (f *machineFlags) live() bool {
	return f.sysroot == "" && f.cpuid == "" && f.hwlocXML == "" && f.synthetic == ""
}

// open makes the source. Whatever is wrong with it is the user's to mend.
func (f *machineFlags) open(cmd *cobra.Command) (probe.Source, error) {
	var given []string
	for _, name := range [...]string{"sysroot", "cpuid", "hwloc-xml", "synthetic"} {
		if cmd.Flags().Changed(name) {
			given = append(given, name)
		}
	}
	if len(given) > 1 {
		return probe.Source{}, usage("give one of them", "--%s and --%s both name a machine", given[0], given[1])
	}
	if len(given) == 0 {
		return probe.Live(), nil
	}
	var source probe.Source
	var err error
	var hint string
	switch given[0] {
	case "sysroot":
		hint = "give a directory that holds sys/ and proc/, or a tar archive of one (plain, gz, xz or zst)"
		if f.sysroot == "" {
			err = errors.New("the path is empty")
		} else {
			source, err = probe.Sysroot(f.sysroot)
		}
	case "cpuid":
		hint = "give a directory of files pu0, pu1 …, or an InstLatX64 text file"
		if f.cpuid == "" {
			err = errors.New("the path is empty")
		} else {
			source, err = probe.CPUID(f.cpuid)
		}
	case "hwloc-xml":
		hint = "give a file that lstopo --of xml or berth inspect -o hwloc-xml wrote"
		if f.hwlocXML == "" {
			err = errors.New("the path is empty")
		} else {
			source, err = probe.HwlocXML(f.hwlocXML)
		}
	case "synthetic":
		hint = "for example --synthetic 'package:2 numa:2 l3:4 core:8 pu:2'"
		source, err = probe.Synthetic(f.synthetic)
	}
	if err != nil {
		return probe.Source{}, usage(hint, "--%s: %w", given[0], err)
	}
	return source, nil
}

// probe reads the parts of the machine that the caller needs.
func (f *machineFlags) probe(cmd *cobra.Command, only probe.Parts) (*probe.Machine, error) {
	source, err := f.open(cmd)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	source.Only = only
	return probe.Probe(cmd.Context(), source)
}

// title stands for a processor without a name.
func (f *machineFlags) title(m *probe.Machine) string {
	switch {
	case m.CPU.Brand != "":
		return m.CPU.Brand
	case f.synthetic != "":
		return "Synthetic machine"
	case m.CPU.Vendor != "" && m.CPU.Family != nil && m.CPU.Model != nil:
		return fmt.Sprintf("%s family %d model %d", m.CPU.Vendor, *m.CPU.Family, *m.CPU.Model)
	case m.CPU.Vendor != "":
		return m.CPU.Vendor
	case m.Host.Arch != "":
		return m.Host.Arch + " machine"
	}
	return "Unknown processor"
}
