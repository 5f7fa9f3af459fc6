//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"berth/advisor/doctor"
	"berth/affinity"
	"berth/probe/cpuset"
)

func doctorExample(found ...doctor.Finding) *doctorDocument {
	if found == nil {
		found = []doctor.Finding{}
	}
	return &doctorDocument{Schema: doctorSchema, MeasuredAt: time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC), IntervalS: 3.002,
		LookedAt: doctorLooked{Processes: 143, Threads: 512, Busy: 9, CPUs: 8}, Verdict: affinity.Measured, Findings: found}
}

func doctorExamples() map[string]*doctorDocument {
	cpu := cpuset.CPU(3)
	note := doctor.Finding{Code: doctor.SMTOff, Severity: doctor.Info, Subject: doctor.Subject{Path: "/sys/devices/system/cpu/smt/control"},
		Message: "SMT is switched off: each core runs one thread.", Evidence: []string{"/sys/devices/system/cpu/smt/control is off"}, Fix: "echo on > /sys/devices/system/cpu/smt/control"}
	return map[string]*doctorDocument{
		"none":  doctorExample(),
		"notes": doctorExample(note),
		"unwell": doctorExample(
			doctor.Finding{Code: doctor.Steal, Severity: doctor.Error, Message: "The host gave 14.2 % of the time of the busy CPUs to others: ask for dedicated CPUs, or for a host with room.",
				Evidence: []string{"CPU 0: 14 % of its time", "CPU 1: 14.4 % of its time"}},
			doctor.Finding{Code: doctor.Throttled, Severity: doctor.Warning, Subject: doctor.Subject{PID: 4711, Process: "python3", Path: "/kubepods/pod-a"},
				Message:  "The CPU quota of /kubepods/pod-a stopped python3 (4711) for part of the time: all its threads stand still until the next period.",
				Evidence: []string{"stopped in 28 of about 30 periods, for 5.61s in all, summed over CPUs", "cpu.max of /kubepods/pod-a allows the time of 2 CPUs (/sys/fs/cgroup/kubepods/pod-a/cpu.max); its threads have work for 4 CPUs"},
				Fix:      "echo 400000 100000 > /sys/fs/cgroup/kubepods/pod-a/cpu.max"},
			doctor.Finding{Code: doctor.PinnedPile, Severity: doctor.Warning, Subject: doctor.Subject{PID: 4800, Process: "worker", CPU: &cpu},
				Message: "3 threads pinned to CPU 3 want 3 CPUs there, and wait for each other.", Evidence: []string{"thread 4800 (worker) of worker (4800): on the CPU for 33 % of the time, waited for 67 %"}, Fix: "taskset -acp 0-7 4800"},
			note),
	}
}

func TestDoctorView(t *testing.T) {
	for name, d := range doctorExamples() {
		for _, width := range [...]int{60, 100} {
			var b bytes.Buffer
			out := bufio.NewWriter(&b)
			doctorView(&page{w: out, screen: screen{width: width}}, d)
			out.Flush()
			golden(t, fmt.Sprintf("doctor-%s.%d.txt", name, width), b.String())
		}
	}
}

func TestDoctorSchema(t *testing.T) {
	schema := compiledSchemas(t)[doctorSchema]
	if schema == nil {
		t.Fatal("there is no schema of that name")
	}
	for name, d := range doctorExamples() {
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
