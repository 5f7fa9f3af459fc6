package cpuid

import (
	"encoding/binary"
	"strings"

	"berth/probe/topology"
)

// Vendors, as leaf 0 names them. Spaces around a name are taken off.
const (
	intelVendor    = "GenuineIntel"
	amdVendor      = "AuthenticAMD"
	hygonVendor    = "HygonGenuine"
	centaurVendor  = "CentaurHauls"
	zhaoxinVendor  = "Shanghai"
	viaVendor      = "VIA VIA VIA"
	oldAMDVendor   = "AMDisbetter!"
	oldAMDVendorNS = "AMD ISBETTER"
)

// ident is the part of the identity that decoding depends on.
type ident struct {
	vendor                  string
	family, model, stepping int
	known                   bool // leaf 1 was there
}

func (i ident) amd() bool {
	switch i.vendor {
	case amdVendor, hygonVendor, oldAMDVendor, oldAMDVendorNS:
		return true
	}
	return false
}

func (i ident) centaur() bool {
	switch i.vendor {
	case centaurVendor, zhaoxinVendor, viaVendor:
		return true
	}
	return false
}

func (p processor) ident() ident {
	id := ident{}
	r := p.at(leafVendor, 0)
	id.vendor = registerText(r.EBX, r.EDX, r.ECX)
	if v := p.at(leafVersion, 0).EAX; v != 0 {
		id.known = true
		id.family, id.model, id.stepping = displayVersion(v, id.amd(), id.centaur())
	}
	return id
}

// displayVersion adds the extended fields of leaf 1 EAX to family and model.
// Intel adds the extended family at base family 0xf and the extended model at
// 6 and 0xf (SDM vol. 2A, CPUID, "EAX = 01H"); AMD both at 0xf (APM vol. 3,
// Fn0000_0001 EAX); the Centaur and Zhaoxin parts use the model's at 6 and 7.
func displayVersion(v uint32, amd, centaur bool) (family, model, stepping int) {
	base := field(v, 11, 8)
	family, model, stepping = int(base), int(field(v, 7, 4)), int(field(v, 3, 0))
	if base == 0xf {
		family += int(field(v, 27, 20))
	}
	if base == 0xf || !amd && base == 6 || centaur && base == 7 {
		model += int(field(v, 19, 16)) << 4
	}
	return family, model, stepping
}

// registerText reads characters from registers, lowest byte first.
func registerText(regs ...uint32) string {
	b := make([]byte, 0, 48)
	for _, r := range regs {
		b = binary.LittleEndian.AppendUint32(b, r)
	}
	// A dump can hold anything; JSON cannot.
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = ' '
		}
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

func (p processor) brand() string {
	var regs []uint32
	for leaf := uint32(leafBrand); leaf < leafBrand+3; leaf++ {
		r := p.at(leaf, 0)
		regs = append(regs, r.EAX, r.EBX, r.ECX, r.EDX)
	}
	for i, r := range regs { // what follows the end of the string is noise
		for shift := 0; shift < 32; shift += 8 {
			if r>>shift&0xff == 0 {
				regs[i] = r & (1<<shift - 1)
				return registerText(regs[:i+1]...)
			}
		}
	}
	return registerText(regs...)
}

// ident is the machine's: that of the first CPU that gives one.
func (d *Dump) ident() ident {
	for _, p := range d.processors() {
		if p.has(leafVendor, 0) {
			return p.ident()
		}
	}
	return ident{}
}

// Identity is what the first CPU that answered says it is.
func (d *Dump) Identity() topology.Identity {
	var out topology.Identity
	for _, p := range d.processors() {
		if !p.has(leafVendor, 0) {
			continue
		}
		id := p.ident()
		out.Vendor, out.Brand = id.vendor, p.brand()
		if id.known {
			out.Family, out.Model, out.Stepping = &id.family, &id.model, &id.stepping
		}
		break
	}
	return out
}
