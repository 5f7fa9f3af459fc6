"""Workers that share a work: threads, processes, or tasks in one thread.

trial() lets some of them do a work and counts what they do in a window of time.
Only the standard library is used, as of Python 3.7.
"""

import asyncio
import gc
import hashlib
import mmap
import multiprocessing
import os
import resource
import select
import socket
import sys
import threading
import traceback
import zlib
from math import inf
from time import monotonic, thread_time

# Processes are forked, never spawned, except where the cost of spawning is the
# question: a fork has all functions of this file at hand, which a spawned
# process would have to import, and works the same in all versions. A fork is
# sound only while there are no other threads, so processes come first.
FORK = multiprocessing.get_context("fork")

session = os.getpid()  # the process that reads commands
parent = os.getppid()  # whose end this process must not outlive


def fork(action):
    """Do something in a child, which ends with it whatever happens; the child's number."""
    global parent
    me = os.getpid()
    child = os.fork()
    if child != 0:
        return child
    try:
        parent = me
        action()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def leave_if_orphaned():
    if os.getppid() != parent:
        os._exit(1)


def has_gil():
    """Tell whether the GIL is on now, whatever the build could do."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


# ---- Memory ----------------------------------------------------------------


def field(path, name):
    """A number of KiB from one of the /proc files that have names before colons."""
    with open(path) as lines:
        for line in lines:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(path + " has no " + name)


def memory(children=()):
    """Bytes of memory that the session, this process and its children take.

    Only memory that is in no file counts; libraries are shared with programs
    that come and go. The proportional set size counts a page that k processes
    share as 1/k in each, so that the sum over all of them counts it once.
    Before Linux 5.4 there is only the resident set size, in which a page counts
    in full in every process that has it since a fork.
    """
    pids = {session, os.getpid(), *children}
    try:
        return sum(field("/proc/%d/smaps_rollup" % pid, "Pss_Anon") for pid in pids)
    except OSError:
        return sum(field("/proc/%d/status" % pid, "RssAnon") for pid in pids)


def address_space():
    """Bytes of addresses that this process has reserved, used or not."""
    return field("/proc/self/status", "VmSize")


def memory_at_rest():
    """What memory() is before workers come."""
    gc.collect()
    return memory()


# ---- Work: what one turn does ----------------------------------------------
#
# A turn returns the CPU seconds that it spent without the GIL.

BLOCK = bytes(range(256)) * 512  # 128 KiB


def count():
    """Work in pure Python, which needs the GIL all the time."""
    x = 1
    for _ in range(1000):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
    return 0.0


def press():
    """Work in C, which releases the GIL for as long as it takes."""
    before = thread_time()
    hashlib.sha256(zlib.compress(BLOCK, 1) + BLOCK).digest()
    return thread_time() - before


def connect(server):
    """Connect to the slow server, which greets those whom it has accepted."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if sock.fileno() + 16 > resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
            raise OSError("too many open files: the last are kept for other uses")
        sock.connect(server)  # without a time-out, which would not wait in the queue
        sock.settimeout(5)
        if sock.recv(1) != b"\n":
            raise ConnectionError("the slow server did not greet")
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock


def asker(server):
    """A turn that asks the slow server and waits for its answer."""
    sock = connect(server)

    def ask():
        before = thread_time()
        sock.sendall(b"\n")
        answer = sock.recv(1)
        spent = thread_time() - before
        if not answer:
            raise ConnectionError("the slow server has gone")
        return spent

    return ask


def turn_of(work, server):
    if work == "blocking-io":
        return asker(server)
    return {"cpu": count, "native": press}[work]


# ---- Trials: how much of a work some workers do ----------------------------


class Gate:
    """Holds any number of threads and processes, and lets them all go at once.

    They read from a pipe that nobody writes to. It ends when its last writer
    closes it: that opens the gate, and so does the writer's death.
    """

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def wait(self):
        os.read(self.reader, 1)

    def open(self):
        os.close(self.writer)


