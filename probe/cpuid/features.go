package cpuid

import "github.com/klauspost/cpuid/v2"

// LiveFeatures names the features of the processor that this runs on, as
// klauspost/cpuid spells them, and its x86-64 level (psABI), 1 to 4 or 0.
// Features that the operating system has not enabled are left out.
func LiveFeatures() (features []string, level int) {
	return cpuid.CPU.FeatureSet(), cpuid.CPU.X64Level()
}
