// Package profiles holds the YAML description of a workload: what one task
// costs, what it waits for, and what limits it.
package profiles
