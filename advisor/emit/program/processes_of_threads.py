import multiprocessing
import os
import pickle
import queue
import threading

# The libraries below Python read it when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "@BELOW@")

PROCESSES = @PROCESSES@
THREADS = @THREADS@  # in each process
# The CPUs of each process; empty: not pinned.
SEATS = @SEATS@


def work(item):
    """One task. Put yours here."""
    return item * item


def thread(tasks, results):
    for task in iter(tasks.get, None):
        (item,) = task
        try:
            results.put(pickle.dumps((item, work(item), None)))
        except Exception as error:  # the other tasks go on
            results.put(pickle.dumps((item, None, repr(error))))


def process(worker, tasks, results):
    if SEATS:
        os.sched_setaffinity(0, SEATS[worker])
    threads = [threading.Thread(target=thread, args=(tasks, results)) for _ in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def next_result(results, workers):
    while True:
        try:
            return pickle.loads(results.get(timeout=1))
        except queue.Empty:
            died = [w.exitcode for w in workers if w.exitcode]
            if died:
                raise RuntimeError(f"workers died, with their tasks: exit codes {died}") from None


def main(items):
    """Yield (item, result, error) as tasks end."""
    missing = set().union(*SEATS) - os.sched_getaffinity(0)
    if missing:
        raise RuntimeError(f"CPUs {sorted(missing)} of the plan are not allowed here")
    tasks = multiprocessing.Queue()
    results = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=process, args=(n, tasks, results), daemon=True) for n in range(PROCESSES)]
    for w in workers:
        w.start()
    waiting = 0
    for item in items:
        tasks.put((item,))
        waiting += 1
    for _ in range(PROCESSES * THREADS):
        tasks.put(None)
    for _ in range(waiting):
        yield next_result(results, workers)
    for w in workers:
        w.join()


if __name__ == "__main__":
    for item, result, error in main(range(100)):
        print(error or result)
