//go:build lab

package lab

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/affinity/fleet"
)

// kubeImages makes those of the lab, in a folder.
func kubeImages(t *testing.T, berth string) string {
	t.Helper()
	need(t, "busybox")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	shell := map[string]string{"bin/busybox": busybox}
	for _, name := range []string{"sh", "sleep", "head", "wc", "chmod", "mv", "cat", "grep", "echo"} {
		shell["bin/"+name] = "->busybox"
	}
	both := map[string]string{"usr/bin/berth": berth}
	for path, from := range shell {
		both[path] = from
	}
	dir := t.TempDir()
	kubeImage(t, filepath.Join(dir, "pause.tar"), pauseImage, []string{"/bin/busybox", "sleep", "2147483647"}, shell)
	kubeImage(t, filepath.Join(dir, "shell.tar"), shellImage, nil, shell)
	kubeImage(t, filepath.Join(dir, "berth.tar"), berthImage, nil, map[string]string{"usr/bin/berth": berth})
	kubeImage(t, filepath.Join(dir, "both.tar"), bothImage, nil, both)
	return dir
}

func TestKubernetes(t *testing.T) {
	long(t)
	c := startKubernetes(t)
	berth := built(t)
	tars := kubeImages(t, berth)
	k1 := c.startNode(t, "k1", 1, tars)
	c.startNode(t, "k2", 2, tars)
	c.post(t, "down1", "amd64", 8, "False", `{}`)
	c.post(t, "cordoned1", "amd64", 8, "True", `{"unschedulable":true}`)
	c.post(t, "tainted1", "amd64", 8, "True", `{"taints":[{"key":"gpu","value":"yes","effect":"NoSchedule"}]}`)
	inspect := []string{berth, "fleet", "inspect", "--engine", "kubernetes", "--image"}

	f := looked(t, c.env, 1, append(inspect, berthImage)...)
	check(t, f, map[string]fleet.TroubleCode{"k1": "", "k2": "", "down1": fleet.Down, "cordoned1": fleet.Down, "tainted1": fleet.Down})
	f = looked(t, c.env, 0, append(inspect, berthImage, "--bring", "never", "--nodes", "k[1-2]")...)
	check(t, f, map[string]fleet.TroubleCode{"k1": "", "k2": ""})
	f = looked(t, c.env, 0, append(inspect, shellImage, "--nodes", "k[1-2]")...)
	check(t, f, map[string]fleet.TroubleCode{"k1": "", "k2": ""})
	f = looked(t, c.env, 1, append(inspect, shellImage, "--nodes", "k1", "--bring", "never")...)
	check(t, f, map[string]fleet.TroubleCode{"k1": fleet.NoBerth})
	f = looked(t, c.env, 1, append(inspect, pauseImage+"no", "--nodes", "k1")...)
	check(t, f, map[string]fleet.TroubleCode{"k1": fleet.Unreachable})
	if left := c.left(t); left != "" {
		t.Errorf("%s is left", left)
	}

	// Nodes on which nothing starts, and one of another architecture.
	c.post(t, "ghost1", "amd64", 8, "True", `{}`)
	c.post(t, "full1", "amd64", 8, "True", `{}`)
	c.kubectl(t, "patch", "node", "full1", "--subresource=status", "--type=merge", "--patch", `{"status":{"allocatable":{"pods":"0"}}}`)
	c.post(t, "other1", "s390x", 8, "True", `{}`)
	f = looked(t, c.env, 1, append(inspect, shellImage, "--limit", "10s", "--bring", "always", "--nodes", "k1,ghost1,full1,other1,cordoned1,none1")...)
	check(t, f, map[string]fleet.TroubleCode{"k1": "", "ghost1": fleet.TimedOut, "full1": fleet.Unreachable, "other1": fleet.Architecture, "cordoned1": fleet.TimedOut, "none1": fleet.Unreachable})

	// A signal ends the look and removes the pods.
	look := exec.Command(inspect[0], append(inspect[1:], berthImage, "--nodes", "k1,ghost1", "--limit", "1h")...)
	var out bytes.Buffer
	look.Env, look.Stdout, look.Stderr = c.env, &out, os.Stderr
	if err := look.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there are pods", func() bool { return strings.Count(c.left(t), "pod/") == 2 })
	time.Sleep(3 * time.Second)
	look.Process.Signal(syscall.SIGINT)
	look.Wait()
	if code := look.ProcessState.ExitCode(); code != 130 || !strings.Contains(out.String(), "1 of 2 nodes answered") || !strings.Contains(out.String(), "not-asked") {
		t.Errorf("after a signal: status %d\n%s", code, out.String())
	}
	if left := c.left(t); left != "" {
		t.Errorf("%s is left", left)
	}

	// A pod that has CPU 1 to itself leaves the others of its node the reserved one.
	c.apply(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"own"},"spec":{"nodeName":"k1","terminationGracePeriodSeconds":1,"containers":[
{"name":"own","image":"`+shellImage+`","command":["sleep","600"],"resources":{"limits":{"cpu":"1","memory":"32Mi"}}}]}}`)
	eventually(t, "the pod has its CPU", func() bool { own, _ := k1.exclusive(t); return len(own) == 1 })
	f = looked(t, c.env, 0, append(inspect, berthImage, "--nodes", "k[1-2]")...)
	check(t, f, map[string]fleet.TroubleCode{"k1": "", "k2": ""})
	for _, n := range f.Nodes {
		want := map[string]string{"k1": "0", "k2": "0-1"}[n.Name]
		if got := f.Shapes[n.Shape-1].Inspect.Topology.Allowed.String(); got != want {
			t.Errorf("%s may use %s, want %s", n.Name, got, want)
		}
	}
	c.kubectl(t, "delete", "pod", "own")
	// A container's own limit is seen from within it.
	c.apply(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"half"},"spec":{"nodeName":"k1","restartPolicy":"Never","containers":[
{"name":"half","image":"`+berthImage+`","command":["berth","nproc","--exact"],"resources":{"limits":{"cpu":"500m"}}}]}}`)
	eventually(t, "the pod has counted", func() bool { out, _, _ := run(t, c.env, "kubectl", "logs", "half"); return out == "0.5\n" })
	c.kubectl(t, "delete", "pod", "half")
}

