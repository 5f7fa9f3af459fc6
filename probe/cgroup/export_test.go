package cgroup

var (
	OfIn   = of
	FindIn = find
)
