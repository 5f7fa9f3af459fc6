"""The table of peers: see run, beside this file."""

import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys

BERTH, PINGPONG = sys.argv[1:3]
ROUNDS = int(os.environ.get("ROUNDS", "7"))
TIME = os.environ.get("TIME", "8s")  # of each run of berth


def middle(xs):
    xs, n = sorted(xs), len(xs)
    low = 0
    while low + 1 < n / 2 and 2 * sum(math.comb(n, k) for k in range(low + 2)) / 2**n <= 0.05:
        low += 1
    return statistics.median(xs), xs[low], xs[n - 1 - low]


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout + done.stderr


def berth(kind, *flags):
    return json.loads(subprocess.run([BERTH, "experiment", kind, "--time", TIME, "-o", "json", *flags],
                                     capture_output=True, text=True, check=True).stdout)


def compare(title, unit, ways):
    """Runs each way in turn, and prints each beside the first."""
    values = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in list(ways.items()):
            try:
                values[name].append(way())
            except (KeyError, TypeError):  # too disturbed in this run to have the figure
                continue
            except (RuntimeError, OSError, AttributeError) as e:
                print(f"  {name}: left out ({e})")
                ways.pop(name)
                values.pop(name)
    print(title)
    base = None
    for name, xs in values.items():
        if not xs:
            print(f"  {name:44} no undisturbed figure")
            continue
        m, low, high = middle(xs)
        base = base or m
        print(f"  {name:44} {m:9.2f} {unit}  [{low:.2f}, {high:.2f}]   {base / m:.3f}")
    print()


allowed = sorted(os.sched_getaffinity(0))
a, b = allowed[0], allowed[-1]
pair = f"{a},{b}"

if a != b:
    compare("a cache line, one way", "ns", {
        "berth experiment latency": lambda: berth("latency", "--cpus", pair)["ns"][0][1],
        "C, seq_cst": lambda: float(output(PINGPONG, str(a), str(b), "1000000")),
    })


def perf_pipe(cpus, *flags):
    return lambda: float(re.search(r"([\d.]+)\s+usecs/op",
                                   output("taskset", "-c", cpus, "perf", "bench", "sched", "pipe", "-l", "200000", *flags)).group(1))


def twice(field):
    return lambda: 2 * berth("switch", "--cpus", pair)[field]["median"]


compare("a round trip between threads on one CPU", "µs",
        {"berth experiment switch, twice pinned_us": twice("pinned_us"), "perf bench sched pipe -T": perf_pipe(str(a), "-T")})
compare("a round trip between processes on one CPU", "µs",
        {"berth experiment switch, twice process_…": twice("process_pinned_us"), "perf bench sched pipe": perf_pipe(str(a))})


def bandwidth(kernel, threads):
    def way():
        for row in berth("memory", "--cpus", ",".join(map(str, allowed[:threads])))["bandwidth"]:
            if row["kernel"] == kernel and row["threads"] == threads and row["local"]:
                return row["gbs"]["median"]
        raise KeyError(kernel)
    return way


def likwid(kernel, threads):
    def way():
        text = output("likwid-bench", "-t", kernel, "-w", f"S0:1GB:{threads}", "-s", "1")
        return float(re.search(r"MByte/s:\s+([\d.]+)", text).group(1)) / 1e3
    return way


if shutil.which("likwid-bench"):
    has = set(re.findall(r"^(\w+) - ", output("likwid-bench", "-a"), re.M))
    for threads in sorted({1, len(allowed)}):
        for kernel, peers in {
            "read": ("load_avx512", "load_avx", "load_sse"),
            "copy": ("copy_mem_avx512", "copy_mem_avx", "copy_mem_sse"),
            "triad": ("stream_mem_avx512", "stream_mem_avx_fma", "stream_mem_sse"),
        }.items():
            ways = {f"berth experiment memory, {kernel}": bandwidth(kernel, threads)}
            ways.update({f"likwid-bench {p}": likwid(p, threads) for p in peers if p in has})
            compare(f"{kernel} by {threads} (above 1: the peer is slower)", "GB/s",
                    {k: (lambda f=f: f()) for k, f in ways.items()})


def berth_scaling():
    for run in berth("modes", "--kernels", "float", "--carrier", "processes", "--over", "2")["runs"]:
        if run["mode"] == "parallel":
            return run["relative_to_alone"]["median"]
    raise KeyError("parallel")


def stress_scaling():
    def rate(n, cpus):
        text = output("taskset", "-c", cpus, "stress-ng", "--matrix", str(n), "-t", "2s", "--metrics-brief")
        return float(re.search(r"matrix\s+\d+\s+[\d.]+\s+[\d.]+\s+[\d.]+\s+([\d.]+)", text).group(1))
    return rate(len(allowed), ",".join(map(str, allowed))) / rate(1, str(a))


if len(allowed) > 1:
    compare(f"throughput of {len(allowed)} workers, relative to one", "times", {
        "berth experiment modes, float, parallel": berth_scaling,
        "stress-ng --matrix": stress_scaling,
    })
