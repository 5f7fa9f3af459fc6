// Scale writes the documents of a made-up fleet, one after the other, as berth
// fleet inspect --from - reads them.
//
//	go run ./affinity/fleet/scale BERTH NODES
//
// BERTH describes the machines: five kinds of servers in uneven numbers. Nodes
// differ in memory by what kernels leave, and some in more: a DIMM is missing,
// SMT is off, the kernel is older, there is a quota, or the answer is none.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
)

// kind is one sort of server.
type kind struct {
	description string
	share       int // of a hundred nodes
	gib         int
	one, off    []byte // its document, and that with SMT off
}

var kinds = []kind{
	{description: "package:2 numa:4 l3:2(size=32MiB) l2:8(size=1MiB) l1d:1(size=32KiB) core:1 pu:2", share: 55, gib: 768},
	{description: "package:2 numa:1 l3:1(size=60MiB) l2:32(size=2MiB) l1d:1(size=48KiB) core:1 pu:2", share: 25, gib: 512},
	{description: "package:1 numa:4 l3:3(size=32MiB) l2:8(size=1MiB) l1d:1(size=32KiB) core:1 pu:2", share: 12, gib: 1536},
	{description: "package:4 numa:2 l3:1(size=38MiB) l2:20(size=1MiB) l1d:1(size=32KiB) core:1 pu:2", share: 5, gib: 3072},
	{description: "package:1 numa:1 l3:1(size=64MiB) l2:80(size=1MiB) l1d:1(size=64KiB) core:1 pu:1", share: 3, gib: 256},
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: scale BERTH NODES")
	}
	nodes, err := strconv.Atoi(os.Args[2])
	if err != nil || nodes < 1 {
		log.Fatalf("%q is no number of nodes", os.Args[2])
	}
	if err := write(os.Args[1], nodes); err != nil {
		log.Fatal(err)
	}
}

func write(berth string, nodes int) error {
	describe := func(description string) ([]byte, error) {
		return exec.Command(berth, "inspect", "-o", "json", "--synthetic", description).Output()
	}
	fingerprint := regexp.MustCompile(`"fingerprint": "[0-9a-f]*"`)
	for i := range kinds {
		k := &kinds[i]
		var err error
		if k.one, err = describe(k.description); err != nil {
			return err
		}
		if k.off, err = describe(k.description[:len(k.description)-1] + "1"); err != nil {
			return err
		}
		k.off = fingerprint.ReplaceAll(k.off, fingerprint.Find(k.one))
	}
	random := rand.New(rand.NewPCG(1, uint64(nodes)))
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	for i := range nodes {
		at, k := random.IntN(100), &kinds[0]
		for j := range kinds {
			if k = &kinds[j]; at < k.share {
				break
			}
			at -= k.share
		}
		document, release, gib, limits := k.one, "6.8.0-45-generic", float64(k.gib), ""
		odd := random.IntN(10000)
		switch {
		case odd < 10:
			fmt.Fprintf(out, "{\"schema\": \"berth.inspect/v1\", \"host\": {\"hostname\": \"n%06d\n", i)
			continue
		case odd < 30:
			gib *= 23.0 / 24
		case odd < 50:
			document = k.off
		case odd < 300:
			release = "6.5.0-15-generic"
		case odd < 330:
			limits = `"quota_cpus": 16, "quota_period_ms": 100, `
		}
		memory := int64(gib*(1<<30)) - random.Int64N(1<<27)
		host := fmt.Sprintf(`"host": {"hostname": "n%06d", "kernel": %q, "arch": "x86_64", "memory_bytes": %d, `, i, release, memory)
		document = bytes.Replace(document, []byte(`"host": {`), []byte(host), 1)
		if limits != "" {
			document = bytes.Replace(document, []byte(`"limits": {`), []byte(`"limits": {`+limits), 1)
		}
		if _, err := out.Write(document); err != nil {
			return err
		}
	}
	return out.Flush()
}
