"""The parts of the speed table that start programs: see run, beside this file."""

import math
import os
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


def on_cpu(pid):
    """Nanoseconds that a process's own threads have run."""
    total = 0
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/schedstat") as f:
            total += int(f.read().split()[0])
    return total


def share(watcher, beside=None):
    """The share of a CPU that a watcher uses while threads are watched."""
    other = subprocess.Popen(beside) if beside else None
    time.sleep(0.5)
    process = subprocess.Popen(watcher, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    before, start = on_cpu(process.pid), time.monotonic()
    time.sleep(SECONDS)
    out = (on_cpu(process.pid) - before) / 1e9 / (time.monotonic() - start)
    for p in (process, other):
        if p:
            p.kill()
            p.wait()
    return 100 * out


def watching(threads):
    program = [sys.executable, "-c", THREADS, str(threads), str(SECONDS + 4)]
    receipt, pidstat = [], []
    for _ in range(5):
        receipt.append(share([BERTH, "run", "--receipt=/dev/null", "--"] + program))
        pidstat.append(share(["pidstat", "-t", "-u", "-w", "1"], program))
    m, low, high = middle(receipt)
    p, plow, phigh = middle(pidstat)
    print(f"  {threads:5} threads: receipt {m:6.2f} % of a CPU [{low:.2f}, {high:.2f}]"
          f"   pidstat -t -u -w 1 {p:6.2f} % [{plow:.2f}, {phigh:.2f}]   {m / p:.2f}")


compare("starting true", {
    "an empty Go program that execs it": [GO_TRUE],
    "berth run -c 0 -- true": [BERTH, "run", "-c", "0", "--", "true"],
    "taskset -c 0 true": ["taskset", "-c", "0", "true"],
    "numactl --physcpubind=0 true": ["numactl", "--physcpubind=0", "true"],
    "true": ["/bin/true"],
})
print()
print("watching threads")
watching(8)
watching(1000)
