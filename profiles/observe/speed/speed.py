"""Runs the two on programs of its own: see run, beside this file."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time

BERTH = sys.argv[1]
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = int(os.environ.get("SECONDS_EACH", "30"))

THREADS = """
import sys, threading, time
n, pause = int(sys.argv[1]), float(sys.argv[2])
threading.stack_size(65536)
def work():
    while True:
        time.sleep(pause)
for _ in range(n):
    threading.Thread(target=work, daemon=True).start()
print("ready", flush=True)
time.sleep(1e6)
"""

# Two threads that compute a little and wait, one that waits for long.
COMMON = """
import threading, time
def work():
    while True:
        sum(range(20000))
        time.sleep(0.002)
for f in (work, work, lambda: time.sleep(1e6)):
    threading.Thread(target=f, daemon=True).start()
print("ready", flush=True)
time.sleep(1e6)
"""


def cost(command):
    """CPU seconds of a command with all that it starts, and what it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, out


def middle(xs):
    return f"{statistics.median(xs):.3f} s [{min(xs):.3f}, {max(xs):.3f}]"


def watch(title, peer, program, *args):
    process = subprocess.Popen([sys.executable, "-c", program, *args], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        time.sleep(1)
        pid, berth, pidstat, rate, told = str(process.pid), [], [], [], []
        for _ in range(ROUNDS):
            used, out = cost([BERTH, "observe", "--pid", pid, "--for", f"{SECONDS}s", "-o", "json"])
            seen = json.loads(out)
            berth.append(used)
            rate.append(seen["samples"] / seen["duration_s"])
            told.append(seen["overhead_pct"])
            if peer:
                pidstat.append(cost(["pidstat", "-t", "-u", "-w", "-p", pid, "1", str(SECONDS)])[0])
    finally:
        process.kill()
        process.wait()
    print(title)
    print(f"  berth observe          {middle(berth)}, {100 * statistics.median(berth) / SECONDS:.2f} % of a CPU,"
          f" {statistics.median(rate):.1f} samples a second; by its own account {statistics.median(told):.2f} %")
    if peer:
        print(f"  pidstat -t -u -w 1     {middle(pidstat)}, {100 * statistics.median(pidstat) / SECONDS:.2f} % of a CPU")
        print(f"  berth / pidstat        {statistics.median(berth) / statistics.median(pidstat):.2f}")
    sys.stdout.flush()


print(f"CPU time, user and system, of the whole command: medians of {ROUNDS} runs of {SECONDS} s each, and [least, most]")
watch("1,000 threads that sleep", True, THREADS, "1000", "1e6")
watch("1,000 threads that wake twice a second", True, THREADS, "1000", "0.5")
watch("a process of four threads, two of which work", False, COMMON)
