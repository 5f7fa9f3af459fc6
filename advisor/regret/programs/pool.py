"""Programs of CPython's threads or processes: pool.py KIND N.

Each worker counts what it has done in its own cell of the file COUNTER, 64
bytes apart, until the program is ended. SERVICE is the port of the slow service,
DATA a directory for databases.
"""

import hashlib
import mmap
import multiprocessing
import os
import signal
import socket
import sqlite3
import struct
import sys
import threading
import zlib

CELLS, CELL = 256, 64


def python(ms):
    """Computes for about that long, all of it Python."""
    x = 1
    for _ in range(int(ms * 5500)):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
    return x


def service():
    s = socket.create_connection(("127.0.0.1", int(os.environ["SERVICE"])))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def wait(ms):
        s.sendall(struct.pack("=I", int(ms * 1000)))
        if not s.recv(1):
            sys.exit("the service is gone")

    return wait


def fetch(compute_ms, wait_ms):
    def worker(_):
        wait = service()

        def item():
            wait(wait_ms)
            python(compute_ms)

        return item

    return worker


def pure(_):
    return lambda: python(1)


def native(_):
    data = os.urandom(1 << 19) + bytes(1 << 19)

    def item():
        hashlib.sha256(data).digest()
        zlib.crc32(data)
        zlib.compress(data[: 1 << 17], 1)
        python(0.1)

    return item


def database(name):
    db = sqlite3.connect(os.path.join(os.environ["DATA"], name), timeout=600, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, text TEXT)")

    def item():
        db.execute("BEGIN IMMEDIATE")
        for _ in range(5):
            db.execute("INSERT INTO log (text) VALUES (?)", ("x" * 200,))
        db.execute("COMMIT")

    return item


def own(worker):
    return database(f"{worker}.db")


def shared(_):
    return database("all.db")


KINDS = {
    "fetch": (threading.Thread, fetch(1, 20)),
    "fetch-heavy": (threading.Thread, fetch(3, 5)),
    "pure": (threading.Thread, pure),
    "native": (threading.Thread, native),
    "processes": (multiprocessing.Process, pure),
    "processes-fetch": (multiprocessing.Process, fetch(2, 20)),
    "sqlite-own": (multiprocessing.Process, own),
    "sqlite-shared": (multiprocessing.Process, shared),
}


def work(worker, make, cells):
    item, mine, parent = make(worker), worker * CELL // 8, os.getppid()
    while os.getppid() == parent:  # a killed pool takes its processes along
        item()
        cells[mine] += 1


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in KINDS or not 0 < int(sys.argv[2]) <= CELLS:
        sys.exit(f"usage: pool.py {'|'.join(KINDS)} N, N at most {CELLS}")
    carrier, make = KINDS[sys.argv[1]]
    if "COUNTER" in os.environ:
        with open(os.environ["COUNTER"], "r+b") as f:
            memory = mmap.mmap(f.fileno(), CELLS * CELL)
    else:
        memory = mmap.mmap(-1, CELLS * CELL)
    cells = memoryview(memory).cast("Q")
    for worker in range(int(sys.argv[2])):
        carrier(target=work, args=(worker, make, cells), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
