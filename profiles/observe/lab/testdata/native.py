"""native.py THREADS sha|zlib: threads in native code that lets go of the
interpreter: a megabyte at a time."""
import hashlib
import os
import sys
import threading
import zlib

data = os.urandom(1 << 20)


def work():
    while True:
        if sys.argv[2] == "sha":
            hashlib.sha256(data).digest()
        else:
            zlib.compress(data, 6)


for _ in range(int(sys.argv[1]) - 1):
    threading.Thread(target=work, daemon=True).start()
work()
