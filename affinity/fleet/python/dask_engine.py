"""The near side of berth's engine dask: starts a berth on a worker of each node of
a Dask cluster, and hands lines to and fro. berth runs it; it reads one line of JSON
and then what the berths are to read, and writes lines of JSON.

The far side are the classes and functions up to `Near`: they go to the workers by
value, so nothing has to be installed there.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import zlib


class Run:
    """A berth beside a worker. It ends when nobody has polled it for its lease."""

    def __init__(self, worker, token, lease):
        self.worker, self.token, self.lease = worker, token, lease
        self.heard, self.folder, self.process = time.monotonic(), None, None
        self.out, self.ended, self.unpack, self.ending = bytearray(), asyncio.Event(), None, False
        self.tasks = [asyncio.ensure_future(self._watch())]

    def put(self, piece):
        """Takes a piece of the program to start, as zlib packs it."""
        self.heard = time.monotonic()
        if self.folder is None:
            self.folder = tempfile.mkdtemp(prefix="berth-", dir=self.worker.local_directory)
            self.unpack = zlib.decompressobj()
        with open(os.open(os.path.join(self.folder, "berth"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o700), "ab") as f:
            f.write(self.unpack.decompress(piece))

    async def start(self, program, arguments, cpus, reads):
        """Starts the program that is there, or was put. What it returns is why it cannot."""
        self.heard = time.monotonic()
        argv = [program or os.path.join(self.folder, "berth")] + arguments
        if set(cpus) != os.sched_getaffinity(0):  # what all workers of the node may use together
            code = "import os, sys; os.sched_setaffinity(0, map(int, sys.argv[1].split(','))); os.execv(sys.argv[2], sys.argv[2:])"
            argv = [sys.executable, "-I", "-S", "-c", code, ",".join(map(str, cpus))] + argv
        try:
            self.process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.PIPE if reads else asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT, start_new_session=True)
        except OSError as e:
            return str(e)
        self.tasks.append(asyncio.ensure_future(self._read()))
        if self.ending:  # it was to end before it had begun
            self._kill(signal.SIGKILL)

    async def _read(self):
        while True:
            text = await self.process.stdout.read(1 << 16)
            if not text:
                break
            self.out += text
            while len(self.out) > 1 << 20 and not self.ending:  # until somebody has fetched it
                await asyncio.sleep(0.02)
        await self.process.wait()
        self.ended.set()

    async def _watch(self):
        while time.monotonic() - self.heard < self.lease:
            await asyncio.sleep(1)
        await self.end(12)

    async def poll(self, text, last):
        """Hands on what the program is to read, and returns what it wrote."""
        self.heard = time.monotonic()
        try:
            if text:
                self.process.stdin.write(text)
            if last:
                self.process.stdin.close()
        except OSError:
            pass  # it reads no more
        over = self.ended.is_set()
        out = bytes(self.out)
        self.out.clear()
        return {"out": out, "status": self.process.returncode if over else None}

    async def end(self, patience):
        """Ends the program, which has so many seconds for it, and removes what was put."""
        self.ending = True
        for t in self.tasks[:1]:
            if t is not asyncio.current_task():
                t.cancel()
        if self.process is not None and not self.ended.is_set():
            self._kill(signal.SIGTERM)
            if self.process.stdin is not None:
                self.process.stdin.close()
            try:
                await asyncio.wait_for(self.ended.wait(), patience)
            except asyncio.TimeoutError:
                pass
        self._kill(signal.SIGKILL)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        runs(self.worker).pop(self.token, None)

    def _kill(self, number):
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except OSError:
                pass


def runs(worker):
    return worker.__dict__.setdefault("_berth_runs", {})


def who(dask_worker):
    system = os.uname()
    return {"host": socket.gethostname(), "is": "%s %s" % (system.sysname, system.machine),
            "cpus": sorted(os.sched_getaffinity(0)), "berth": shutil.which("berth")}


async def begin(token, lease, dask_worker):
    runs(dask_worker)[token] = Run(dask_worker, token, lease)


async def ask(token, what, arguments, dask_worker):
    """Calls a method of the run."""
    run = runs(dask_worker).get(token)
    if run is None:
        raise RuntimeError("the run has ended, as nobody asked for it for too long")
    result = getattr(run, what)(*arguments)
    return await result if asyncio.iscoroutine(result) else result


def words(e):
    """What an exception says; many of those about time say nothing."""
    return str(e) or type(e).__name__


def addresses(dask_scheduler):
    return list(dask_scheduler.workers)


class Near:
    """The near side."""

    def __init__(self, conf, out):
        self.conf, self.out = conf, out
        self.text, self.last, self.fresh = bytearray(), not conf["input"], asyncio.Event()
        self.packed, self.absent = None, []

    def tell(self, **what):
        self.out.write(json.dumps(what) + "\n")
        self.out.flush()

    def read(self, loop):
        """Reads standard input to its end, in a thread of its own."""
        def take(text):
            self.text += text
            self.last = self.last or not text
            self.fresh.set()
        while True:
            text = os.read(0, 1 << 16)
            loop.call_soon_threadsafe(take, text)
            if not text:
                return

    async def call(self, address, function, *arguments):
        """Calls a function on a worker, as long as that is one."""
        asked = asyncio.ensure_future(self.client.run(function, *arguments, workers=[address]))
        began = time.monotonic()
        try:
            while not (await asyncio.wait({asked}, timeout=min(5, self.conf["silence"])))[0]:
                if address not in await asyncio.wait_for(self.client.run_on_scheduler(addresses), self.conf["silence"]):
                    raise RuntimeError("it has left the cluster")
                if time.monotonic() - began >= self.conf["silence"]:
                    raise asyncio.TimeoutError("within %g s" % self.conf["silence"])
            return asked.result()[address]
        finally:
            asked.cancel()

    async def main(self):
        from distributed import Client

        try:
            self.client = await asyncio.wait_for(
                Client(self.conf["scheduler"], asynchronous=True, set_as_default=False, timeout=self.conf["limit"]), self.conf["limit"] + 5)
        except (OSError, ValueError, TypeError, RuntimeError, asyncio.TimeoutError) as e:
            self.tell(failed=str(e) or "no answer from the scheduler %s" % self.conf["scheduler"])
            return
        if self.conf["input"]:
            threading.Thread(target=self.read, args=(asyncio.get_running_loop(),), daemon=True).start()
        try:
            nodes = await self.nodes()
            self.tell(nodes=[n["name"] for n in nodes] + [n for n, _ in self.absent])
            for name, text in self.absent:
                self.tell(node=name, trouble="unreachable", text=text)
            self.pause = max(0.1, len(nodes) / 500)  # some polls each second are what a scheduler can take
            await asyncio.gather(*(self.serve(n) for n in nodes))
        finally:
            await self.client.close()

    async def nodes(self):
        """The machines that the workers sit on, with one worker of each."""
        workers = await self.client.run_on_scheduler(addresses)
        said = await asyncio.gather(*(self.call(a, who) for a in workers), return_exceptions=True)
        machines, silent = {}, []
        for address, is_ in zip(workers, said):
            host = address.partition("://")[2].rpartition(":")[0].strip("[]") or address
            if isinstance(is_, BaseException):
                silent.append((host, address, is_))
                continue
            machines.setdefault((host, is_["host"]), []).append((address, is_))
        found = []
        for (host, name), its in machines.items():
            common = len({h for h, n in machines if n == name}) > 1
            odd = not re.fullmatch(r"[A-Za-z0-9._:@%][A-Za-z0-9._:@%-]*", name)
            cpus = sorted(set().union(*(i["cpus"] for _, i in its)))
            address, best = max(its, key=lambda i: (len(i[1]["cpus"]), i[0]))
            found.append({"name": host if common or odd else name, "also": {host, name}, "address": address, "is": best["is"], "berth": best["berth"], "cpus": cpus})
        known = {n for f in found for n in f["also"]}
        for host, address, e in silent:
            if host not in known:
                found.append({"name": host, "also": {host}, "address": address, "silent": e})
        return self.wanted(found, [a for _, a, _ in silent]) if self.conf["nodes"] else found

    def wanted(self, found, silent):
        out = []
        for name in self.conf["nodes"]:
            short = lambda n: n if re.fullmatch(r"[0-9.]+|.*:.*", n) else n.partition(".")[0]
            node = next((f for f in found if name == f["name"]), None) or next((f for f in found if name in f["also"] or short(name) in map(short, f["also"])), None)
            if node is None:
                no = "no worker of the cluster is on it"
                if silent:
                    no = "no worker that answers is on it, and %s gives no answer" % " ".join(silent)
                self.absent.append((name, no))
            else:
                out.append(dict(node, name=name))
        return out

    async def serve(self, node):
        name, token = node["name"], "%d-%d-%s" % (os.getpid(), time.time_ns(), node["name"])
        if "silent" in node:
            self.tell(node=name, trouble="unreachable", text="its worker %s gives no answer: %s" % (node["address"], words(node["silent"])))
            return
        program, bring = node["berth"], self.conf["bring"]
        if bring == "always" or bring == "auto" and program is None:
            program = None
            fits = self.conf["machines"]
            if fits and node["is"] not in fits:
                self.tell(node=name, trouble="architecture", text="berth is not there, and this one is for %s: the node is %s" % (self.conf["arch"], node["is"]))
                return
        elif program is None:
            self.tell(node=name, trouble="no-berth", text="berth is not there (not on the PATH of its worker)")
            return
        task = asyncio.ensure_future(self.run(node, name, token, program))
        try:
            await asyncio.wait_for(task, self.conf["limit"] if not self.conf["input"] else None)
        except asyncio.TimeoutError:
            if self.conf["input"]:
                self.tell(node=name, trouble="unreachable", text="its worker %s has not answered for %g s" % (node["address"], self.conf["silence"]))
            else:
                self.tell(node=name, trouble="timeout", text="no answer within %g s" % self.conf["limit"])
        except asyncio.CancelledError:
            raise
        except Exception as e:
            self.tell(node=name, trouble="unreachable", text="its worker %s: %s" % (node["address"], words(e)))
        finally:
            try:
                # The far side goes on with it if this side waits no longer.
                await asyncio.wait_for(self.client.run(ask, token, "end", (12 if self.conf["input"] else 1,), workers=[node["address"]]), 2)
            except Exception:
                pass  # it has ended, or its lease will end it

    async def run(self, node, name, token, program):
        address = node["address"]
        await self.call(address, begin, token, self.conf["lease"])
        if program is None:
            if self.packed is None:
                with open(self.conf["binary"], "rb") as f:
                    self.packed = zlib.compress(f.read(), 1)
            for at in range(0, len(self.packed), 1 << 20):
                await self.call(address, ask, token, "put", (self.packed[at:at + (1 << 20)],))
        refused = await self.call(address, ask, token, "start", (program, self.conf["args"] + ["--name", name], node["cpus"], self.conf["input"]))
        if refused:
            self.tell(node=name, status=126, text=refused)
            return
        at, rest, said = 0, b"", ""
        closed = not self.conf["input"]
        while True:
            self.fresh.clear()
            text, last = bytes(self.text[at:at + (1 << 20)]), self.last and at + (1 << 20) >= len(self.text)
            got = await self.call(address, ask, token, "poll", (text, last and not closed))
            at, closed = at + len(text), closed or last
            lines = (rest + got["out"]).split(b"\n")
            rest = lines.pop()[:1 << 16]
            if got["status"] is not None and rest:
                lines.append(rest)
            for line in lines:
                line = line[:1 << 16].decode(errors="replace")
                if not line.startswith("berth-"):  # no frame
                    said = line
                self.tell(node=name, line=line)
            if got["status"] is not None:
                self.tell(node=name, status=got["status"], text=said)
                return
            if not got["out"]:
                try:
                    await asyncio.wait_for(self.fresh.wait(), self.pause)
                except asyncio.TimeoutError:
                    pass


def main():
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else prints is not to be taken for ours
    conf = b""
    while not conf.endswith(b"\n"):  # and not a byte of what follows
        byte = os.read(0, 1)
        if not byte:
            return
        conf += byte
    near = Near(json.loads(conf), out)
    try:
        import distributed  # noqa: F401
    except ImportError:
        near.tell(failed="the module distributed is not there: --python names another than %s" % sys.executable)
        return

    async def whole():
        task = asyncio.ensure_future(near.main())
        loop = asyncio.get_running_loop()
        for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(s, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            pass

    asyncio.run(whole())
    out.flush()
    os._exit(0)  # the thread that reads may wait for ever


if __name__ == "__main__":
    main()
