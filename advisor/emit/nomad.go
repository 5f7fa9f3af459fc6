package emit

import (
	"math"
	"strings"

	"berth/advisor"
)

// nomad is a job of one task that holds all workers (developer.hashicorp.com,
// "Nomad job specification").
type nomad struct{}

func (nomad) Name() string  { return "nomad" }
func (nomad) About() string { return "Nomad job: reserved cores or CPU share, memory, environment" }

func (nomad) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	at := places(p)
	cores := int(math.Ceil(cpus(p) - 1e-9))
	if at != nil {
		s.cannot("which CPUs: Nomad chooses the cores that it reserves, and the seats %s hold only where it chooses the same", p.Placement.CPUs)
	}
	s.cannotLimit(p, "cores are whole, and without them cpu is a share in MHz of the node's")
	if p.MemoryMiB == nil {
		s.cannot("memory: the profile does not say how much a worker needs (limits.memory_per_worker_mib), and Nomad gives 300 MiB unless told")
	}
	mems := allMems(at)
	s.comment("A core is one CPU here, SMT siblings too. Nomad reserves cores for Linux tasks with cgroups.")
	name := plainName(p.Profile)
	s.line("job %s {", hclQuote(name))
	s.line("  group %s {\n    task %s {", hclQuote(name), hclQuote(name))
	s.lines(`      driver = "exec" # yours
      config {
        command = "PROGRAM" # yours
      }
      resources {
`)
	s.line("        cores = %d", cores)
	if p.MemoryMiB != nil {
		s.line("        memory = %d", max(10, int64(math.Ceil(*p.MemoryMiB)))) // MB; Nomad's least is 10
	}
	if mems != "" && !strings.ContainsAny(mems, ",-") {
		s.lines("        numa {\n          affinity = \"prefer\" # from Nomad 1.7 on; Nomad Enterprise obeys it\n        }\n")
	} else if mems != "" {
		s.cannot("memory on nodes %s: Nomad's numa block is for one node", mems)
	}
	s.lines("      }\n      env {\n")
	for _, v := range s.oneEnvironment(p) {
		s.line("        %s = %s", v.name, hclQuote(v.value))
	}
	s.lines("      }\n    }\n  }\n}\n")
	return s.settings()
}

// hclQuote writes a template without parts to fill in (HCL native syntax
// specification, "Quoted Templates").
func hclQuote(text string) string {
	return yamlQuote(hclParts.Replace(text)) // their escapes are the same
}

var hclParts = strings.NewReplacer("${", "$${", "%{", "%%{")
