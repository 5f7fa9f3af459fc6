"""Tests of dask_engine.py that need neither a cluster nor Dask: python3 -m unittest."""

import asyncio
import io
import json
import os
import tempfile
import time
import types
import unittest
import zlib

import dask_engine
from dask_engine import Near, Run, ask, runs


class FarSide(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.worker = types.SimpleNamespace(local_directory=self.folder.name)
        self.cpus = sorted(os.sched_getaffinity(0))

    async def asyncTearDown(self):
        for run in list(runs(self.worker).values()):
            await run.end(0)
        self.assertEqual(os.listdir(self.folder.name), [])  # whatever was put is gone
        self.folder.cleanup()

    def run_of(self, lease=30):
        run = runs(self.worker)["t"] = Run(self.worker, "t", lease)
        return run

    async def whole(self, run):
        out = b""
        while True:
            got = await run.poll(b"", False)
            out += got["out"]
            if got["status"] is not None:
                return out, got["status"]
            await asyncio.sleep(0.02)

    async def test_output_and_status(self):
        run = self.run_of()
        self.assertIsNone(await run.start("/bin/sh", ["-c", "echo out; echo err >&2; printf open; exit 3"], self.cpus, False))
        self.assertEqual(await self.whole(run), (b"out\nerr\nopen", 3))

    async def test_what_it_reads(self):
        run = self.run_of()
        await run.start("/bin/cat", [], self.cpus, True)
        await run.poll(b"one\n", False)
        await run.poll(b"two\n", True)
        self.assertEqual(await self.whole(run), (b"one\ntwo\n", 0))

    async def test_a_program_that_reads_nothing(self):
        run = self.run_of()
        await run.start("/bin/true", [], self.cpus, True)
        await asyncio.sleep(0.3)
        for _ in range(3):
            await run.poll(b"x" * 100000, False)
        self.assertEqual(await self.whole(run), (b"", 0))

    async def test_one_that_is_put(self):
        program = b"#!/bin/sh\necho put $1\n"
        packed = zlib.compress(program)
        run = self.run_of()
        for at in range(0, len(packed), 7):
            run.put(packed[at:at + 7])
        await run.start(None, ["here"], self.cpus, False)
        self.assertEqual(await self.whole(run), (b"put here\n", 0))

    async def test_one_that_cannot_start(self):
        run = self.run_of()
        self.assertIn("No such file", await run.start("/nowhere/berth", [], self.cpus, False))
        run = self.run_of()
        run.put(zlib.compress(b"no program at all"))
        self.assertIn("Exec format error", await run.start(None, [], self.cpus, False))

    async def test_on_the_cpus_of_all_workers(self):
        if len(self.cpus) < 2:
            self.skipTest("one CPU has one mask")
        os.sched_setaffinity(0, self.cpus[:1])
        try:
            run = self.run_of()
            await run.start("/bin/grep", ["Cpus_allowed_list", "/proc/self/status"], self.cpus, False)
            out, status = await self.whole(run)
        finally:
            os.sched_setaffinity(0, self.cpus)
        self.assertEqual(status, 0)
        with open("/proc/self/status") as f:
            self.assertIn(out.decode(), f.read())

    async def test_much_output_waits_for_who_fetches_it(self):
        run = self.run_of()
        await run.start("/bin/sh", ["-c", "head -c 5000000 /dev/zero"], self.cpus, False)
        await asyncio.sleep(0.5)
        self.assertLess(len(run.out), 3 << 20)
        out, status = await self.whole(run)
        self.assertEqual((len(out), status), (5000000, 0))

    async def test_the_lease(self):
        run = self.run_of(lease=0.1)
        run.put(zlib.compress(b"x"))
        await run.start("/bin/sleep", ["3599"], self.cpus, False)
        pid = run.process.pid
        await asyncio.wait_for(run.ended.wait(), 10)
        with self.assertRaises(ProcessLookupError):
            os.kill(pid, 0)
        with self.assertRaisesRegex(RuntimeError, "nobody asked"):
            for _ in range(100):  # it is forgotten a little later
                await ask("t", "poll", (b"", False), self.worker)
                await asyncio.sleep(0.02)

    async def test_the_end_before_the_start(self):
        run = self.run_of()
        starting = asyncio.ensure_future(run.start("/bin/sleep", ["3599"], self.cpus, False))
        await asyncio.sleep(0)
        await run.end(0)
        await starting
        await asyncio.wait_for(run.ended.wait(), 10)
        with self.assertRaises(ProcessLookupError):
            os.kill(run.process.pid, 0)

    async def test_the_end_of_one_that_will_not(self):
        run = self.run_of()
        await run.start("/bin/sh", ["-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"], self.cpus, True)
        while b"up" not in run.out:
            await asyncio.sleep(0.02)
        pid, began = run.process.pid, time.monotonic()
        await run.end(0.3)
        await asyncio.wait_for(run.ended.wait(), 5)
        self.assertGreater(time.monotonic() - began, 0.25)
        with self.assertRaises(ProcessLookupError):
            os.kill(pid, 0)


class FakeClient:
    """Runs functions on workers that are here: address -> what is unlike the others."""

    def __init__(self, test, workers):
        self.workers = {a: types.SimpleNamespace(local_directory=test.folder.name, told=is_) for a, is_ in workers.items()}

    async def run_on_scheduler(self, function):
        return function(types.SimpleNamespace(workers=self.workers))

    async def run(self, function, *arguments, workers):
        worker = self.workers[workers[0]]
        if worker.told.get("dead"):
            raise OSError("the connection is gone")
        if worker.told.get("hangs"):
            await asyncio.sleep(3600)
        if function is dask_engine.who:
            return {workers[0]: dict({"host": "n1", "is": "Linux x86_64", "cpus": sorted(os.sched_getaffinity(0)), "berth": None}, **worker.told)}
        if worker.told.get("vanishes") and len(arguments) > 1 and arguments[1] == "poll":
            self.workers.pop(workers[0])
            await asyncio.sleep(3600)
        if worker.told.get("leaves") and len(arguments) > 1 and arguments[1] == "poll":
            raise OSError("the worker has left")
        result = function(*arguments, worker)
        # What has begun on a worker goes on there, whoever waits for it.
        return {workers[0]: await asyncio.shield(asyncio.ensure_future(result)) if asyncio.iscoroutine(result) else result}


class NearSide(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.binary = os.path.join(self.folder.name, "program")
        with open(self.binary, "w") as f:
            f.write("#!/bin/sh\necho berth-x $3; echo note; exit 4\n")
        os.chmod(self.binary, 0o755)

    async def asyncTearDown(self):
        self.assertEqual(os.listdir(self.folder.name), ["program"])
        self.folder.cleanup()

    async def said(self, workers, far=None, **conf):
        out = io.StringIO()
        near = Near(dict({"scheduler": "x", "nodes": None, "args": ["fleet"], "input": False, "bring": "auto", "binary": self.binary,
                          "machines": ["Linux x86_64"], "arch": "amd64", "limit": 20, "silence": 5, "lease": 30}, **conf), out)
        near.client, near.pause = FakeClient(self, workers), 0.02
        if far is not None:
            far["worker"] = next(iter(near.client.workers.values()))
        nodes = await near.nodes()
        for name, text in near.absent:
            near.tell(node=name, trouble="unreachable", text=text)
        await asyncio.gather(*(near.serve(n) for n in nodes))
        return [json.loads(line) for line in out.getvalue().splitlines()]

    async def test_one_of_each_machine(self):
        said = await self.said({"tcp://10.0.0.1:1": {}, "tcp://10.0.0.1:2": {}, "tls://[fe80::1]:9": {"host": "n2"}})
        self.assertEqual(sorted(m["node"] for m in said if "status" in m), ["n1", "n2"])
        self.assertIn({"node": "n1", "status": 4, "text": "note"}, said)

    async def test_names(self):
        said = await self.said({"tcp://10.0.0.1:1": {}, "tcp://10.0.0.2:1": {}, "tcp://10.0.0.3:1": {"host": "-o x"}})
        self.assertEqual(sorted(m["node"] for m in said if "status" in m), ["10.0.0.1", "10.0.0.2", "10.0.0.3"])

    async def test_wanted(self):
        said = await self.said({"tcp://10.0.0.1:1": {}, "tcp://10.0.0.2:1": {"host": "n2.example.org"}}, nodes=["n2", "10.0.0.1", "n3"])
        self.assertEqual({m["node"]: m.get("status", m.get("trouble")) for m in said if "line" not in m}, {"n2": 4, "10.0.0.1": 4, "n3": "unreachable"})

    async def test_the_widest_mask(self):
        said = await self.said({"tcp://a:1": {"cpus": [0]}, "tcp://a:2": {"cpus": sorted(os.sched_getaffinity(0)), "berth": "/bin/true"}})
        self.assertEqual([m["status"] for m in said if "status" in m], [0 if len(os.sched_getaffinity(0)) > 1 else 4])

    async def test_trouble(self):
        said = await self.said({"tcp://a:1": {"host": "arm", "is": "Linux aarch64"}, "tcp://b:1": {"host": "gone", "leaves": True}, "tcp://c:1": {"dead": True}})
        self.assertEqual({m["node"]: m["trouble"] for m in said if "trouble" in m}, {"arm": "architecture", "gone": "unreachable", "c": "unreachable"})
        self.assertIn("has left", next(m["text"] for m in said if m["node"] == "gone"))

    async def test_a_worker_that_hangs(self):
        said = await self.said({"tcp://a:1": {"hangs": True}, "tcp://b:1": {"host": "n2"}}, silence=0.5)
        self.assertEqual({m["node"]: m.get("status", m.get("trouble")) for m in said if "line" not in m}, {"a": "unreachable", "n2": 4})
        self.assertIn("within 0.5 s", next(m["text"] for m in said if m["node"] == "a"))
        said = await self.said({"tcp://a:1": {"hangs": True}}, silence=0.5, nodes=["n1"])
        self.assertIn("tcp://a:1 gives no answer", said[0]["text"])

    async def test_a_worker_that_has_gone(self):
        far = {}
        said = await self.said({"tcp://a:1": {"vanishes": True}}, silence=0.5, input=True, far=far)
        self.assertIn("left the cluster", next(m["text"] for m in said if "trouble" in m))
        for run in list(runs(far["worker"]).values()):  # where it was, the lease ends what goes on
            await run.end(0)

    async def test_never_brought(self):
        self.assertEqual([m["trouble"] for m in await self.said({"tcp://a:1": {}}, bring="never")], ["no-berth"])

    async def test_no_time(self):
        with open(self.binary, "w") as f:
            f.write("#!/bin/sh\nexec sleep 3598\n")
        said = await self.said({"tcp://a:1": {}}, limit=0.5)
        self.assertEqual([m["trouble"] for m in said], ["timeout"])


if __name__ == "__main__":
    unittest.main()
