package emit

import (
	"regexp"
	"strings"
	"testing"

	"berth/advisor"
)

// sparkKeys are the properties that Spark's documentation has, of those that
// berth sets, with what it takes for each: docs/configuration.md of
// apache/spark, and spark.executor.instances in docs/running-on-yarn.md.
// There is no Spark here to ask.
var sparkKeys = map[string]string{
	"spark.executor.instances":        `\d+`,
	"spark.executor.cores":            `\d+`,
	"spark.cores.max":                 `\d+`,
	"spark.task.cpus":                 `[1-9]\d*`,
	"spark.executorEnv.[Name]":        `.*`,
	"spark.executor.extraJavaOptions": `-XX:\S+( -XX:\S+)*`, // no Spark property, and no -Xmx
	"spark.dynamicAllocation.enabled": `true|false`,
	"spark.executor.memory":           `[1-9]\d*[kmgt]`,
	"spark.executor.memoryOverhead":   `[1-9]\d*[kmgt]`,
}

var sparkVariable = regexp.MustCompile(`^spark\.executorEnv\.[A-Za-z_][A-Za-z0-9_]*$`)

func checkSpark(t *testing.T, text string) {
	t.Helper()
	seen := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, " ") // as java.util.Properties has it: white space ends a key
		value = strings.TrimSpace(value)
		if _, again := seen[key]; !ok || again {
			t.Errorf("%q has no value, or is set twice", line)
		}
		seen[key] = value
		if sparkVariable.MatchString(key) {
			key = "spark.executorEnv.[Name]"
		}
		if form, ok := sparkKeys[key]; !ok {
			t.Errorf("Spark has no property %s", key)
		} else if !regexp.MustCompile("^(" + form + ")$").MatchString(value) {
			t.Errorf("%s takes no %q", key, value)
		}
	}
	for _, key := range []string{"spark.executor.instances", "spark.executor.cores", "spark.cores.max", "spark.task.cpus"} {
		if seen[key] == "" {
			t.Errorf("%s is not set in\n%s", key, text)
		}
	}
}

// Properties, of one machine and of a fleet, are those that Spark documents.
func TestSparkProperties(t *testing.T) {
	forRandom(t, func(t *testing.T, target Target, _ *advisor.Plan, s Settings) {
		if target.Name() == "spark" {
			checkSpark(t, s.Text)
		}
	})
	for _, parts := range fleets() {
		var nodes []Nodes
		for _, p := range parts {
			nodes = append(nodes, Nodes{Names: strings.Fields(p.names), Folded: p.folded, Plan: p.plan.advise(t)})
		}
		checkSpark(t, sparkFleet{}.EmitFleet(nodes).Text)
	}
}
