// Command compose reads Compose files on its standard input by the library that
// Docker Compose reads them with, and says what it makes of them. A text that
// begins with a slash is a folder, of which the library reads what it does by
// default. It is a module of its own for the sake of that library.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// Report is what a file holds, as far as a plan has a say in it: a service by
// its name.
type Report struct {
	Error    string
	Name     string
	Services map[string]Service
}

// Service is one of them.
type Service struct {
	CPUSet string
	CPUs   float32
	Memory int64 // bytes
	Env    map[string]string
}

// It reads a JSON list of files and writes one of reports.
func main() {
	var files []string
	if err := json.NewDecoder(os.Stdin).Decode(&files); err != nil {
		fmt.Fprintln(os.Stderr, "compose: read files:", err)
		os.Exit(1)
	}
	var reports []Report
	for _, f := range files {
		r, err := read(f)
		if err != nil {
			r.Error = err.Error()
		}
		reports = append(reports, r)
	}
	if err := json.NewEncoder(os.Stdout).Encode(reports); err != nil {
		fmt.Fprintln(os.Stderr, "compose: write reports:", err)
		os.Exit(1)
	}
}

func load(text string) (*types.Project, error) {
	if strings.HasPrefix(text, "/") {
		options, err := cli.NewProjectOptions(nil, cli.WithWorkingDirectory(text), cli.WithDefaultConfigPath)
		if err != nil {
			return nil, err
		}
		return options.LoadProject(context.Background())
	}
	return loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir:  "/",
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: []byte(text)}},
		Environment: map[string]string{},
	})
}

func read(text string) (Report, error) {
	project, err := load(text)
	if err != nil {
		return Report{}, err
	}
	out := Report{Name: project.Name, Services: map[string]Service{}}
	for name, s := range project.Services {
		env := map[string]string{}
		for key, value := range s.Environment {
			if value != nil {
				env[key] = *value
			}
		}
		out.Services[name] = Service{CPUSet: s.CPUSet, CPUs: s.CPUS, Memory: int64(s.MemLimit), Env: env}
	}
	return out, nil
}
