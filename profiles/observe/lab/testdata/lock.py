"""lock.py THREADS MS: threads that each sleep while they hold the one lock.
Prints each second which share of their time went into waiting for it."""
import sys
import threading
import time

lock = threading.Lock()
n = int(sys.argv[1])
waited = [0.0] * n


def work(i):
    while True:
        start = time.monotonic()
        lock.acquire()
        waited[i] += time.monotonic() - start
        time.sleep(float(sys.argv[2]) / 1000)
        lock.release()


start = time.monotonic()
for i in range(n):
    threading.Thread(target=work, args=(i,), daemon=True).start()
while True:
    time.sleep(1)
    print("waited %.3f" % (sum(waited) / n / (time.monotonic() - start)), flush=True)
