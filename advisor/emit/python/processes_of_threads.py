import multiprocessing
import os
import threading

PROCESSES = @PROCESSES@
THREADS = @THREADS@  # in each process
# The CPUs of each process; empty: not pinned.
SEATS = @SEATS@


def work(item):
    """One task. Put yours here."""
    return item * item


def thread(tasks, results):
    for item in iter(tasks.get, None):
        try:
            results.put((item, work(item), None))
        except Exception as error:  # the other tasks go on
            results.put((item, None, repr(error)))


def process(worker, tasks, results):
    if SEATS:
        os.sched_setaffinity(0, SEATS[worker])
    threads = [threading.Thread(target=thread, args=(tasks, results)) for _ in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def main(items):
    """Yield (item, result, error) as tasks end."""
    tasks = multiprocessing.Queue()
    results = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=process, args=(n, tasks, results)) for n in range(PROCESSES)]
    for w in workers:
        w.start()
    waiting = 0
    for item in items:
        tasks.put(item)
        waiting += 1
    for _ in range(PROCESSES * THREADS):
        tasks.put(None)
    for _ in range(waiting):
        yield results.get()
    for w in workers:
        w.join()


if __name__ == "__main__":
    for item, result, error in main(range(100)):
        print(error or result)
