package check_test

import (
	"context"
	"fmt"

	"berth/advisor"
	"berth/advisor/emit/check"
	"berth/probe"
	"berth/profiles"
)

func ExampleCheck() {
	source, err := probe.Synthetic("core:4 pu:1")
	if err != nil {
		fmt.Println(err)
		return
	}
	machine, err := probe.Probe(context.Background(), source)
	if err != nil {
		fmt.Println(err)
		return
	}
	profile, err := profiles.Parse([]byte("schema: berth.profile/v1\nname: site\nmodel: processes\n"), "site.yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	plan, err := advisor.Advise(machine, profile, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	const conf = "worker_processes 8;\nworker_cpu_affinity auto 1111;\nevents { worker_connections 512; }\n"
	report, err := check.Check(plan, "nginx.conf", []byte(conf), "")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range report.Findings {
		fmt.Printf("%d: %s %s: %s\n", f.Line, f.Setting, f.Found, f.Verdict)
	}
	// Output:
	// 1: worker_processes 8: differs
	// 2: worker_cpu_affinity auto 1111: agrees
	// 3: worker_connections 512: agrees
}
