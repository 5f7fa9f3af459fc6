// Command kubernetes reads Kubernetes's documents on its standard input as the
// API server and the kubelet do with strict validation, where a field that
// there is not is an error, and says what it makes of them. It is a module of
// its own for the sake of Kubernetes's types.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	kubelet "k8s.io/kubelet/config/v1beta1"
	strict "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Report is what a document holds, as far as a plan has a say in it.
type Report struct {
	Error string
	Name  string
	// QoS is the class that the pod gets (kubernetes.io, "Pod Quality of Service
	// Classes"); Exclusive says that the static CPU manager gives it CPUs of its own.
	QoS       core.PodQOSClass
	Exclusive bool
	CPU       resource.Quantity
	Memory    resource.Quantity
	Env       map[string]string
	Nodes     []string // by their label kubernetes.io/hostname; empty: any
	// Of a kubelet's configuration:
	CPUPolicy, TopologyPolicy, MemoryPolicy, ReservedCPUs string
}

// It reads a JSON list of documents and writes one of reports.
func main() {
	var documents []string
	if err := json.NewDecoder(os.Stdin).Decode(&documents); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes: read documents:", err)
		os.Exit(1)
	}
	var reports []Report
	for _, d := range documents {
		r, err := read([]byte(d))
		if err != nil {
			r.Error = err.Error()
		}
		reports = append(reports, r)
	}
	if err := json.NewEncoder(os.Stdout).Encode(reports); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes: write reports:", err)
		os.Exit(1)
	}
}

func read(document []byte) (Report, error) {
	var kind struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return Report{}, err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "apps/v1 Deployment":
		var d apps.Deployment
		if err := decode(document, &d); err != nil {
			return Report{}, err
		}
		return workload(d.Name, d.Spec.Selector, &d.Spec.Template)
	case "apps/v1 DaemonSet":
		var d apps.DaemonSet
		if err := decode(document, &d); err != nil {
			return Report{}, err
		}
		return workload(d.Name, d.Spec.Selector, &d.Spec.Template)
	case "kubelet.config.k8s.io/v1beta1 KubeletConfiguration":
		var c kubelet.KubeletConfiguration
		if err := decode(document, &c); err != nil {
			return Report{}, err
		}
		return Report{CPUPolicy: c.CPUManagerPolicy, TopologyPolicy: c.TopologyManagerPolicy, MemoryPolicy: c.MemoryManagerPolicy, ReservedCPUs: c.ReservedSystemCPUs}, nil
	}
	return Report{}, fmt.Errorf("%+v is not expected", kind)
}

// decode is strict about fields, their case and their number.
func decode(document []byte, into any) error {
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return err
	}
	problems, err := strict.UnmarshalStrict(text, into)
	return errors.Join(append(problems, err)...)
}

// workload is what makes pods: its name, how it knows them, and what they are.
func workload(name string, selector *meta.LabelSelector, template *core.PodTemplateSpec) (Report, error) {
	pod := &template.Spec
	if len(pod.Containers) != 1 || selector == nil {
		return Report{}, fmt.Errorf("%d containers, selector %v", len(pod.Containers), selector)
	}
	c := &pod.Containers[0]
	problems := append(validation.IsDNS1123Subdomain(name), validation.IsDNS1123Label(c.Name)...)
	for key, value := range selector.MatchLabels {
		problems = append(append(problems, validation.IsQualifiedName(key)...), validation.IsValidLabelValue(value)...)
		if template.Labels[key] != value {
			problems = append(problems, "the selector does not select the pod")
		}
	}
	out := Report{Name: name, CPU: c.Resources.Limits[core.ResourceCPU], Memory: c.Resources.Limits[core.ResourceMemory], Env: map[string]string{}}
	for _, v := range c.Env {
		problems = append(problems, validation.IsEnvVarName(v.Name)...)
		if _, twice := out.Env[v.Name]; twice {
			problems = append(problems, v.Name+" is there twice")
		}
		out.Env[v.Name] = v.Value
	}
	for name, quantity := range c.Resources.Requests {
		if limit := c.Resources.Limits[name]; quantity.Sign() <= 0 || quantity.Cmp(limit) > 0 {
			problems = append(problems, fmt.Sprintf("%s: request %s, limit %s", name, quantity.String(), limit.String()))
		}
	}
	if pod.Affinity != nil {
		for _, term := range pod.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, m := range term.MatchExpressions {
				if m.Key == core.LabelHostname && m.Operator == core.NodeSelectorOpIn {
					out.Nodes = append(out.Nodes, m.Values...)
				}
			}
		}
	}
	out.QoS = qos(&c.Resources)
	out.Exclusive = out.QoS == core.PodQOSGuaranteed && out.CPU.MilliValue()%1000 == 0
	if problems != nil {
		return out, fmt.Errorf("%s", strings.Join(problems, "; "))
	}
	return out, nil
}

func qos(r *core.ResourceRequirements) core.PodQOSClass {
	if len(r.Requests) == 0 && len(r.Limits) == 0 {
		return core.PodQOSBestEffort
	}
	for _, name := range []core.ResourceName{core.ResourceCPU, core.ResourceMemory} {
		limit, ok := r.Limits[name]
		request, requested := r.Requests[name]
		if !ok || requested && request.Cmp(limit) != 0 {
			return core.PodQOSBurstable
		}
	}
	return core.PodQOSGuaranteed
}