// The manifests that a plan for nodes of many shapes becomes, before the real
// scheduler: each pod is on a node of its shape, and one that has no room waits
// and says why.
func TestKubernetesSchedules(t *testing.T) {
	c := startKubernetes(t)
	berth := built(t)
	dir := t.TempDir()
	shapes := []struct {
		nodes, machine string
		cpus           int
	}{
		{"a1 a2 a3", "package:2 numa:1(memory=64GiB) l3:2 core:4 pu:2", 32},
		{"b1 b2", "package:1 numa:1(memory=64GiB) core:8 pu:2", 16},
		{"c1 small1", "package:1 numa:1(memory=64GiB) core:4 pu:1", 4},
	}
	want := map[string]bool{}
	for _, s := range shapes {
		machine, said, status := run(t, c.env, berth, "inspect", "--synthetic", s.machine, "-o", "json")
		if status != 0 {
			t.Fatal(said)
		}
		for _, node := range strings.Fields(s.nodes) {
			write(t, dir, "answers/"+node+".json", machine, 0o644)
			cpus := s.cpus
			if node == "small1" { // what the kubelet gives is less than there is
				cpus--
			}
			c.post(t, node, "amd64", cpus, "True", `{}`)
			want[node] = true
		}
	}
	c.post(t, "stranger1", "amd64", 64, "True", `{}`)
	profile := write(t, dir, "work.yaml", "schema: berth.profile/v1\nname: work\nmodel: processes\nwork: {kind: float}\nlimits: {memory_per_worker_mib: 100}\n", 0o644)
	manifest, said, status := run(t, c.env, berth, "fleet", "advise", profile, "--from", filepath.Join(dir, "answers"), "--emit", "kubernetes")
	if status != 0 {
		t.Fatalf("status %d\n%s", status, said)
	}
	c.apply(t, strings.ReplaceAll(manifest, "image: IMAGE # yours", "image: "+shellImage))
	// A pod's own affinity names its node; spec.nodeName is the scheduler's word.
	type bound struct{ app, cpus string }
	placed := map[string]bound{}
	eventually(t, "all pods but one are placed", func() bool {
		clear(placed)
		out, _, _ := run(t, c.env, "kubectl", "get", "pods", "-o", `jsonpath={range .items[*]}{.metadata.labels.app} {.spec.containers[0].resources.requests.cpu} {.spec.nodeName}{"\n"}{end}`)
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) == 3 {
				placed[f[2]] = bound{f[0], f[1]}
			}
		}
		return len(placed) == len(want)-1
	})
	for i, s := range shapes {
		for _, node := range strings.Fields(s.nodes) {
			p, ok := placed[node]
			if node == "small1" {
				if ok {
					t.Errorf("%s has taken %+v", node, p)
				}
				continue
			}
			if others := strings.Fields(shapes[(i+1)%len(shapes)].nodes); !ok || p.app == placed[others[0]].app || p != placed[strings.Fields(s.nodes)[0]] {
				t.Errorf("%s: %+v of %v", node, p, placed)
			}
		}
	}
	why := c.kubectl(t, "get", "pods", "--field-selector=spec.nodeName=", "-o", `jsonpath={range .items[*]}{.status.conditions[?(@.type=="PodScheduled")].message}{"\n"}{end}`)
	if strings.Count(why, "\n") != 1 || !strings.Contains(why, "1 Insufficient cpu") {
		t.Errorf("the one that waits says %q", why)
	}
	t.Logf("placed: %v; one waits: %s", placed, why)
}
