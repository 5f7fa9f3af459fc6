package topology_test

import (
	"fmt"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

func id(n int) *int { return &n }

// hybrid is a package of two plain cores, a cluster of two and a plain core,
// given out of order, with the second sibling of core 0-1 offline.
func hybrid() *topology.Topology {
	return &topology.Topology{
		Online:    cpuset.Of(0, 2, 3, 4, 5),
		Packages:  []topology.Package{{ID: id(7), CPUs: cpuset.Of(0, 2, 3, 4, 5)}},
		Clusters:  []topology.Group{{ID: id(9), CPUs: cpuset.Range(3, 4)}},
		Cores:     []topology.Core{{CPUs: cpuset.Of(5)}, {CPUs: cpuset.Of(4)}, {CPUs: cpuset.Of(0)}, {CPUs: cpuset.Of(3)}, {CPUs: cpuset.Of(2)}},
		NUMANodes: []topology.NUMA{{ID: 1}, {ID: 0, CPUs: cpuset.Range(0, 5)}},
		CoreKinds: []topology.Kind{{Name: "performance", CPUs: cpuset.Of(0, 2, 5)}, {Name: "efficiency", CPUs: cpuset.Range(3, 4)}},
		Caches: []topology.Cache{{Level: 2, Type: topology.Unified, CPUs: cpuset.Of(0)}, {Level: 1, Type: topology.Instruction, CPUs: cpuset.Of(0)},
			{Level: 1, Type: topology.Data, CPUs: cpuset.Of(2)}, {Level: 1, Type: topology.Data, CPUs: cpuset.Of(0)}},
	}
}

func TestArrange(t *testing.T) {
	top := hybrid()
	top.Arrange()
	got := ""
	for _, c := range top.Cores {
		cluster := "-"
		if c.Cluster != nil {
			cluster = fmt.Sprint(*c.Cluster)
		}
		got += fmt.Sprintf("%d:%s package %d node %d cluster %s %s; ", c.Index, c.CPUs, *c.Package, *c.NUMANode, cluster, c.Kind)
	}
	want := "0:0 package 7 node 0 cluster - performance; 1:2 package 7 node 0 cluster - performance; " +
		"2:3 package 7 node 0 cluster 9 efficiency; 3:4 package 7 node 0 cluster 9 efficiency; 4:5 package 7 node 0 cluster - performance; "
	if got != want {
		t.Errorf("cores\n%s\nwant\n%s", got, want)
	}
	got = ""
	for _, c := range top.Caches {
		got += fmt.Sprintf("L%d %s %s; ", c.Level, c.Type, c.CPUs)
	}
	if got != "L1 data 0; L1 data 2; L1 instruction 0; L2 unified 0; " || top.NUMANodes[0].ID != 0 {
		t.Errorf("caches %s, nodes %v", got, top.NUMANodes)
	}
	if top.SMT == nil || top.SMT.Active || top.SMT.Threads != 1 {
		t.Errorf("SMT %+v", top.SMT)
	}
	if kinds := top.CoreKinds; kinds[0].Name != "performance" || kinds[0].Threads != 1 {
		t.Errorf("kinds %+v", kinds)
	}
}

func TestScopes(t *testing.T) {
	top := hybrid()
	top.Arrange()
	scope := top.Scopes()
	for _, c := range []struct {
		cpus cpuset.Set
		want string
	}{
		{cpuset.Of(0), "core"}, {cpuset.Of(3), "core"}, {cpuset.Range(3, 4), "cluster"}, {cpuset.Of(0, 2), "part of package"},
		{top.Online, "package"}, {cpuset.Of(0, 9), "part of machine"}, {cpuset.Of(9), "part of machine"}, {cpuset.Set{}, "part of machine"},
	} {
		if got := scope(c.cpus); got != c.want {
			t.Errorf("%s: %s, want %s", c.cpus, got, c.want)
		}
	}
}

// Nothing at all, and objects that lie outside the online CPUs.
func TestArrangeEmpty(t *testing.T) {
	(&topology.Topology{}).Arrange()
	top := topology.Topology{Online: cpuset.Of(0), Cores: []topology.Core{{CPUs: cpuset.Of(0)}}, NUMANodes: []topology.NUMA{{CPUs: cpuset.Of(8)}}}
	top.Arrange()
	if top.Cores[0].NUMANode != nil || top.Cores[0].Package != nil {
		t.Errorf("%+v", top.Cores[0])
	}
}
