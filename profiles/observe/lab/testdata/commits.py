"""commits.py DIR: transactions that SQLite writes through to the disk. Prints
each second which share of its time it was not on a CPU."""
import sqlite3
import sys
import time

db = sqlite3.connect(sys.argv[1] + "/commits.db", isolation_level=None)
db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v TEXT)")
last, wall, cpu = time.monotonic(), time.monotonic(), time.process_time()
while True:
    db.execute("INSERT INTO t (v) VALUES (?)", ("x" * 200,))
    if time.monotonic() - last > 1:
        last = time.monotonic()
        print("waited %.3f" % (1 - (time.process_time() - cpu) / (last - wall)), flush=True)
