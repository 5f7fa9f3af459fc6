"""The Python side of `berth experiment gil` and `berth experiment study`.

Berth runs this in the interpreter that it looks at, and commands it by lines of
JSON; each is answered by one line. You can do so by hand:

    echo '{"do": "shared_memory"}' | python3 workload.py

Each command is carried out in a process of its own, forked for it, so that none
meets what another left in memory or in the interpreter's settings.
"""

import json
import os
import sys
import traceback

from claims import (
    blocked_loop,
    holders,
    lost_updates,
    pool_compute,
    pool_sum,
    shared_memory,
    start_cost,
    waiters,
)
from workers import fork, has_gil, trial

COMMANDS = (
    trial,
    holders,
    lost_updates,
    blocked_loop,
    waiters,
    start_cost,
    shared_memory,
    pool_sum,
    pool_compute,
)


def reply(out, **answer):
    line = memoryview((json.dumps(answer, allow_nan=False) + "\n").encode())
    while line:
        line = line[os.write(out, line) :]


def carry_out(line, out):
    """Carry out one command, in a process made for it."""
    try:
        command = json.loads(line.decode())
        name = command.pop("do")
        answer = {f.__name__: f for f in COMMANDS}[name](**command)
    except Exception as error:
        traceback.print_exc()
        reply(out, error="%s: %s" % (type(error).__name__, error))
    else:
        reply(out, ok=answer)


def main():
    # What anything else prints must not mix with the answers.
    out = os.dup(1)
    os.dup2(2, 1)
    reply(out, ok={"gil": has_gil()})
    for line in sys.stdin.buffer:
        if line == b"null\n":  # asks whether the process of the last command is gone
            reply(out, ok=True)
            continue
        child = fork(lambda: carry_out(line, out))
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            reply(out, error="the process of the command was ended by signal %d" % os.WTERMSIG(status))
        elif status != 0:
            reply(out, error="the process of the command ended with status %d" % os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
