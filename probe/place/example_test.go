package place_test

import (
	"fmt"
	"log"

	"berth/probe/place"
	"berth/probe/synthetic"
)

func ExampleParse() {
	machine, err := synthetic.Parse("package:2 l3:2 core:4 pu:2")
	if err != nil {
		log.Fatal(err)
	}
	for _, expr := range []string{"package:1.core:0-1", "llc:0 ~pu:odd", "likwid:S0:0-1@S1:0-1", "omp:{0:4}:2:16"} {
		places, err := place.Parse(expr, machine)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(places.Union(), "in places", places)
	}
	// Output:
	// 16-19 in places [16-17 18-19]
	// 0,2,4,6 in places [0,2,4,6]
	// 0,2,16,18 in places [0 2 16 18]
	// 0-3,16-19 in places [0-3 16-19]
}

// Worker i belongs on place i; what the process may not use is left out.
func ExamplePlaces_Within() {
	machine, err := synthetic.Parse("package:1 core:4 pu:2")
	if err != nil {
		log.Fatal(err)
	}
	places, err := place.Parse("core:all", machine)
	if err != nil {
		log.Fatal(err)
	}
	allowed, err := place.Parse("0-4", machine)
	if err != nil {
		log.Fatal(err)
	}
	may := places.Within(allowed.Union())
	for worker := range 4 {
		fmt.Println("worker", worker, "on", may[worker%len(may)])
	}
	// Output:
	// worker 0 on 0-1
	// worker 1 on 2-3
	// worker 2 on 4
	// worker 3 on 0-1
}

// An error points at the character.
func ExampleError_Caret() {
	machine, err := synthetic.Parse("package:2 core:4 pu:2")
	if err != nil {
		log.Fatal(err)
	}
	_, err = place.Parse("package:1.cor:0", machine)
	fmt.Println(err)
	fmt.Println(err.(*place.Error).Caret())
	// Output:
	// place "package:1.cor:0": at "cor" (character 11): no such type of object; did you mean core?
	// package:1.cor:0
	//           ^
}
