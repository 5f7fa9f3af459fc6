"""phases.py PORT PATH S: computes for S seconds, then asks an HTTP server for S
seconds, in turns. Prints when each begins."""
import http.client
import sys
import time

length = float(sys.argv[3])
while True:
    print("computes", time.time(), flush=True)
    end = time.monotonic() + length
    n = 0
    while time.monotonic() < end:
        n += 1
    print("waits", time.time(), flush=True)
    end = time.monotonic() + length
    server = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    while time.monotonic() < end:
        server.request("GET", sys.argv[2])
        server.getresponse().read()
    server.close()
