//go:build linux

package fleet

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// runLabel marks all that one round makes.
const runLabel = "berth/run"

// kept is how long a Job that ended by itself is kept for its log.
const kept = 5 * time.Minute

// broughtDir is where a pod takes a berth in.
const broughtDir = "/berth-brought"

// waiting is what a pod does whose berth is still on its way.
const waiting = `until [ -x ` + broughtDir + `/berth ]; do sleep 0.2 || sleep 1; done; exec ` + broughtDir + `/berth "$@"`

// receiving takes in a berth of some size: whole, or not at all.
func receiving(size int64) string {
	const part = broughtDir + "/part"
	return fmt.Sprintf(`head -c %[1]d >%[2]s && chmod 755 %[2]s && [ "$(wc -c <%[2]s)" -eq %[1]d ] && mv %[2]s %[3]s/berth`, size, part, broughtDir)
}

// object is a part of a manifest.
type object = map[string]any

type jobList struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Items      []object `json:"items"`
}

// job is a manifest of a Job with a pod for a node. That ends at the latest when
// its life does, whoever watches, and goes some time after.
func (r *kubeRound) job(name string, node kubeNode) object {
	container := r.manifest(node)
	container["name"], container["image"] = "berth", r.Image
	pod := object{
		"restartPolicy":                 "Never",
		"terminationGracePeriodSeconds": 1,
		"automountServiceAccountToken":  false,
		"enableServiceLinks":            false,
		"containers":                    []object{container},
		"affinity": object{"nodeAffinity": object{"requiredDuringSchedulingIgnoredDuringExecution": object{"nodeSelectorTerms": []object{
			{"matchFields": []object{{"key": "metadata.name", "operator": "In", "values": []string{node.name}}}}}}}},
	}
	if node.named {
		pod["tolerations"] = []object{{"operator": "Exists"}}
	}
	if r.bring {
		container["volumeMounts"] = []object{{"name": "brought", "mountPath": broughtDir}}
		pod["volumes"] = []object{{"name": "brought", "emptyDir": object{}}}
	}
	labels := object{"app.kubernetes.io/name": "berth-fleet", runLabel: r.id}
	return object{
		"apiVersion": "batch/v1",
		"kind":       "Job",
		"metadata":   object{"name": name, "labels": labels},
		"spec": object{
			"backoffLimit":            0,
			"activeDeadlineSeconds":   int(r.life.Seconds()),
			"ttlSecondsAfterFinished": int(kept.Seconds()),
			"template":                object{"metadata": object{"labels": labels}, "spec": pod},
		},
	}
}

// inspects is a container that asks its node. It asks for no resources, so that
// a full node takes it, and for no rights, so that it passes the restricted Pod
// Security Standard.
func (r *kubeRound) inspects(node kubeNode) object {
	args := []string{"fleet", "node", "--name", node.name}
	command := append([]string{"berth"}, args...)
	if r.bring {
		command = append([]string{"sh", "-c", waiting, "sh"}, args...)
	}
	return object{
		"command": command,
		"securityContext": object{
			"runAsNonRoot": true, "runAsUser": 65534, "runAsGroup": 65534, "allowPrivilegeEscalation": false,
			"capabilities": object{"drop": []string{"ALL"}}, "seccompProfile": object{"type": "RuntimeDefault"},
		},
	}
}

// berthMiB is the memory that berth itself may take beside the program, with the
// pages of its file that it is brought in.
const berthMiB = 128

// holds is a container that waits for sessions as long as it lives. Whole CPUs
// and a memory limit make it Guaranteed, which the static CPU manager of a
// kubelet gives CPUs of its own.
func (r *kubeRound) holds(node kubeNode, takes Takes) object {
	amount := object{"cpu": fmt.Sprintf("%dm", int(math.Ceil(takes.CPUs*1000-1e-6)))}
	if takes.MemoryMiB != nil {
		amount["memory"] = fmt.Sprintf("%dMi", int(math.Ceil(*takes.MemoryMiB))+berthMiB)
	}
	return object{
		"command":   []string{"sleep", strconv.Itoa(int(r.life.Seconds()))},
		"resources": object{"requests": amount, "limits": amount},
	}
}

// nodeObject is what matters of a v1 Node.
type nodeObject struct {
	Metadata struct{ Name string }
	Spec     struct {
		Unschedulable bool
		Taints        []struct{ Key, Value, Effect string }
	}
	Status struct {
		Conditions []struct{ Type, Status, Reason, Message string }
		NodeInfo   struct{ Architecture, OperatingSystem string }
	}
}

