//go:build linux && !amd64

package kernel

var byWidth = [...]*vectors{&portable}

// implementations are those that this CPU can run.
func implementations() []*vectors { return byWidth[:] }
