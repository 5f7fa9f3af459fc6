"""What is often said of Python's threads, processes and tasks, put to the test.

Each function looks at one claim and returns raw numbers; berth judges them.
"""

import asyncio
import multiprocessing
import multiprocessing.pool
import os
import statistics
import sys
import threading
import time
from time import monotonic

from workers import FORK, Gate, address_space, count, hear, memory, memory_at_rest


def seconds_of(action, times=1):
    """How long an action takes: the median of some times."""
    taken = []
    for _ in range(times):
        began = monotonic()
        action()
        taken.append(monotonic() - began)
    return statistics.median(taken)


def holders(threads, seconds, switch_interval=0, most=20000):
    """Which thread had the GIL from when on, as the threads themselves noticed.

    All spin. Each looks whether it was the last one to look; if not, the GIL
    has just come to it from another one.
    """
    if switch_interval:
        sys.setswitchinterval(switch_interval)
    start = Gate()
    over = False
    last = None
    seen = []
    missing = set(range(threads))
    deadline = 0.0

    def spin(me):
        nonlocal last, over, deadline
        start.wait()
        while not over:
            if last != me:
                last = me
                now = monotonic()
                seen.append((time.monotonic_ns(), me))
                if missing:
                    missing.discard(me)
                    deadline = now + seconds
                # Without a GIL they do not take turns, and so soon have enough.
                over = over or len(seen) >= most or now > deadline

    crew = [threading.Thread(target=spin, args=(me,), daemon=True) for me in range(threads)]
    for thread in crew:
        thread.start()
    start.open()
    # Waiting here does not need the GIL; looking at the clock now and then would.
    crew[0].join(seconds + 10)
    over = True
    for thread in crew:
        thread.join()
    return {"seen": seen[:most]}


total = 0


class Account:
    balance = 0


def same(x):
    return x


def add_plainly(account, times):
    global total
    for _ in range(times):
        total += 1


def add_with_call(account, times):
    global total
    for _ in range(times):
        total = same(total) + 1


def add_to_attribute(account, times):
    for _ in range(times):
        account.balance = account.balance + 1


def lost_updates(threads, iterations, seconds):
    """Add to one number from several threads, each way for at most some seconds."""
    global total
    sys.setswitchinterval(1e-6)  # many chances for the GIL to change hands
    ways = [
        ("total += 1", add_plainly),
        ("total = f(total) + 1", add_with_call),
        ("object.total = object.total + 1", add_to_attribute),
    ]
    results = []
    for how, add in ways:
        total, account = 0, Account()
        start = Gate()
        done = [0] * threads
        deadline = monotonic() + seconds

        def work(me):
            start.wait()
            while done[me] < iterations and monotonic() < deadline:
                times = min(1000, iterations - done[me])
                add(account, times)
                done[me] += times

        crew = [threading.Thread(target=work, args=(me,), daemon=True) for me in range(threads)]
        for thread in crew:
            thread.start()
        start.open()
        for thread in crew:
            thread.join()
        results.append({"how": how, "expected": sum(done), "got": total + account.balance})
    return {"ways": results}


def blocked_loop(block, tasks):
    """How long tasks that tick every 5 ms are held up, by one that takes `block` seconds."""

    async def awaits():
        await asyncio.sleep(block)

    async def blocks():
        time.sleep(block)

    async def hands_over():
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, block)

    async def longest(other):
        stalls = [0.0] * tasks

        async def tick(me):
            last = monotonic()
            while not over:
                await asyncio.sleep(0.005)
                now = monotonic()
                stalls[me] = max(stalls[me], now - last)
                last = now

        over = False
        ticking = [asyncio.ensure_future(tick(me)) for me in range(tasks)]
        await asyncio.sleep(0.05)
        await other()
        await asyncio.sleep(0.05)
        over = True
        await asyncio.gather(*ticking)
        return stalls

    blocked = asyncio.run(longest(blocks))
    return {
        "awaited": max(asyncio.run(longest(awaits))),
        "blocked": max(blocked),
        "in_thread": max(asyncio.run(longest(hands_over))),
        "stalled": sum(stall >= block for stall in blocked),
    }


def waiters(carrier, count):
    """The memory that threads or tasks add which do nothing but sleep."""
    forever = 3600
    before, reserved = memory_at_rest(), address_space()
    wrong = ""
    if carrier == "threads":
        told, tell = os.pipe()

        def wait():
            os.write(tell, b"r")
            time.sleep(forever)

        had = 0
        for _ in range(count):
            try:
                threading.Thread(target=wait, daemon=True).start()
            except (RuntimeError, MemoryError) as error:
                wrong = str(error)
                break
            had += 1
        hear(told, b"r", had, 60)
        added, addresses = memory() - before, address_space() - reserved
    else:
        had = count

        async def wait_all():
            tasks = [asyncio.ensure_future(asyncio.sleep(forever)) for _ in range(count)]
            await asyncio.sleep(0)
            seen = memory(), address_space()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            return seen

        after, addresses = asyncio.run(wait_all())
        added, addresses = after - before, addresses - reserved
    if not had:
        raise RuntimeError("no thread could be had: " + wrong)
    return {"had": had, "memory": max(0, added) / had, "virtual": max(0, addresses) / had}


