"""The parts of the speed table that start programs: see run, beside this file."""

import math
import os
import resource
import statistics
import subprocess
import sys
import time

BERTH, GO_TRUE = sys.argv[1:3]
ROUNDS = int(os.environ.get("ROUNDS", "100"))
SECONDS = int(os.environ.get("SECONDS_EACH", "8"))

# Threads that wake up ten times a second and do next to nothing.
THREADS = """
import sys, threading, time
n, seconds = int(sys.argv[1]), float(sys.argv[2])
threading.stack_size(65536)
end = time.monotonic() + seconds
def work():
    while time.monotonic() < end:
        time.sleep(0.1)
all = [threading.Thread(target=work) for _ in range(n)]
for t in all: t.start()
for t in all: t.join()
"""


def middle(xs):
    xs, n = sorted(xs), len(xs)
    low = 0
    while low + 1 < n / 2 and 2 * sum(math.comb(n, k) for k in range(low + 2)) / 2**n <= 0.05:
        low += 1
    return statistics.median(xs), xs[low], xs[n - 1 - low]


def compare(title, commands):
    times = {name: [] for name in commands}
    for r in range(ROUNDS + 5):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            if r >= 5:
                times[name].append((time.perf_counter() - start) * 1e3)
    print(title)
    base = None
    for name, xs in times.items():
        m, low, high = middle(xs)
        base = base or m
        print(f"  {name:36} {m:7.2f} ms  [{low:.2f}, {high:.2f}]   {m / base:.2f}")


def used(command):
    """CPU seconds of a command, without those of the program it looks at."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def watching(threads, seconds):
    """Shares of a CPU: a receipt's, as what a run costs more with it than without, and pidstat's."""
    program = [sys.executable, "-c", THREADS, str(threads), str(seconds)]
    bare, watched, pidstat = [], [], []
    for _ in range(5):
        bare.append(used([BERTH, "run", "--"] + program) / seconds)
        watched.append(used([BERTH, "run", "--receipt=/dev/null", "--"] + program) / seconds)
        other = subprocess.Popen(program)
        time.sleep(0.5)
        pidstat.append(used(["pidstat", "-t", "-u", "-w", "-p", str(other.pid), "1", str(int(seconds) - 1)]) / (seconds - 1))
        other.wait()
    cost = [w - b for w, b in zip(watched, bare)]
    m, low, high = middle(cost)
    p, plow, phigh = middle(pidstat)
    print(f"  {threads:5} threads: receipt {100 * m:6.2f} % of a CPU [{100 * low:.2f}, {100 * high:.2f}]"
          f"   pidstat -t -u -w 1 {100 * p:6.2f} % [{100 * plow:.2f}, {100 * phigh:.2f}]   {m / p:.2f}")


compare("starting true", {
    "an empty Go program that execs it": [GO_TRUE],
    "berth run -c 0 -- true": [BERTH, "run", "-c", "0", "--", "true"],
    "taskset -c 0 true": ["taskset", "-c", "0", "true"],
    "numactl --physcpubind=0 true": ["numactl", "--physcpubind=0", "true"],
    "true": ["/bin/true"],
})
print()
print("watching threads")
watching(8, SECONDS)
watching(1000, SECONDS)