class Board:
    """Memory that threads and processes share: the window, and a row for each worker."""

    UNITS, CPU, OUTSIDE, VOLUNTARY, INVOLUNTARY, DONE = range(6)

    def __init__(self, workers):
        self.cells = memoryview(mmap.mmap(-1, (2 + 6 * workers) * 8)).cast("d")
        self.set_window(inf, inf)  # workers warm up until it is known

    def set_window(self, start, stop):
        # In this order: who reads a new start then reads the stop that goes with it.
        self.cells[1] = stop
        self.cells[0] = start

    def window(self):
        return self.cells[0], self.cells[1]

    def write(self, worker, row):
        for column, value in enumerate(row):
            self.cells[2 + 6 * worker + column] = value

    def rows(self):
        rows = [self.cells[i : i + 6].tolist() for i in range(2, len(self.cells), 6)]
        return [row for row in rows if row[self.DONE]]


class Tally:
    """Counts the turns that a worker makes in the window, parts of them at its edges too."""

    def __init__(self, board, worker, own_thread=True):
        self.board, self.worker, self.own_thread = board, worker, own_thread
        self.start = self.stop = inf
        self.units = self.outside = 0.0
        self.first = self.last = monotonic()
        self.before = self.account()

    def turned(self, outside):
        """Note the end of a turn; false when the window is over."""
        now, last = monotonic(), self.last
        self.last = now
        leave_if_orphaned()
        if self.start == inf:
            self.start, self.stop = self.board.window()
        if now <= self.start:
            self.before, self.first = self.account(), now
            return True
        self.units += max(0.0, min(now, self.stop) - max(last, self.start)) / max(now - last, 1e-9)
        self.outside += outside
        return now < self.stop

    def account(self):
        use = resource.getrusage(resource.RUSAGE_THREAD)
        return thread_time(), use.ru_nvcsw, use.ru_nivcsw

    def close(self):
        """Write down what was done in the window."""
        cpu, voluntary, involuntary = (b - a for a, b in zip(self.before, self.account()))
        # What was used since the last turn before the window, less what is outside.
        inside = max(0.0, min(self.last, self.stop) - max(self.first, self.start))
        scale = inside / max(self.last - self.first, 1e-9)
        row = [self.units, 0.0, self.outside * scale, 0.0, 0.0, 1.0]
        if self.own_thread:  # of tasks in one thread only one accounts for it
            row[1], row[3], row[4] = cpu * scale, voluntary * scale, involuntary * scale
        self.board.write(self.worker, row)


def trial(work, carrier, workers, window, server, delay, switch_interval=0):
    """Let workers of a carrier do a work, and count what they do in a window of seconds."""
    if switch_interval:
        sys.setswitchinterval(switch_interval)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    board = Board(workers)

    def set_window():  # when all are at work
        start = monotonic() + max(0.1, 2 * delay)
        board.set_window(start, start + window)

    if carrier == "async":
        added, wrong = asyncio.run(tasks_trial(work, workers, server, board, set_window))
    else:
        added, wrong = crew_trial(carrier == "processes", workers, lambda: turn_of(work, server), board, set_window)
    rows = board.rows()
    if not rows:
        raise RuntimeError("none of %d workers could be had: %s" % (workers, first_of(wrong)))
    columns = list(zip(*rows))
    cpu, outside = sum(columns[Board.CPU]), sum(columns[Board.OUTSIDE])
    return {
        "workers": len(rows),
        "window": window,
        "units": columns[Board.UNITS],
        "cpu": cpu,
        # The GIL is held by a thread that computes and is not in a call that
        # releases it. Each process has a GIL.
        "held": max(0.0, cpu - outside) / window / (len(rows) if carrier == "processes" else 1) if has_gil() else None,
        "memory": max(0, added) / len(rows),
        "voluntary": sum(columns[Board.VOLUNTARY]),
        "involuntary": sum(columns[Board.INVOLUNTARY]),
    }


def first_of(errors):
    return next((str(e) for e in errors), "the reason is printed above")


