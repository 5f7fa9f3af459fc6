import itertools
import os
from concurrent.futures import ThreadPoolExecutor

THREADS = @THREADS@
# The CPUs of each thread, or of all of them; empty: not pinned.
SEATS = @SEATS@


def work(item):
    """One task. Put yours here."""
    return item * item


def sit(started=itertools.count()):
    """Give each thread the next seat: to the kernel, process 0 is the calling thread."""
    if SEATS:
        os.sched_setaffinity(0, SEATS[next(started) % len(SEATS)])


def main(items):
    with ThreadPoolExecutor(THREADS, initializer=sit) as pool:
        yield from pool.map(work, items)


if __name__ == "__main__":
    for result in main(range(100)):
        print(result)