// refuses says why a node is not to be asked; nil: it is.
func (n *nodeObject) refuses(named bool) *Trouble {
	i := slices.IndexFunc(n.Status.Conditions, func(c struct{ Type, Status, Reason, Message string }) bool { return c.Type == "Ready" })
	switch {
	case i < 0:
		return trouble(Down, "Kubernetes knows of no kubelet that is ready there")
	case n.Status.Conditions[i].Status != "True":
		return trouble(Down, "Kubernetes says that it is not ready: %s", shown(n.Status.Conditions[i].Message))
	case n.Status.NodeInfo.OperatingSystem != "" && n.Status.NodeInfo.OperatingSystem != "linux":
		return trouble(Architecture, "the node runs %s", shown(n.Status.NodeInfo.OperatingSystem))
	case named:
		return nil
	case n.Spec.Unschedulable:
		return trouble(Down, "Kubernetes says that it is cordoned (unschedulable); to name it asks it all the same")
	}
	for _, t := range n.Spec.Taints {
		if t.Effect != "PreferNoSchedule" {
			return trouble(Down, "its taint %s keeps pods away; to name the node asks it all the same", shown(strings.TrimSuffix(t.Key+"="+t.Value, "=")+":"+t.Effect))
		}
	}
	return nil
}

// podObject is what matters of a v1 Pod.
type podObject struct {
	Metadata struct {
		Name   string
		Labels map[string]string
	}
	Status struct {
		Phase, Reason, Message string
		Conditions             []struct{ Type, Status, Reason, Message string }
		ContainerStatuses      []struct {
			State struct {
				Waiting    *struct{ Reason, Message string }
				Running    *struct{}
				Terminated *struct {
					ExitCode        int
					Reason, Message string
				}
			}
		}
	}
}

// podState is what a state of a pod comes to.
type podState struct {
	why   *Trouble // nil: nothing is wrong so far
	runs  bool
	ended bool // it will tell no more
	ran   bool // and has a log
}

// state reads a pod's state (kubernetes.io, "Pod Lifecycle"; the reasons are
// those of the kubelet).
func (o *podObject) state(bring bool) podState {
	said := func(reason, message string) string { return shown(reason + after(": ", message)) }
	for _, c := range o.Status.ContainerStatuses {
		switch s := c.State; {
		case s.Waiting != nil:
			why := trouble(Unreachable, "its pod does not start: %s", said(s.Waiting.Reason, s.Waiting.Message))
			switch s.Waiting.Reason {
			case "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError":
				return podState{why: why, ended: true}
			case "ErrImagePull", "CreateContainerError", "RunContainerError":
				return podState{why: why}
			}
		case s.Running != nil:
			return podState{runs: true}
		case s.Terminated != nil:
			t := s.Terminated
			switch {
			case t.Reason == "StartError" || t.Reason == "ContainerCannotRun":
				return podState{why: cannotStart(t.Message, bring), ended: true}
			case t.ExitCode != 0 && o.Status.Reason == "DeadlineExceeded":
				return podState{why: trouble(TimedOut, "Kubernetes ended its pod at its deadline"), ended: true}
			case t.ExitCode != 0:
				return podState{why: trouble(Failed, "berth there failed (%s, status %d)", shown(t.Reason), t.ExitCode), ended: true, ran: true}
			}
			return podState{ended: true, ran: true}
		}
	}
	switch o.Status.Phase {
	case "Failed", "Succeeded":
		return podState{why: trouble(Unreachable, "its pod ended: %s", said(o.Status.Reason, o.Status.Message)), ended: true}
	}
	for _, c := range o.Status.Conditions {
		if c.Type == "PodScheduled" && c.Status == "False" {
			return podState{why: trouble(Unreachable, "its pod found no room there: %s", shown(c.Message))}
		}
	}
	return podState{}
}

// cannotStart tells what is missing from what the runtime says of a program
// that it could not start.
func cannotStart(message string, bring bool) *Trouble {
	what := message
	if at := strings.LastIndex(message, "exec:"); at >= 0 { // before it stands what called what
		what = message[at:]
	}
	switch {
	case strings.Contains(strings.ToLower(message), "exec format error"):
		return trouble(Architecture, "what the image has is for another architecture: %s", shown(what))
	case !strings.Contains(message, "not found") && !strings.Contains(message, "no such file"):
		return trouble(Unreachable, "its pod does not start: %s", shown(what))
	case bring:
		return trouble(NoBerth, "the image has no sh, so that berth cannot be brought along: %s", shown(what))
	}
	return trouble(NoBerth, "the image has no berth: %s", shown(what))
}
