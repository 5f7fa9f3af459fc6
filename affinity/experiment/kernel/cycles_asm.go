//go:build linux && (amd64 || arm64)

package kernel

func additions(n uint64)
