//go:build linux && !(386 || amd64 || arm64 || loong64 || ppc64 || ppc64le || riscv64 || s390x)

package wait

// particular is empty here: what is not in common is looked up in wchan.
var particular table
