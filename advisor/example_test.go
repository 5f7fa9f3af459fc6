package advisor_test

import (
	"context"
	"fmt"

	"berth/advisor"
	"berth/probe"
	"berth/profiles"
)

func ExampleAdvise() {
	source, err := probe.Synthetic("package:1 l3:2 core:8 pu:2")
	if err != nil {
		fmt.Println(err)
		return
	}
	machine, err := probe.Probe(context.Background(), source)
	if err != nil {
		fmt.Println(err)
		return
	}
	profile, err := profiles.Parse([]byte(`
schema: berth.profile/v1
name: solver
work:
  kind: float
load:
  tasks: 4
`), "solver.yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	plan, err := advisor.Advise(machine, profile, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(advisor.Describe(plan.Workers), "on", plan.Placement.CPUs)
	fmt.Println(plan.Binding.Detail)
	// Output:
	// 1 process × 4 threads on 0,2,16,18
	// there are 4 tasks
}
