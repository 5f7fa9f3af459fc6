import multiprocessing
import os

# The libraries below Python read it when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "@BELOW@")

PROCESSES = @PROCESSES@
# The CPUs of each process; empty: not pinned.
SEATS = @SEATS@


def work(item):
    """One task. Put yours here."""
    return item * item


def sit(started):
    """Give each new process the next seat; one that replaces a dead one gets all of them."""
    if not SEATS:
        return
    with started.get_lock():
        worker, started.value = started.value, started.value + 1
    os.sched_setaffinity(0, SEATS[worker] if worker < len(SEATS) else set().union(*SEATS))


def main(items):
    """Yield results as tasks end."""
    missing = set().union(*SEATS) - os.sched_getaffinity(0)
    if missing:
        raise RuntimeError(f"CPUs {sorted(missing)} of the plan are not allowed here")
    started = multiprocessing.Value("i", 0)
    with multiprocessing.Pool(PROCESSES, sit, (started,)) as pool:
        yield from pool.imap_unordered(work, items)


if __name__ == "__main__":
    for result in main(range(100)):
        print(result)
