//go:build lab

package lab

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// components is the folder that kubernetes/setup keeps Kubernetes's programs
// in; a test that needs them and has not says so and skips.
func components(t *testing.T) string {
	t.Helper()
	need(t, "etcd")
	text, err := os.ReadFile("kubernetes/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "k8s.io/kubernetes v")
	version, _, _ := strings.Cut(strings.Fields(rest)[0], "\n")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "berth", "kubernetes-"+version)
	for _, program := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			t.Skipf("no cluster: %v: affinity/fleet/lab/kubernetes/setup builds it", err)
		}
	}
	t.Logf("Kubernetes %s of %s", version, dir)
	return dir
}

// kubeCluster is a control plane on loopback.
type kubeCluster struct {
	dir, programs string
	env           []string // for kubectl, which is on its PATH
}

// startKubernetes starts one. It leaves nodes alone, so that some can be posted that
// have no kubelet: no taints by their condition, no controller of their life.
func startKubernetes(t *testing.T) *kubeCluster {
	t.Helper()
	c := &kubeCluster{dir: t.TempDir(), programs: components(t)}
	p := ports(t, 5)
	url := func(scheme string, port int) string { return fmt.Sprintf("%s://127.0.0.1:%d", scheme, port) }
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	token := rand.Text()
	account := write(t, c.dir, "account.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})), 0o600)
	tokens := write(t, c.dir, "tokens.csv", token+`,lab,1,"system:masters"`+"\n", 0o600)
	config := write(t, c.dir, "kubeconfig", fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: lab,
clusters: [{name: lab, cluster: {server: "%s", insecure-skip-tls-verify: true}}],
users: [{name: lab, user: {token: %s}}], contexts: [{name: lab, context: {cluster: lab, user: lab}}]}
`, url("https", p[2]), token), 0o600)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KUBECONFIG=") && !strings.HasPrefix(v, "PATH=") {
			c.env = append(c.env, v)
		}
	}
	c.env = append(c.env, "KUBECONFIG="+config, "PATH="+c.programs+":"+os.Getenv("PATH"))
	daemon(t, c.dir, c.env, "etcd", "--data-dir="+filepath.Join(c.dir, "etcd"), "--listen-client-urls="+url("http", p[0]), "--advertise-client-urls="+url("http", p[0]),
		"--listen-peer-urls="+url("http", p[1]), "--initial-advertise-peer-urls="+url("http", p[1]), "--initial-cluster=default="+url("http", p[1]), "--unsafe-no-fsync")
	daemon(t, c.dir, c.env, filepath.Join(c.programs, "kube-apiserver"), "--etcd-servers="+url("http", p[0]), "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", p[2]), "--cert-dir="+filepath.Join(c.dir, "certificates"), "--token-auth-file="+tokens, "--authorization-mode=RBAC",
		"--disable-admission-plugins=ServiceAccount,TaintNodesByCondition", "--endpoint-reconciler-type=none", "--kubelet-preferred-address-types=InternalIP", "--service-account-issuer=https://lab.invalid",
		"--service-account-signing-key-file="+account, "--service-account-key-file="+account, "--service-cluster-ip-range=10.79.0.0/24")
	eventually(t, "the API server is ready", func() bool { out, _, _ := run(t, c.env, "kubectl", "get", "--raw", "/readyz"); return out == "ok" })
	daemon(t, c.dir, c.env, filepath.Join(c.programs, "kube-scheduler"), "--kubeconfig="+config, "--leader-elect=false", "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", p[3]))
	daemon(t, c.dir, c.env, filepath.Join(c.programs, "kube-controller-manager"), "--kubeconfig="+config, "--leader-elect=false", "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", p[4]),
		"--controllers=job-controller,daemonset-controller,garbage-collector-controller,ttl-after-finished-controller")
	eventually(t, "there is a namespace", func() bool {
		_, _, status := run(t, c.env, "kubectl", "get", "namespace", "default")
		return status == 0
	})
	return c
}

// kubectl runs one that must succeed.
func (c *kubeCluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, said, status := run(t, c.env, append([]string{"kubectl"}, args...)...)
	if status != 0 {
		t.Fatalf("kubectl %s: status %d\n%s", strings.Join(args, " "), status, said)
	}
	return out
}

// apply makes or changes objects.
func (c *kubeCluster) apply(t *testing.T, manifest string) {
	t.Helper()
	c.kubectl(t, "apply", "--validate=strict", "-f", write(t, c.dir, rand.Text(), manifest, 0o644))
}

// post makes a node that no kubelet answers for.
func (c *kubeCluster) post(t *testing.T, name, arch string, cpus int, ready, spec string) {
	t.Helper()
	c.apply(t, fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":%[1]q,"labels":{"kubernetes.io/hostname":%[1]q}},"spec":%s}`, name, spec))
	size := fmt.Sprintf(`{"cpu":"%d","memory":"64Gi","pods":"110"}`, cpus)
	c.kubectl(t, "patch", "node", name, "--subresource=status", "--type=merge", "--patch", fmt.Sprintf(
		`{"status":{"capacity":%[1]s,"allocatable":%[1]s,"nodeInfo":{"architecture":%[2]q,"operatingSystem":"linux","kubeletVersion":"v1.37.2"},"conditions":[{"type":"Ready","status":%[3]q,"reason":"Posted","message":"nobody is there"}]}}`,
		size, arch, ready))
}

