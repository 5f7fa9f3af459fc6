"""Try advised counts of Python pools against half and double.

Each pool is first measured on one worker, as berth observe would; the advice
follows from those figures alone. Then pools of each count run in turn, in an
order that changes from round to round. The best count is chosen in the odd
rounds and read in the even ones, so that a lucky run does not count as the best.
"""

import argparse
import hashlib
import json
import math
import multiprocessing
import random
import statistics
import subprocess
import threading
import time

BLOCK = bytes(200_000)  # hashlib releases the GIL above 2047 bytes


def python(loops):
    x = 0
    for i in range(loops):
        x += i * i
    return x


def native(blocks):
    for _ in range(blocks):
        hashlib.sha256(BLOCK).digest()


# What one task of each pool does: Python, then native code, then a wait of this
# mean, exponentially distributed.
POOLS = {
    "blocking, native work": {"loops": 1_500, "blocks": 12, "wait_ms": 36.0},
    "blocking, Python work": {"loops": 60_000, "blocks": 0, "wait_ms": 36.0},
    "GIL-bound": {"loops": 150_000, "blocks": 0, "wait_ms": 0.0},
}


def task(pool, rng):
    python(pool["loops"])
    native(pool["blocks"])
    if pool["wait_ms"]:
        time.sleep(rng.expovariate(1000 / pool["wait_ms"]))


def process(pool, threads, seconds, ready, counts, seed):
    """Run tasks on some threads; count those that end in the time measured."""
    done = [0] * threads
    over = threading.Event()

    def thread(n):
        rng = random.Random(seed * 10_007 + n)
        while not over.is_set():
            task(pool, rng)
            done[n] += 1

    workers = [threading.Thread(target=thread, args=(n,), daemon=True) for n in range(threads)]
    for w in workers:
        w.start()
    ready.wait()
    time.sleep(0.5)  # warm up
    before, start = sum(done), time.monotonic()
    time.sleep(seconds)
    counts.put((sum(done) - before) / (time.monotonic() - start))
    over.set()
    for w in workers:
        w.join()


def throughput(pool, processes, threads, seconds, seed=0):
    ready = multiprocessing.Barrier(processes)
    counts = multiprocessing.SimpleQueue()
    all_ = [
        multiprocessing.Process(target=process, args=(pool, threads, seconds, ready, counts, seed * 101 + n))
        for n in range(processes)
    ]
    for p in all_:
        p.start()
    total = sum(counts.get() for _ in all_)
    for p in all_:
        p.join()
    return total


def alone(pool, seconds):
    """CPU and native milliseconds of a task on one worker, and its busy share."""
    rng = random.Random(1)
    task(pool, rng)
    start, cpu, n = time.monotonic(), time.process_time(), 0
    while time.monotonic() - start < seconds:
        task(pool, rng)
        n += 1
    wall, used = time.monotonic() - start, time.process_time() - cpu
    # The native share by itself: what runs it, runs nothing else.
    spent = time.process_time()
    for _ in range(20):
        native(pool["blocks"])
    return 1000 * used / n, 1000 * (time.process_time() - spent) / 20, 1000 * (wall - used) / n, used / wall


def profile(name, pool, seconds):
    cpu, in_native, wait, busy = alone(pool, seconds)
    if pool["wait_ms"] == 0:
        wait = 0  # the rest of the machine, not the task
    return "\n".join([
        "schema: berth.profile/v1",
        f"name: {name}",
        "runtime: python",
        "work:",
        f"  kind: {'service' if wait else 'integer'}",
        f"  cpu_ms: {cpu:.4f}",
        f"  native_ms: {min(in_native, cpu):.4f}",
        f"  wait_ms: {wait:.4f}",
        f"measured: {{seconds: {seconds}, utilisation: {min(busy, 1):.3f}, confidence: 0.9}}",
        "",
    ]), cpu, in_native, wait


def middle(xs):
    """The median and the interval of it that holds with at least 95 %, by ranks."""
    xs, n = sorted(xs), len(xs)
    low = 0
    while low + 1 < n / 2 and 2 * sum(math.comb(n, k) for k in range(low + 2)) / 2**n <= 0.05:
        low += 1
    return statistics.median(xs), xs[low], xs[n - 1 - low]


def steal():
    with open("/proc/stat") as f:
        fields = [int(x) for x in f.readline().split()[1:9]]
    return fields[7], sum(fields)


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("berth")
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seconds", type=float, default=3)
    o = options.parse_args()
    stolen, ticks = steal()
    for name, pool in POOLS.items():
        text, cpu, in_native, wait = profile(name, pool, 4)
        plan = json.loads(subprocess.run([o.berth, "advise", "-", "-o", "json"], input=text, capture_output=True, text=True, check=True).stdout)
        processes, threads = plan["workers"]["processes"], plan["workers"]["threads_per_process"]
        if wait:
            counts = {"half": (processes, max(1, threads // 2)), "advised": (processes, threads), "double": (processes, 2 * threads)}
        else:
            counts = {"half": (max(1, processes // 2), 1), "advised": (processes, threads), "double": (2 * processes, 1)}
        seen = {label: [] for label in counts}
        for r in range(o.rounds):
            order = list(counts.items())
            random.Random(r).shuffle(order)
            for label, (p, t) in order:
                seen[label].append(throughput(pool, p, t, o.seconds, seed=r))
        print(f"{name}: {cpu:.2f} ms on the CPU, {in_native:.2f} of them native, {wait:.2f} ms of wait; bound by {plan['binding']['name']}")
        best = max(seen, key=lambda label: statistics.median(seen[label][1::2]))
        top = statistics.median(seen[best][0::2])
        for label, (p, t) in counts.items():
            m, low, high = middle(seen[label])
            share = statistics.median(seen[label][0::2]) / top
            print(f"  {label:8} {p:3} × {t:<4} {m:8.1f} tasks/s  [{low:.1f}, {high:.1f}]  {100 * share:6.1f} % of the best")
    now, all_ticks = steal()
    print(f"{o.rounds} rounds of {o.seconds:g} s each; steal {100 * (now - stolen) / (all_ticks - ticks):.1f} %")


if __name__ == "__main__":
    main()
