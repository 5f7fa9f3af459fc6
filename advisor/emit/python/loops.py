import asyncio
import multiprocessing
import os

PROCESSES = @PROCESSES@
IN_FLIGHT = @IN_FLIGHT@  # tasks at a time in each loop
# The CPUs of each process; empty: not pinned.
SEATS = @SEATS@


async def work(item):
    """One task. Put yours here, and await all that it waits for."""
    await asyncio.sleep(0.01)
    return item * item


async def loop(items):
    """At most IN_FLIGHT tasks exist at a time, however many items there are."""
    items = iter(items)
    results = []

    async def worker():
        for item in items:
            results.append(await work(item))

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return results


def process(worker, items):
    if SEATS:
        os.sched_setaffinity(0, SEATS[worker])
    return asyncio.run(loop(items))


def main(items):
    items = list(items)
    shares = [(n, items[n::PROCESSES]) for n in range(PROCESSES)]
    if PROCESSES == 1:
        return process(*shares[0])
    with multiprocessing.Pool(PROCESSES, maxtasksperchild=1) as pool:
        return [result for share in pool.starmap(process, shares, chunksize=1) for result in share]


if __name__ == "__main__":
    for result in main(range(100)):
        print(result)
