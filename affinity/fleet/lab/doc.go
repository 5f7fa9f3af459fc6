// Package lab lets berth fleet reach nodes by real engines: OpenSSH's servers
// and a Slurm cluster on loopback, Open MPI and a Dask cluster over hosts that
// are network namespaces, a Kubernetes cluster; all children of the test.
//
//	affinity/fleet/lab/setup                     once, as root on Debian
//	affinity/fleet/lab/kubernetes/setup          the same for Kubernetes, which it builds
//	go test -tags lab -v ./affinity/fleet/lab
package lab
