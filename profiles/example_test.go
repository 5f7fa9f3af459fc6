package profiles_test

import (
	"fmt"
	"log"

	"berth/profiles"
)

func ExampleParse() {
	p, err := profiles.Parse([]byte(`
schema: berth.profile/v1
name: gateway
work: {kind: service, cpu_ms: 10, wait_ms: 90}
`), "gateway.yaml")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %g ms of CPU, %g ms of waiting that blocks: %v\n", p.Name, *p.Work.CPUMS, p.Work.WaitMS, p.BlockingWaits())
	// Output: gateway: 10 ms of CPU, 90 ms of waiting that blocks: true
}

// Every mistake is told at once, with its place and what was meant.
func ExampleParse_mistakes() {
	_, err := profiles.Parse([]byte(`schema: berth.profile/v1
name: gateway
work:
  cpums: 10
  wait_ms: 90ms
`), "gateway.yaml")
	fmt.Println(err)
	// Output:
	// gateway.yaml:4:3: work.cpums: there is no such field; did you mean work.cpu_ms?
	// gateway.yaml:5:12: work.wait_ms: "90ms" carries a unit, and the unit is in the field's name; it takes a number (milliseconds) from 0 to 1e9
}

// A flag changes one field of a profile.
func ExampleProfile_With() {
	p, err := profiles.Parse([]byte("schema: berth.profile/v1\nname: gateway\nwork: {cpu_ms: 10}\n"), "gateway.yaml")
	if err != nil {
		log.Fatal(err)
	}
	waits, err := p.With("--set", profiles.Setting{Path: "work.wait_ms", Value: "90"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Work.WaitMS, waits.Work.WaitMS)
	_, err = p.With("--set", profiles.Setting{Path: "work.wait_ms", Value: "90s"})
	fmt.Println(err)
	// Output:
	// 0 90
	// --set work.wait_ms=90s: work.wait_ms: "90s" carries a unit, and the unit is in the field's name; it takes a number (milliseconds) from 0 to 1e9
}