def start_cost(carrier):
    """The seconds from asking for a worker to its first instruction, and the bytes that it adds."""
    if carrier == "processes":
        costs = [process_cost("fork", 8), process_cost("spawn", 4)]
    elif carrier == "threads":
        costs = [thread_cost(64)]
    else:
        costs = [asyncio.run(task_cost(1000))]
    keys = ("method", "runs", "start", "memory")
    return {"costs": [dict(zip(keys, cost)) for cost in costs]}


def thread_cost(runs):
    times = []
    end = Gate()

    def run():
        times.append(monotonic() - asked)
        end.wait()

    before = memory_at_rest()
    for started in range(runs):
        asked = monotonic()
        threading.Thread(target=run, daemon=True).start()
        while len(times) <= started:
            time.sleep(0)
    added = memory() - before
    end.open()
    return "thread", runs, statistics.median(times), max(0, added) / runs


async def task_cost(runs):
    times = []
    end = asyncio.Event()

    async def run():
        times.append(monotonic() - asked)
        await end.wait()

    before = memory_at_rest()
    tasks = []
    for _ in range(runs):
        asked = monotonic()
        tasks.append(asyncio.ensure_future(run()))
        await asyncio.sleep(0)
    added = memory() - before
    end.set()
    await asyncio.gather(*tasks)
    return "task", runs, statistics.median(times), max(0, added) / runs


def process_cost(method, runs):
    # exec, since a spawned process knows the standard library only.
    arrive = "import time; theirs.close(); mine.send(time.monotonic()); mine.poll(None)"
    context = multiprocessing.get_context(method)
    before = memory_at_rest()
    times, ends, processes = [], [], []
    for _ in range(runs):
        here, there = context.Pipe()
        ends += [here, there]  # kept open: closing one lets its process go
        process = context.Process(target=exec, args=(arrive, {"theirs": here, "mine": there}))
        asked = monotonic()
        process.start()
        times.append(here.recv() - asked)
        processes.append(process)
    added = memory([p.pid for p in processes]) - before
    for end in ends:
        end.close()
    for process in reversed(processes):  # an older one's pipe is open in the younger
        process.join()
    return method, runs, statistics.median(times), max(0, added) / runs


def shared_memory():
    """Whether this process sees what a process, and what a thread of it, has written."""
    seen = {}
    for name, make in ("process", FORK.Process), ("thread", threading.Thread):
        box = []
        writer = make(target=box.append, args=(1,))
        writer.start()
        writer.join()
        seen[name] = box == [1]
    return seen


def pieces(numbers, parts):
    """Cut a list or a range into so many pieces of about the same length."""
    cuts = [len(numbers) * i // parts for i in range(parts + 1)]
    return [numbers[a:b] for a, b in zip(cuts, cuts[1:])]


def hold_and_sum(own, other, piece):
    """A process that makes its numbers itself, and adds them up when asked."""
    other.close()
    numbers = list(piece)
    own.send(len(numbers))
    try:
        while True:
            own.recv()
            own.send(sum(numbers))
    except EOFError:
        pass


def pool_sum(elements, processes):
    """The seconds that the sum of a list takes: here, by a pool that is sent it, where it lies."""
    pipes, holding = [], []
    for piece in pieces(range(elements), processes):
        here, there = FORK.Pipe()
        holding.append(FORK.Process(target=hold_and_sum, args=(there, here, piece)))
        holding[-1].start()
        there.close()
        pipes.append(here)
    for pipe in pipes:
        pipe.recv()

    def there_too():
        for pipe in pipes:
            pipe.send(0)
        sums.append(sum(pipe.recv() for pipe in pipes))

    sums = []
    held = seconds_of(there_too, 3)
    for pipe in pipes:
        pipe.close()
    for process in reversed(holding):  # an older one's pipe is open in the younger
        process.join()
    with FORK.Pool(processes) as pool:
        pool.map(same, range(processes), 1)  # all have started
        numbers = list(range(elements))
        alone = seconds_of(lambda: sums.append(sum(numbers)), 3)
        sent = seconds_of(lambda: sums.append(sum(pool.map(sum, pieces(numbers, processes), 1))), 3)
    if len(set(sums)) != 1:
        raise RuntimeError("the sums differ: %r" % sums)
    return {"alone": alone, "sent": sent, "held": held}


def count_often(times):
    for _ in range(times):
        count()


def pool_compute(processes, seconds):
    """The seconds that jobs of pure Python take: one after the other, by processes, by threads."""
    count_often(100)
    turns = max(1, int(seconds / 4 / processes / (seconds_of(lambda: count_often(100), 5) / 100)))
    jobs = [turns] * (4 * processes)
    with FORK.Pool(processes) as pool:
        pool.map(count_often, [1] * processes, 1)
        alone = seconds_of(lambda: list(map(count_often, jobs)))
        by_processes = seconds_of(lambda: pool.map(count_often, jobs, 1))
    with multiprocessing.pool.ThreadPool(processes) as pool:
        by_threads = seconds_of(lambda: pool.map(count_often, jobs, 1))
    return {"alone": alone, "processes": by_processes, "threads": by_threads}