// left is all that a fleet command could leave in the cluster.
func (c *kubeCluster) left(t *testing.T) string {
	t.Helper()
	return c.kubectl(t, "get", "jobs,pods", "--all-namespaces", "--output=name")
}

const (
	shellImage = "lab.invalid/shell:1" // busybox alone
	berthImage = "lab.invalid/berth:1" // berth alone
	bothImage  = "lab.invalid/both:1"
	pauseImage = "lab.invalid/pause:1"
)

// kubeImage writes an image as docker save does, of files by their path.
func kubeImage(t *testing.T, file, name string, command []string, files map[string]string) {
	t.Helper()
	pack := func(put func(*tar.Writer)) []byte {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		put(w)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	add := func(w *tar.Writer, name string, mode int64, text []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	layer := pack(func(w *tar.Writer) {
		for path, from := range files {
			if to, ok := strings.CutPrefix(from, "->"); ok {
				if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: path, Linkname: to, Mode: 0o777}); err != nil {
					t.Fatal(err)
				}
				continue
			}
			text, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			add(w, path, 0o755, text)
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp", Mode: 0o1777}); err != nil {
			t.Fatal(err)
		}
	})
	config, err := json.Marshal(map[string]any{
		"architecture": goarch(t), "os": "linux", "config": map[string]any{"Cmd": command},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	text := pack(func(w *tar.Writer) {
		add(w, "config.json", 0o644, config)
		add(w, "layer.tar", 0o644, layer)
		add(w, "manifest.json", 0o644, manifest)
	})
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

func goarch(t *testing.T) string {
	out, err := exec.Command("go", "env", "GOARCH").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

const containerdConf = `version = 2
root = "%[1]s/containerd"
state = "%[1]s/state"
[grpc]
  address = "%[1]s/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "%[1]s/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pauseImage + `"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%[1]s/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

const kubeletConf = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
address: %[2]s
healthzPort: 0
containerRuntimeEndpoint: unix://%[1]s/containerd.sock
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /%[3]s
cpuManagerPolicy: static
reservedSystemCPUs: "0"
makeIPTablesUtilChains: false
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%"}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 2s
`

// nodeBoot is the first process of a node: in mount and PID namespaces of its own,
// so that its end is that of all it has started and mounted. The kernel's
// settings that the kubelet changes are files here.
const nodeBoot = `set -eu
dir=$1 programs=$2; shift 2
mount --make-rprivate /
mount -t proc proc /proc
for f in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  cat /proc/sys/$f >"$dir/setting"
  cp "$dir/setting" "$dir/$(echo $f | tr / -)"
  mount --bind "$dir/$(echo $f | tr / -)" /proc/sys/$f
done
for f in run var/log var/lib; do
  mkdir -p "$dir/system/$f"
  mount --bind "$dir/system/$f" "/$f"
done
containerd --config "$dir/containerd.toml" >"$dir/containerd.log" 2>&1 &
for i in $(seq 100); do ctr -a "$dir/containerd.sock" version >/dev/null 2>&1 && break; sleep 0.1; done
for image in "$dir"/*.tar; do ctr -a "$dir/containerd.sock" -n k8s.io image import "$image" >/dev/null; done
"$programs/kubelet" "$@" &
wait
`

// startNode starts a kubelet with the static CPU manager, CPU 0 reserved, on a
// container runtime and an address of its own: the number-th of the cluster.
// What is returned kills it, as a power cut does.
func (c *kubeCluster) startNode(t *testing.T, name string, number int, images string) (n *kubeletNode) {
	t.Helper()
	need(t, "containerd", "ctr", "runc", "ip")
	dir := t.TempDir()
	bridge, address := fmt.Sprintf("berthlab%d", number), fmt.Sprintf("10.78.%d.1", number)
	shell := func(text string) {
		t.Helper()
		if out, err := exec.Command("sh", "-c", text).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", text, err, out)
		}
	}
	group := fmt.Sprintf("berth-lab-%d-%d", os.Getpid(), number)
	t.Cleanup(func() {
		eventually(t, "the node's groups are gone", func() bool {
			out, _ := exec.Command("sh", "-c", "find /sys/fs/cgroup -depth -type d -path '*/"+group+"*' -exec rmdir {} + 2>/dev/null; find /sys/fs/cgroup -type d -name "+group).Output()
			return len(bytes.TrimSpace(out)) == 0
		})
	})
	shell(fmt.Sprintf(`for h in /sys/fs/cgroup /sys/fs/cgroup/*/; do [ -e $h/cgroup.procs ] && mkdir $h/%[1]s; done
c=/sys/fs/cgroup/cpuset/%[1]s; [ ! -e $c ] || for f in cpuset.cpus cpuset.mems; do cat /sys/fs/cgroup/cpuset/$f >$c/$f; done`, group))
	t.Cleanup(func() { exec.Command("ip", "link", "delete", bridge).Run() })
	shell(fmt.Sprintf("ip link add %s type bridge && ip addr add %s/24 dev %[1]s && ip link set %[1]s up", bridge, address))
	write(t, dir, "containerd.toml", fmt.Sprintf(containerdConf, dir), 0o644)
	write(t, dir, "cni/lab.conflist", fmt.Sprintf(`{"cniVersion":"0.4.0","name":"lab","plugins":[{"type":"bridge","bridge":%q,"ipam":{"type":"host-local","subnet":"10.78.%d.0/24","rangeStart":"10.78.%[2]d.10","dataDir":"%s/ipam"}}]}`, bridge, number, dir), 0o644)
	config := write(t, dir, "kubelet.yaml", fmt.Sprintf(kubeletConf, dir, address, group), 0o644)
	all, _ := filepath.Glob(filepath.Join(images, "*.tar"))
	for _, name := range all {
		if err := os.Link(name, filepath.Join(dir, filepath.Base(name))); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(dir, "kubelet.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	node := exec.Command("sh", "-c", nodeBoot, "boot", dir, c.programs, "--config="+config, "--kubeconfig="+filepath.Join(c.dir, "kubeconfig"),
		"--root-dir="+filepath.Join(dir, "kubelet"), "--cert-dir="+filepath.Join(dir, "certificates"), "--hostname-override="+name, "--node-ip="+address)
	node.Env, node.Stdout, node.Stderr = c.env, log, log
	node.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	n = &kubeletNode{dir, func() { node.Process.Kill() }}
	t.Cleanup(func() {
		n.kill()
		node.Wait()
		for _, name := range []string{"containerd.log", "kubelet.log"} {
			if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil && t.Failed() {
				t.Logf("%s:\n%s", name, text[max(0, len(text)-4000):])
			}
		}
	})
	begun := time.Now()
	eventually(t, name+" is ready", func() bool {
		out, _, _ := run(t, c.env, "kubectl", "get", "node", name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.spec.taints}`)
		return out == "True "
	})
	t.Logf("%s is ready after %.1f s", name, time.Since(begun).Seconds())
	return n
}

// kubeletNode is a node with a kubelet.
type kubeletNode struct {
	dir  string
	kill func()
}

// exclusive is what the kubelet's CPU manager says of CPUs that pods have to
// themselves, and of those that all others share.
func (n *kubeletNode) exclusive(t *testing.T) (own map[string]map[string]string, shared string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.dir, "kubelet", "cpu_manager_state"))
	if err != nil {
		t.Fatal(err)
	}
	var state struct {
		DefaultCPUSet string
		Entries       map[string]map[string]string
	}
	if err := json.Unmarshal(text, &state); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return state.Entries, state.DefaultCPUSet
}
