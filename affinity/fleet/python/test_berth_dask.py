"""Tests of berth_dask.py that need neither a cluster nor Dask: python3 -m unittest."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import unittest

import berth_dask
from berth_dask import PlanError, SeatError, Seats, format_cpus, parse_cpus, read_plan

HERE = sorted(os.sched_getaffinity(0))


def plan(cpus, processes=None):
    """A document with a seat on each of these lists of CPUs."""
    return {"schema": "berth.plan/v1", "workers": {"processes": processes or len(cpus)},
            "placement": {"cpus": "0-7", "seats": [{"worker": i, "cpus": c} for i, c in enumerate(cpus)]}}


def fleet(**nodes):
    return {"schema": "berth.fleet-plan/v1", "parts": [{"nodes": [n], "plan": p} for n, p in nodes.items()]}


class Lists(unittest.TestCase):
    def test_both_ways(self):
        for text, cpus in [("", set()), ("0", {0}), ("0-3,8", {0, 1, 2, 3, 8}), ("7-7", {7})]:
            self.assertEqual(parse_cpus(text), cpus)
        self.assertEqual(format_cpus({0, 1, 2, 5, 7, 8}), "0-2,5,7-8")
        self.assertEqual(format_cpus(()), "")

    def test_no_lists(self):
        for text in ["x", "1-", "-1", "3-1", "1,,2", "0x3", "1 2", "1-2-3", "²"]:
            with self.subTest(text), self.assertRaises(PlanError):
                parse_cpus(text)


class Plans(unittest.TestCase):
    def test_of_one_machine(self):
        self.assertEqual(read_plan(plan(["0-1", "2,3"])), {None: [{0, 1}, {2, 3}]})

    def test_of_threads(self):
        p = plan(["0"], processes=1)
        p["placement"]["seats"] = [{"worker": 0, "thread": 0, "cpus": "4"}, {"worker": 0, "thread": 1, "cpus": "6"}]
        self.assertEqual(read_plan(p), {None: [{4, 6}]})

    def test_that_pins_nobody(self):
        self.assertEqual(read_plan(plan([], processes=2)), {None: [set(range(8))] * 2})

    def test_of_a_fleet(self):
        p = fleet(a=plan(["0"]), b=plan(["1", "2"]))
        p["parts"].append({"nodes": ["c"], "why": "no task is left"})
        self.assertEqual(read_plan(p), {"a": [{0}], "b": [{1}, {2}]})

    def test_from_a_file(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "plan.json")
            with open(path, "w") as f:
                json.dump(fleet(a=plan(["0"])), f)
            self.assertEqual(read_plan(path), {"a": [{0}]})
            with open(path, "w") as f:
                f.write("{")
            with self.assertRaisesRegex(PlanError, "plan.json holds no JSON"):
                read_plan(path)

    def test_no_plans(self):
        for p in [{}, [], {"schema": "berth.inspect/v1"}, {"schema": "berth.plan/v1"}, plan(["zero"]),
                  {"schema": "berth.fleet-plan/v1", "parts": [{"plan": plan(["0"])}]}, {"schema": []}]:
            with self.subTest(p), self.assertRaises(PlanError):
                read_plan(p)


class Names(unittest.TestCase):
    def node(self, here, *nodes):
        os.environ["BERTH_NODE"] = here
        try:
            return berth_dask._node_of({n: n for n in nodes})[0:2]
        finally:
            del os.environ["BERTH_NODE"]

    def test_with_and_without_the_domain(self):
        self.assertEqual(self.node("n1", "n1", "n10"), ("n1", "n1"))
        self.assertEqual(self.node("n1.example.org", "n10", "n1"), ("n1", "n1"))
        self.assertEqual(self.node("n1", "n10.example.org", "n1.example.org"), ("n1.example.org", "n1.example.org"))
        self.assertEqual(self.node("n2", "n1"), ("n2", None))


class Sitting(unittest.TestCase):
    """Masks are set in a process of its own, whose threads and children are looked at."""

    def setUp(self):
        # Names of seats are the machine's: another run of the tests may be going on.
        os.environ["BERTH_NODE"] = "test-%d-%s" % (os.getpid(), self.id())
        self.mask = os.sched_getaffinity(0)

    def tearDown(self):
        del os.environ["BERTH_NODE"]
        os.environ.pop("BERTH_WORKER", None)
        os.sched_setaffinity(0, self.mask)

    def test_threads_and_children(self):
        cpu, stop = HERE[-1], threading.Event()
        other = threading.Thread(target=stop.wait)
        other.start()
        s = Seats({None: [{cpu}]})
        s.setup(None)
        try:
            self.assertEqual(os.sched_getaffinity(other.native_id), {cpu})
            said = subprocess.run([sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"], stdout=subprocess.PIPE, check=True).stdout
            self.assertEqual(said.split(), [b"%d" % cpu])
            r = asyncio.run(s.receipt(0.1))
            self.assertTrue(r["kept"], r["violations"])
            self.assertEqual({t["set"] for t in r["workers"][0]["threads"]}, {str(cpu)})
            self.assertEqual({t["ran_on"] for t in r["workers"][0]["threads"]} - {""}, {str(cpu)})
            json.dumps(r)
        finally:
            s.teardown(None)
            self.assertEqual(os.sched_getaffinity(other.native_id), self.mask)
            stop.set()
            other.join()
        self.assertEqual(os.sched_getaffinity(0), self.mask)

    def test_a_process_has_one_seat(self):
        a, b = Seats({None: [{HERE[0]}, {HERE[-1]}]}), Seats({None: [{HERE[0]}, {HERE[-1]}]})
        a.setup(None)
        b.setup(None)
        self.assertEqual([v["code"] for v in b.violations()], ["shared"])
        self.assertEqual(os.sched_getaffinity(0), {HERE[0]})
        a.teardown(None)
        b.teardown(None)
        self.assertEqual(os.sched_getaffinity(0), self.mask)
        again = Seats({None: [{HERE[0]}]})
        again.setup(None)
        self.assertEqual((again.index, again.problem), (0, None))  # nothing is left of the first
        again.teardown(None)

    def test_a_taken_seat(self):
        code = ("import sys, berth_dask as d\n"
                "s = d.Seats({None: [{%d}, {%d}]}); s.setup(None); print(s.index, flush=True); sys.stdin.read()" % (HERE[0], HERE[-1]))
        there = subprocess.Popen([sys.executable, "-c", code], cwd=os.path.dirname(os.path.abspath(__file__)),
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with there:
            self.assertEqual(there.stdout.readline(), b"0\n")
            mine = Seats({None: [{HERE[0]}, {HERE[-1]}]})
            mine.setup(None)
            self.assertEqual((mine.index, mine.asked), (1, {HERE[-1]}))
            mine.teardown(None)
            only = Seats({None: [{HERE[0]}]})
            only.setup(None)
            self.assertEqual([v["code"] for v in only.violations()], ["no-seat"])
            only.teardown(None)
            there.kill()
        again = Seats({None: [{HERE[0]}, {HERE[-1]}]})
        again.setup(None)
        self.assertEqual(again.index, 0)  # the seat of a dead worker is free
        again.teardown(None)

    def test_the_number_of_the_emitted_script(self):
        os.environ["BERTH_WORKER"] = "1"
        s = Seats({None: [{HERE[0]}, {HERE[-1]}]})
        s.setup(None)
        self.assertEqual(s.index, 1)
        s.teardown(None)

    def test_what_the_kernel_will_not_give(self):
        for cpus, code in [({4000}, "refused"), ({HERE[0], 4000}, "trimmed")]:
            s = Seats({None: [cpus]})
            s.setup(None)
            self.assertEqual({v["code"] for v in s.violations()}, {code})
            s.teardown(None)
            strict = Seats({None: [cpus]}, require=True)
            with self.assertRaisesRegex(SeatError, "4000"):
                strict.setup(None)
            self.assertEqual(os.sched_getaffinity(0), self.mask)

    def test_a_mask_that_was_changed(self):
        if len(HERE) < 2:
            self.skipTest("one CPU has one mask")
        s = Seats({None: [{HERE[0]}]})
        s.setup(None)
        os.sched_setaffinity(0, {HERE[1]})
        self.assertIn("moved", {v["code"] for v in s.violations()})
        s.teardown(None)

    def test_a_node_that_is_not_in_the_plan(self):
        s = Seats({"another": [{HERE[0]}]})
        s.setup(None)
        r = asyncio.run(s.receipt(0))
        self.assertEqual([v["code"] for v in r["violations"]], ["no-node"])
        self.assertFalse(r["kept"])
        self.assertEqual(os.sched_getaffinity(0), self.mask)


if __name__ == "__main__":
    unittest.main()
