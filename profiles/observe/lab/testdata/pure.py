"""pure.py THREADS [json] [idle]: threads of Python that never let go of the
interpreter by themselves; idle: beside two that wait for an event and a timer."""
import json
import sys
import threading
import time


def count():
    n = 0
    while True:
        n = (n * 31 + 7) % 1000003


def parse():
    text = json.dumps([{"key": i, "value": [i] * 20} for i in range(200)])
    while True:
        json.loads(text)


if "idle" in sys.argv:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
work = parse if "json" in sys.argv else count
for _ in range(int(sys.argv[1]) - 1):
    threading.Thread(target=work, daemon=True).start()
work()
