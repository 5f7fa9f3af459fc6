//go:build lab

package lab

const (
	corrupted = "two masks were corrupted to see hwloc drop what they cross, a package and an L3; the lists beside them, the package ids and the other packages' masks name both, and so do berth and lscpu"
	shared    = "nodes that share CPUs, made by hand: hwloc drops those that share some with one before"
	uname     = "hwloc looks for books on s390 and for compute units on x86 alone, by uname, which a dump does not hold"
	folders   = "hwloc knows only CPUs that have a folder, which a dump can lack; the kernel lists more"
)

// told is a file that makes hwloc show a part of a dump that it does not show
// without: then berth writes it too.
var told = map[string]struct{ file, text string }{
	"lscpu-s390-lpar":  {"proc/hwloc-nofile-info", "Architecture: s390x\n"},
	"lscpu-vmware_fpe": {"proc/hwloc-nofile-info", "Architecture: x86_64\n"},
}

// unlike names the dumps of which hwloc's XML says something else than the dump.
var unlike = map[string]string{
	"hwloc-128arm-2pa2n8cluster4co":       "hwloc reckons the ways of the L3 and does not keep what the kernel says",
	"hwloc-20s390-2g6s4c":                 "version 1 of the format does not say which group is a book",
	"hwloc-40intel64-4n10c+pci-conflicts": corrupted,
	"hwloc-64amd64-4p2n4ca2co":            "hwloc does not keep which cores are one compute unit",
	"hwloc-fakeheterocpunuma":             shared,
	"hwloc-nvidiagpunumanodes":            "hwloc leaves the memory of GPUs out",
	"lscpu-s390-lpar":                     uname,
	"lscpu-vmware_fpe":                    uname,

	"phone-alcatel-revvl":     folders,
	"phone-atm7029b-tablet":   folders,
	"phone-blu-r1-hd":         folders,
	"phone-galaxy-j7-prime":   folders,
	"phone-galaxy-j7-tmobile": folders,
	"phone-galaxy-j7-uae":     folders,
	"phone-galaxy-s7-global":  folders,
	"phone-galaxy-tab-3-7.0":  folders,
	"phone-galaxy-tab-3-lite": folders,
	"phone-lg-optimus-g-pro":  folders,
	"phone-meizu-pro-6":       folders,
	"phone-meizu-pro-6s":      folders,
	"phone-meizu-pro-7-plus":  folders,
	"phone-moto-e-gen1":       folders,
	"phone-moto-g-gen1":       folders,
	"phone-nexus4":            folders,
	"phone-padcod-10.1":       folders,
	"phone-xiaomi-mi-5c":      folders,
	"phone-xiaomi-redmi-2a":   folders,
	"phone-xperia-sl":         folders,
}
