package emit

import (
	"fmt"
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
	s.title(p)
	pod := s.pod(p)
	s.line(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]q
spec:
  replicas: 1
  selector:
    matchLabels: {app: %[1]q}
  template:
    metadata:
      labels: {app: %[1]q}
    spec:
%[2]s`, plainName(p.Profile), pod)
	return s.settings()
}

// pod is the container of a pod that holds all workers, after the comments that
// belong to it.
func (s *sheet) pod(p *advisor.Plan) string {
	at := places(p)
	if at != nil {
		s.kubelet(p, at)
	}
	if p.MemoryMiB == nil {
		consequence := ""
		if at != nil {
			consequence = ", and without a limit for it the pod is not Guaranteed and gets no CPUs of its own"
		}
		s.cannot("memory: the profile does not say how much a worker needs (limits.memory_per_worker_mib)%s", consequence)
	}
	resources := `{cpu: "` + cpuAmount(p) + `"`
	if p.MemoryMiB != nil {
		resources += `, memory: "` + strconv.FormatInt(int64(math.Ceil(*p.MemoryMiB)), 10) + `Mi"`
	}
	resources += "}"
	var environment strings.Builder
	for _, v := range s.oneEnvironment(p) {
		fmt.Fprintf(&environment, "\n        - {name: %s, value: %q}", v.name, v.value)
	}
	return fmt.Sprintf(`      containers:
      - name: %[1]q
        image: IMAGE # yours
        resources:
          requests: %[2]s
          limits: %[2]s
        env:%[3]s`, plainName(p.Profile), resources, environment.String())
}

// cpuAmount is the pod's CPUs, whole ones or thousandths.
func cpuAmount(p *advisor.Plan) string {
	n := cpus(p)
	if len(p.Placement.Seats) > 0 {
		n = math.Ceil(n)
	}
	if n == math.Trunc(n) {
		return strconv.Itoa(int(n))
	}
	return strconv.Itoa(int(math.Ceil(n*1000-1e-6))) + "m"
}

// kubelet comments on what gives a pod CPUs of its own (kubernetes.io, "Control
// CPU Management Policies on the Node", "Utilizing the NUMA-aware Memory
// Manager").
func (s *sheet) kubelet(p *advisor.Plan, at []place) {
	s.comment("CPUs of its own need a kubelet with this in its configuration file (not in this one):")
	s.lines(`#
#   apiVersion: kubelet.config.k8s.io/v1beta1
#   kind: KubeletConfiguration
#   cpuManagerPolicy: static
#   cpuManagerPolicyOptions: {full-pcpus-only: "true"}
#   reservedSystemCPUs: "0"
`)
	if strings.Contains(allMems(at), ",") {
		s.lines("#   topologyManagerPolicy: best-effort\n#\n") // single-numa-node would refuse the pod
		s.comment("The reserved CPUs are for the system and no pod of this kind gets them: plan with limits.reserve_cores, and reserve those.")
	} else {
		s.lines(`#   topologyManagerPolicy: single-numa-node
#   memoryManagerPolicy: Static
#   reservedMemory: [{numaNode: 0, limits: {memory: 100Mi}}]
#
`)
		s.comment("The reserved CPUs are for the system and no pod of this kind gets them: plan with limits.reserve_cores, and reserve those. The reserved memory is the sum of kubeReserved, systemReserved and evictionHard (100Mi where nobody set them).")
	}
	s.comment("And they need a pod whose requests equal its limits, with a whole number of CPUs that fills whole cores.")
	if p.Placement.Pin == advisor.PerCore {
		s.comment("One worker per core: a core comes with its SMT siblings, so ask for as many CPUs as its cores have.")
	}
	s.cannot("which CPUs: the kubelet chooses them, and the seats %s hold only where it chooses the same", p.Placement.CPUs)
}
