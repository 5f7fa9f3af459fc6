import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

# The libraries below Python read it when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "@BELOW@")

THREADS = @THREADS@
# The CPUs of each thread, or of all of them; empty: not pinned.
SEATS = @SEATS@


def work(item):
    """One task. Put yours here."""
    return item * item


def sit(started, lock):
    """Give each thread the next seat: to the kernel, process 0 is the calling thread."""
    with lock:
        worker = next(started)
    if SEATS:
        os.sched_setaffinity(0, SEATS[worker % len(SEATS)])


def main(items):
    """Yield results in the order of the items."""
    missing = set().union(*SEATS) - os.sched_getaffinity(0)
    if missing:
        raise RuntimeError(f"CPUs {sorted(missing)} of the plan are not allowed here")
    with ThreadPoolExecutor(THREADS, initializer=sit, initargs=(itertools.count(), threading.Lock())) as pool:
        yield from pool.map(work, items)


if __name__ == "__main__":
    for result in main(range(100)):
        print(result)
