//go:build lab

package regret

import (
	"path/filepath"
	"slices"
	"strconv"
)

// program is one with a free count of workers.
type program struct {
	name  string
	model string  // what its author knows: threads or processes
	quota float64 // in CPUs, of a control group around it; 0: none
	unit  string
	needs []string
	quick bool
	// long doubles the window: it proceeds, or tells of it, in large steps.
	long bool
	// with is the service that it uses, which shares the CPUs with it.
	with service
	// meter tells where its units are counted.
	meter meter
	// command is the program and its arguments for n workers.
	command func(l *lab, n int) []string
}

type service string

const (
	alone    service = ""
	slow     service = "slow"
	postgres service = "postgres"
)

type meter string

const (
	cells  meter = "cells"  // a file that the workers count in
	stream meter = "stream" // bytes taken from standard input, once some came out
	log    meter = "log"    // pgbench's log of transactions
)

func python(kind string) func(*lab, int) []string {
	return func(l *lab, n int) []string {
		return []string{l.Python, "-B", filepath.Join(l.Sources, "pool.py"), kind, strconv.Itoa(n)}
	}
}

func native(name, kind string) func(*lab, int) []string {
	return func(l *lab, n int) []string { return []string{filepath.Join(l.Dir, name), kind, strconv.Itoa(n)} }
}

// compressor is a command with -T and the count after its words.
func compressor(words ...string) func(*lab, int) []string {
	return func(_ *lab, n int) []string { return append(slices.Clone(words), "-T"+strconv.Itoa(n)) }
}

func pgbench(more ...string) func(*lab, int) []string {
	return func(l *lab, n int) []string {
		return append([]string{
			"pgbench", "-h", l.Postgres, "-U", "postgres", "-n", "-T", "3600", "-l", "--log-prefix", transactions,
			"-c", strconv.Itoa(n),
		}, append(more, "postgres")...)
	}
}

// transactions begins the names of pgbench's logs, in the directory of a run.
const transactions = "transactions"

var programs = []program{
	{name: "python-fetch", model: "threads", unit: "items", with: slow, command: python("fetch"), quick: true},
	{name: "python-fetch-heavy", model: "threads", unit: "items", with: slow, command: python("fetch-heavy")},
	{name: "python-pure", model: "threads", unit: "items", command: python("pure")},
	{name: "python-native", model: "threads", unit: "items", command: python("native")},
	{name: "python-processes", model: "processes", unit: "items", command: python("processes")},
	{name: "python-processes-fetch", model: "processes", unit: "items", with: slow, command: python("processes-fetch")},
	{name: "go-fetch", model: "threads", unit: "items", with: slow, command: native("gopool", "fetch"), quick: true},
	{name: "go-busy", model: "threads", unit: "items", command: native("gopool", "busy")},
	{name: "c-fetch", model: "threads", unit: "items", with: slow, command: native("threads", "fetch")},
	{name: "c-serial", model: "threads", unit: "items", command: native("threads", "serial")},
	{name: "c-triad", model: "threads", unit: "× 64 KiB", command: native("threads", "triad")},
	{name: "c-chase", model: "threads", unit: "× 1000 loads", command: native("threads", "chase")},
	{name: "c-busy-quota-1.5", model: "threads", quota: 1.5, unit: "items", command: native("threads", "busy")},
	{name: "c-busy-quota-1", model: "threads", quota: 1, unit: "items", command: native("threads", "busy")},
	{
		name: "xz", model: "threads", unit: "MiB", needs: []string{"xz"}, meter: stream, long: true,
		command: compressor("xz", "-0", "--block-size=128KiB", "-c"), quick: true,
	},
	{name: "zstd", model: "threads", unit: "MiB", needs: []string{"zstd"}, meter: stream, long: true, command: compressor("zstd", "-q", "-6", "-B1MiB", "-c")},
	{name: "sqlite-own", model: "processes", unit: "transactions", command: python("sqlite-own"), quick: true},
	{name: "sqlite-shared", model: "processes", unit: "transactions", command: python("sqlite-shared")},
	{
		name: "pgbench-select", model: "threads", unit: "transactions", needs: []string{"pgbench"},
		with: postgres, meter: log, long: true, command: pgbench("-S"),
	},
	{
		name: "pgbench-tpcb", model: "threads", unit: "transactions", needs: []string{"pgbench"},
		with: postgres, meter: log, long: true, command: pgbench(),
	},
}
