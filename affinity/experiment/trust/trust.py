"""Quiet runs beside each other and beside noisy ones: see run, beside this file."""

import itertools
import json
import os
import signal
import subprocess
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the loops below end too
BERTH = sys.argv[1]
QUIET, NOISY = int(os.environ.get("QUIET", "5")), int(os.environ.get("NOISY", "20"))
TIME = os.environ.get("TIME", "10s")
KINDS = os.environ.get("KINDS", "modes latency switch memory gil study").split()


def values(node, at=""):
    """All measured values of a report, by where they stand."""
    if isinstance(node, dict):
        if {"median", "low", "high", "runs"} <= node.keys():
            yield at, node
            return
        name = [str(node[k]) for k in ("mode", "work", "kernel", "means", "carrier", "seats", "threads", "workers",
                                       "size_bytes", "switch_interval_ms", "working_set_bytes", "id") if k in node]
        for k, v in node.items():
            yield from values(v, f"{at}/{','.join(name)}.{k}")
    elif isinstance(node, list):
        for v in node:
            yield from values(v, at)


def run(kind):
    done = subprocess.run([BERTH, "experiment", kind, "--time", TIME, "-o", "json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"experiment {kind}: {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def answers(kind, report):
    """What a reader takes home: not each counter beside it."""
    if kind == "study":
        return {c["id"]: c["verdict"] for c in report["claims"]}
    skip = ("switches_per_s", "least_share", "clock_ghz", "memory_per_worker_bytes", "gil_held_pct", "time_slice", "derived")
    found = {k: v for k, v in values(report) if not any(s in k for s in skip) and v["runs"] >= 6}
    if kind == "latency":
        n = len(report["cpus"])
        for i, j in itertools.combinations(range(n), 2):
            if report["ns"][i][j] is not None:
                found[f"{i}-{j}"] = {"median": report["ns"][i][j], "low": report["low"][i][j], "high": report["high"][i][j], "runs": 6}
    return found


def agree(a, b):
    if isinstance(a, str):
        return a == b or "inconclusive" in (a, b)
    return a["low"] <= b["high"] and b["low"] <= a["high"]


quiet = {}
for kind in KINDS:
    reports = [run(kind) for _ in range(QUIET)]
    quiet[kind] = [answers(kind, r) for r in reports]
    same = total = 0
    apart = {}
    for x, y in itertools.combinations(quiet[kind], 2):
        for k in x.keys() & y.keys():
            total += 1
            if agree(x[k], y[k]):
                same += 1
            else:
                apart[k] = apart.get(k, 0) + 1
    worst = ", ".join(f"{k} {n}×" for k, n in sorted(apart.items(), key=lambda i: -i[1])[:3])
    verdicts = " ".join(r["verdict"] for r in reports)
    print(f"quiet {kind}: {same} of {total} pairs of answers agree within their intervals; verdicts: {verdicts}; apart: {worst or 'none'}", flush=True)

good = inconclusive = 0
for i in range(NOISY):
    kind = KINDS[i % len(KINDS)]
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2)]
    try:
        report = run(kind)
    finally:
        for p in loops:
            p.kill()
            p.wait()
    if kind != "study" and report["verdict"] == "inconclusive":
        inconclusive += 1
        good += 1
        continue
    wrong = [k for k, v in answers(kind, report).items()
             if not any(k in q and agree(q[k], v) for q in quiet[kind]) and any(k in q for q in quiet[kind])]
    if wrong:
        print(f"beside two busy loops {kind} was wrong of {', '.join(wrong)}")
    else:
        good += 1
print(f"beside two busy loops: {good} of {NOISY} runs were right; {inconclusive} of them said inconclusive")
