package emit

import (
	"math"
	"strconv"
	"strings"

	"berth/advisor"
)

// kubernetes is a Deployment of one pod that holds all workers, and what the
// kubelet must be set to for the seats to come true.
type kubernetes struct{}

func (kubernetes) Name() string { return "kubernetes" }
func (kubernetes) About() string {
	return "Deployment with requests and limits, and what the kubelet must be set to"
}

func (kubernetes) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	name := plainName(p.Profile)
	s.title(p)
	pinned := places(p) != nil
	n := cpus(p)
	amount := strconv.Itoa(int(math.Ceil(n*1000-1e-6))) + "m"
	if pinned || n == math.Trunc(n) {
		n = math.Ceil(n)
		amount = strconv.Itoa(int(n))
	}
	if pinned {
		s.comment("CPUs of its own need a kubelet with these settings (its configuration file, not this one):")
		s.lines("#   cpuManagerPolicy: static\n#   cpuManagerPolicyOptions: {full-pcpus-only: \"true\"}\n#   reservedSystemCPUs: \"0\"\n")
		if strings.ContainsAny(allMems(places(p)), ",") {
			s.lines("#   topologyManagerPolicy: best-effort\n") // single-numa-node would refuse the pod
		} else {
			s.lines("#   topologyManagerPolicy: single-numa-node\n#   memoryManagerPolicy: Static\n")
		}
		s.comment("and a pod whose requests equal its limits, with a whole number of CPUs.")
		if p.Placement.Pin == advisor.PerCore {
			s.comment("One worker per core: with full-pcpus-only a core comes with its SMT siblings, so ask for as many CPUs as its cores have.")
		}
		s.cannot("which CPUs: the kubelet chooses them, and the seats %s hold only where it chooses the same", p.Placement.CPUs)
	}
	if p.MemoryMiB == nil {
		s.cannot("memory: the profile does not say how much a worker needs (limits.memory_per_worker_mib), and without a limit for it the pod is not Guaranteed and gets no CPUs of its own")
	}
	resources := `{cpu: "` + amount + `"`
	if p.MemoryMiB != nil {
		resources += `, memory: "` + strconv.FormatInt(int64(math.Ceil(*p.MemoryMiB)), 10) + `Mi"`
	}
	resources += "}"
	var environment strings.Builder
	for _, v := range counts(p) {
		environment.WriteString("        - {name: " + v.name + `, value: "` + v.value + "\"}\n")
	}
	s.line(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
spec:
  replicas: 1
  selector:
    matchLabels: {app: %[1]s}
  template:
    metadata:
      labels: {app: %[1]s}
    spec:
      containers:
      - name: %[1]s
        image: IMAGE
        resources:
          requests: %[2]s
          limits: %[2]s
        env:
%[3]s`, name, resources, strings.TrimRight(environment.String(), "\n"))
	return s.settings()
}
