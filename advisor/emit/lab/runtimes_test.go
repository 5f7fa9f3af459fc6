//go:build lab

package lab

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every option is known to the JVM, and is then what was planned.
func TestJava(t *testing.T) {
	need(t, "java")
	dir := t.TempDir()
	flags := func(text string, more ...string) (string, error) {
		args := append([]string{"java", "-Xlog:gc+init", "@" + write(t, dir, "plan.args", text), "-XX:+UseG1GC", "-XX:+PrintFlagsFinal", "-XshowSettings:properties"}, more...)
		out, err := command(t, dir, append(args, "-version")...).CombinedOutput()
		return string(out), err
	}
	for _, f := range golden(t, "java") {
		out, err := flags(string(f.Data))
		if err != nil {
			t.Errorf("%s: %v\n%s", f.Name, err, out)
		}
		for _, m := range regexp.MustCompile(`(?m)^-XX:(\w+)=(\d+)$`).FindAllStringSubmatch(string(f.Data), -1) {
			if !regexp.MustCompile(` ` + m[1] + ` +:?= ` + m[2] + ` `).MatchString(out) {
				t.Errorf("%s: %s is not %s", f.Name, m[1], m[2])
			}
		}
		if processors := regexp.MustCompile(`ActiveProcessorCount=(\d+)`).FindStringSubmatch(string(f.Data))[1]; !strings.Contains(out, ", "+processors+" available") {
			t.Errorf("%s: not %s processors available", f.Name, processors)
		}
	}
	text := emitted(t, "java", planFor(t, pair, "runtime: java\nwork: {kind: float}\n"))
	if out, _ := flags(text); !strings.Contains(out, "berth.threads = 2") {
		t.Errorf("berth.threads is not there\n%s", out)
	}
	// What is written down is what this JVM chooses itself.
	for _, n := range []string{"1", "2", "4", "8", "16", "32", "64"} {
		all, err := flags("-XX:ActiveProcessorCount=" + n + "\n")
		if err != nil {
			t.Fatal(err)
		}
		profile := fmt.Sprintf("runtime: java\nload: {tasks: %s}\n", n)
		mine := emitted(t, "java", planFor(t, "core:64 pu:1", profile))
		for _, m := range regexp.MustCompile(`(?m)^-XX:(\w+)=(\d+)$`).FindAllStringSubmatch(mine, -1) {
			if !regexp.MustCompile(` ` + m[1] + ` +:?= ` + m[2] + ` `).MatchString(all) {
				t.Errorf("%s processors: the JVM does not choose %s=%s", n, m[1], m[2])
			}
		}
	}
	for _, bad := range []string{"-XX:ActiveProcessorCounts=2", "-XX:ActiveProcessorCount=two"} {
		if _, err := flags(replaced(t, text, "-XX:ActiveProcessorCount=2", bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// The program sees the processors and the carriers that were planned.
func TestJavaSees(t *testing.T) {
	need(t, "java")
	if !strings.Contains(output(t, command(t, ".", "java", "--list-modules")), "jdk.compiler@") {
		t.Skip("no JDK: run advisor/emit/lab/setup")
	}
	dir := t.TempDir()
	const program = `import java.util.concurrent.ForkJoinPool;
class Sees {
    public static void main(String[] args) {
        System.out.println(Runtime.getRuntime().availableProcessors() + " " + ForkJoinPool.getCommonPoolParallelism() + " "
            + Integer.getInteger("berth.threads") + " " + System.getProperty("jdk.virtualThreadScheduler.parallelism"));
    }
}
`
	for profile, want := range map[string]string{"runtime: java\nwork: {kind: float}\n": "2 1 2 2", "runtime: java\nload: {tasks: 1}\n": "1 1 1 1", "runtime: java\nload: {tasks: 5}\nwork: {cpu_ms: 1, wait_ms: 9}\n": "2 1 5 2"} {
		same(t, profile, output(t, command(t, dir, "java", "@"+write(t, dir, "plan.args", emitted(t, "java", planFor(t, pair, profile))), write(t, dir, "Sees.java", program))), want)
	}
	// A file of Spark's defaults is one of java.util.Properties, and read as such.
	const reads = `import java.io.*;
import java.util.*;
class Reads {
    public static void main(String[] args) throws IOException {
        for (String file : args) {
            Properties p = new Properties();
            p.load(new InputStreamReader(new FileInputStream(file), "UTF-8"));
            System.out.println(p.size() + " " + p.getProperty("spark.executor.instances") + " " + p.getProperty("spark.executor.cores") + " " + p.getProperty("spark.executor.extraJavaOptions"));
        }
    }
}
`
	args := []string{"java", write(t, dir, "Reads.java", reads)}
	var want []string
	for n, f := range golden(t, "spark") {
		args = append(args, write(t, dir, fmt.Sprint(n, ".conf"), string(f.Data)))
		lines := regexp.MustCompile(`(?m)^spark\.(\S+) +(\S+)$`).FindAllStringSubmatch(string(f.Data), -1)
		values := map[string]string{}
		for _, m := range lines {
			values[m[1]] = m[2]
		}
		want = append(want, fmt.Sprint(len(lines), " ", values["executor.instances"], " ", values["executor.cores"], " ", values["executor.extraJavaOptions"]))
	}
	same(t, "Spark's defaults", output(t, command(t, dir, args...)), want...)
}

func TestNode(t *testing.T) {
	need(t, "node", "taskset")
	dir := t.TempDir()
	for n, f := range golden(t, "node") {
		if err := quiet(t, command(t, dir, "node", "--check", write(t, dir, fmt.Sprint(n, ".cjs"), string(f.Data)))); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	if quiet(t, command(t, dir, "node", "--check", write(t, dir, "bad.cjs", "const x = [\n"))) == nil {
		t.Error("node takes anything")
	}
	twoCPUs(t)
	const program = `
const fs = require('node:fs');
const seats = new Set(fs.readdirSync('/proc/self/task').map((id) =>
  /Cpus_allowed_list:\s*(\S+)/.exec(fs.readFileSync('/proc/self/task/' + id + '/status', 'utf8'))[1]));
console.log('worker', process.env.BERTH_WORKER, 'cpus', [...seats].join(' '), 'pool', process.env.UV_THREADPOOL_SIZE, 'in flight', process.env.BERTH_IN_FLIGHT);
process.disconnect();
`
	app := write(t, dir, "app.js", program)
	may := statusOf(t, "self", "Cpus_allowed_list")
	const loops = "runtime: node\nwork: {cpu_ms: 1, wait_ms: 9, blocking: false}\nload: {arrival_per_s: 100000}\n"
	text := emitted(t, "node", planFor(t, pair, loops))
	flight := regexp.MustCompile(`BERTH_IN_FLIGHT: '(\d+)'`).FindStringSubmatch(text)[1]
	run := func(text string) string {
		return output(t, command(t, dir, "node", write(t, dir, "plan.cjs", text), app))
	}
	same(t, "loops", run(text), "worker 0 cpus 0 pool 4 in flight "+flight, "worker 1 cpus 1 pool 4 in flight "+flight)
	same(t, "the other way round", run(replaced(t, text, `\["0", "1"\]`, `["1", "0"]`)), "worker 0 cpus 1 pool 4 in flight "+flight, "worker 1 cpus 0 pool 4 in flight "+flight)
	same(t, "not pinned", run(emitted(t, "node", planFor(t, pair, loops, virtual))), "worker 0 cpus "+may+" pool 4 in flight "+flight, "worker 1 cpus "+may+" pool 4 in flight "+flight)
	for what, cmd := range map[string][]string{"no program": {"node", "plan.cjs"}, "a program that is not there": {"node", "plan.cjs", "none.js"}} {
		if exitCode(t, command(t, dir, cmd...)) == 0 {
			t.Errorf("%s is taken", what)
		}
	}
	if exitCode(t, command(t, dir, "node", write(t, dir, "wrong.cjs", replaced(t, text, `"1"\]`, `"4095"]`)), app)) == 0 {
		t.Error("a CPU that there is not is taken")
	}
}

func TestGo(t *testing.T) {
	need(t, "go")
	dir := t.TempDir()
	write(t, dir, "go.mod", "module lab\n\ngo 1.24\n")
	text := emitted(t, "go", planFor(t, pair, "runtime: go\nload: {tasks: 1}\n"))
	write(t, dir, "main.go", replaced(t, text, `for _, result`, "fmt.Println(\"procs\", runtime.GOMAXPROCS(0))\n\tfor _, result"))
	output(t, command(t, dir, "go", "vet", "."))
	want := []string{"procs 1"}
	for n := range 100 {
		want = append(want, fmt.Sprint(n*n))
	}
	cmd := command(t, dir, "go", "run", ".")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	same(t, "a pool", output(t, cmd), want...)
	write(t, dir, "main.go", replaced(t, text, "package main", "package"))
	if exitCode(t, command(t, dir, "go", "vet", ".")) == 0 {
		t.Error("go takes anything")
	}
}
