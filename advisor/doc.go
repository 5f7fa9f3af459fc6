// Package advisor says how many processes, threads or async tasks a workload
// should use on a machine, where they should sit, and why.
package advisor
