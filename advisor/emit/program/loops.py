import asyncio
import multiprocessing
import os

# The libraries below Python read it when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "@BELOW@")

PROCESSES = @PROCESSES@  # a loop in each
IN_FLIGHT = @IN_FLIGHT@  # tasks at a time, in all loops together
# The CPUs of each process; empty: not pinned.
SEATS = @SEATS@


async def work(item):
    """One task. Put yours here, and await all that it waits for."""
    await asyncio.sleep(0.01)
    return item * item


async def loop(items, at_a_time):
    """At most so many tasks exist at a time, however many items there are."""
    items = iter(items)
    results = []

    async def worker():
        for item in items:
            results.append(await work(item))

    await asyncio.gather(*(worker() for _ in range(at_a_time)))
    return results


def process(n, items):
    if SEATS:
        os.sched_setaffinity(0, SEATS[n])
    return asyncio.run(loop(items, IN_FLIGHT // PROCESSES + (n < IN_FLIGHT % PROCESSES)))


def main(items):
    """Return the results, in the order in which the tasks of each loop end."""
    missing = set().union(*SEATS) - os.sched_getaffinity(0)
    if missing:
        raise RuntimeError(f"CPUs {sorted(missing)} of the plan are not allowed here")
    items = list(items)
    shares = [(n, items[n::PROCESSES]) for n in range(PROCESSES)]
    with multiprocessing.Pool(PROCESSES, maxtasksperchild=1) as pool:
        return [result for share in pool.starmap(process, shares, chunksize=1) for result in share]


if __name__ == "__main__":
    for result in main(range(100)):
        print(result)
