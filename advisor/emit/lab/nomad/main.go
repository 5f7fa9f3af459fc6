// Command nomad reads jobs on its standard input as Nomad's command line does,
// and says what it makes of them. It is a module of its own for the sake of
// Nomad's parser.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/nomad/jobspec2"
)

// Report is what a job holds, as far as a plan has a say in it.
type Report struct {
	Error  string
	Name   string
	Cores  int
	Memory int // MB; 0: not said
	Env    map[string]string
}

// It reads a JSON list of jobs and writes one of reports.
func main() {
	var jobs []string
	if err := json.NewDecoder(os.Stdin).Decode(&jobs); err != nil {
		fmt.Fprintln(os.Stderr, "nomad: read jobs:", err)
		os.Exit(1)
	}
	var reports []Report
	for _, job := range jobs {
		r, err := read(job)
		if err != nil {
			r.Error = err.Error()
		}
		reports = append(reports, r)
	}
	if err := json.NewEncoder(os.Stdout).Encode(reports); err != nil {
		fmt.Fprintln(os.Stderr, "nomad: write reports:", err)
		os.Exit(1)
	}
}

func read(text string) (Report, error) {
	job, err := jobspec2.Parse("plan.nomad.hcl", strings.NewReader(text))
	if err != nil {
		return Report{}, err
	}
	if len(job.TaskGroups) != 1 || len(job.TaskGroups[0].Tasks) != 1 {
		return Report{}, fmt.Errorf("not one task in one group")
	}
	task := job.TaskGroups[0].Tasks[0]
	out := Report{Name: *job.Name, Env: task.Env}
	if task.Resources.Cores != nil {
		out.Cores = *task.Resources.Cores
	}
	if task.Resources.MemoryMB != nil {
		out.Memory = *task.Resources.MemoryMB
	}
	return out, nil
}