def crew_trial(processes, workers, prepare, board, set_window):
    """A trial of threads or processes: the bytes of memory added, and what went wrong."""
    start, end = Gate(), Gate()
    told, tell = os.pipe()
    wrong = []

    def worker(me):
        try:
            turn = prepare()
            os.write(tell, b"r")
            start.wait()
            turn()
            os.write(tell, b"b")
            tally = Tally(board, me)
            while tally.turned(turn()):
                pass
            tally.close()
            os.write(tell, b"d")
            end.wait()
        except Exception as error:
            wrong.append(error)  # a thread's; a process's goes to stderr
            if processes:
                traceback.print_exc()
            os.write(tell, b"f")

    def child(me):
        for fd in (start.writer, end.writer, told):
            os.close(fd)  # the gates' only writer is the parent
        worker(me)

    before = memory_at_rest()
    children = []
    started = 0
    for me in range(workers):
        try:
            if processes:
                children.append(fork(lambda: child(me)))
            else:
                threading.Thread(target=worker, args=(me,), daemon=True).start()
        except (RuntimeError, OSError) as error:  # no more can be had
            wrong.append(error)
            break
        started += 1
    if processes:
        os.close(tell)  # so that reading ends if all of them die
    ready = hear(told, b"rf", started, 60).count(b"r")
    start.open()
    hear(told, b"bf", ready, 5)  # of many, some may have to wait long for the GIL
    set_window()
    if hear(told, b"df", ready, board.window()[1] - monotonic() + 60).count(b"d") < ready:
        raise RuntimeError("a worker failed in the middle of its work: %s" % first_of(wrong))
    added = memory(children) - before
    end.open()
    for pid in children:
        os.waitpid(pid, 0)
    return added, wrong


def hear(pipe, letters, count, seconds):
    """Read so many of some letters, one from each worker.

    They are fewer if the time is up or all workers are gone. Others are passed over.
    """
    heard = b""
    deadline = monotonic() + seconds
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while len(heard) < count and monotonic() < deadline:
        leave_if_orphaned()
        if poll.poll(200):
            some = os.read(pipe, count - len(heard))
            if not some:
                break
            heard += bytes(letter for letter in some if letter in letters)
    return heard


async def tasks_trial(work, workers, server, board, set_window):
    """A trial of tasks in one thread: the bytes of memory added, and what went wrong."""
    start, end, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    begun = finished = 0

    async def worker(me, turn):
        nonlocal begun, finished
        await start.wait()
        await turn()
        begun += 1
        if begun == len(tasks):
            set_window()
        tally = Tally(board, me, own_thread=me == 0)
        while tally.turned(await turn()):
            pass
        tally.close()
        finished += 1
        if finished == len(tasks):
            done.set()
        await end.wait()

    wrong = []
    tasks = []
    before = memory_at_rest()
    for me in range(workers):
        try:
            turn = await awaited(work, server)
        except OSError as error:  # no more connections can be had
            wrong.append(error)
            break
        tasks.append(asyncio.ensure_future(worker(me, turn)))
    if not tasks:
        return 0, wrong
    start.set()
    all_done = asyncio.ensure_future(done.wait())
    await asyncio.wait([all_done, *tasks], return_when=asyncio.FIRST_COMPLETED)
    if not all_done.done():
        wrong += [task.exception() for task in tasks if task.done()]
        raise RuntimeError("a task failed in the middle of its work: %s" % first_of(wrong))
    added = memory() - before
    end.set()
    await asyncio.gather(*tasks)
    return added, wrong


async def awaited(work, server):
    """A turn as a coroutine, which lets other tasks go on."""
    if work == "async-io":
        reader, writer = await asyncio.open_connection(sock=connect(server))

        async def ask():
            writer.write(b"\n")
            if not await reader.read(1):
                raise ConnectionError("the slow server has gone")
            return 0.0

        return ask
    turn = turn_of(work, server)

    async def and_yield():
        outside = turn()  # nobody else goes on meanwhile, not even where it waits
        await asyncio.sleep(0)
        return outside

    return and_yield
