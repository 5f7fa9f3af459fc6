"""client.py PORT PATH THREADS [COMPUTE_MS]: threads that ask an HTTP server and
wait for the answer, each computing before that. Prints each second which share
of their time they waited."""
import http.client
import sys
import threading
import time

port, path, n = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
compute = float(sys.argv[4]) / 1000 if len(sys.argv) > 4 else 0
waited, computed = [0.0] * n, [0.0] * n


def work(i):
    server = http.client.HTTPConnection("127.0.0.1", port)
    while True:
        start = time.thread_time()
        while time.thread_time() - start < compute:
            pass
        wall, cpu = time.monotonic(), time.thread_time()
        server.request("GET", path)
        server.getresponse().read()
        asked = time.thread_time() - cpu
        waited[i] += time.monotonic() - wall - asked
        computed[i] += time.thread_time() - start


for i in range(n):
    threading.Thread(target=work, args=(i,), daemon=True).start()
while True:
    time.sleep(1)
    print("waited %.3f" % (sum(waited) / max(1e-9, sum(waited) + sum(computed))), flush=True)
