"""Seats for the workers of a Dask cluster by a plan of berth, and what became of them.

    berth fleet advise PROFILE --fleet fleet.json -o json > plan.json
    berth fleet plugin dask > berth_dask.py
    python3 berth_dask.py SCHEDULER plan.json

or in a program that has a client:

    import berth_dask
    receipts = berth_dask.seat(client, "plan.json")
    ...
    receipts = berth_dask.receipts(client)
    berth_dask.unseat(client)

Each worker, also one that comes later, takes a free seat of its node and sets
the CPU mask of all its threads; those and the processes that it starts from
then on inherit it. A receipt (berth.receipt/v1) holds what was planned against
what the kernel says. The module needs nothing on the workers but Linux.
"""

import argparse
import asyncio
import errno
import hashlib
import json
import os
import socket
import sys
import time

try:
    from distributed import WorkerPlugin
except ImportError:  # a plan can be read without it
    WorkerPlugin = object

NAME = "berth"  # of the plugin, on every worker


class PlanError(ValueError):
    """The plan is none that this module can read."""


class SeatError(RuntimeError):
    """A worker has not the seat that the plan has for it."""


def parse_cpus(text):
    """The set of CPUs that a list such as 0-3,8 names, as the kernel writes them."""
    cpus = set()
    for part in text.split(",") if text else ():
        low, dash, high = part.partition("-")
        if not (low.isdecimal() and (high.isdecimal() if dash else not high)) or int(high or low) < int(low):
            raise PlanError("%r is not a list of CPUs" % text)
        cpus.update(range(int(low), int(high or low) + 1))
    return cpus


def format_cpus(cpus):
    """The opposite of parse_cpus."""
    parts = []
    for cpu in sorted(cpus):
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join("%d" % low if low == high else "%d-%d" % (low, high) for low, high in parts)


def read_plan(plan):
    """The seats of each node, a list of sets of CPUs by the node's name.

    plan is a document of berth fleet advise -o json (berth.fleet-plan/v1), or
    one of berth advise -o json (berth.plan/v1), which holds on every node (None);
    or the path of a file of either.
    """
    if isinstance(plan, (str, os.PathLike)):
        with open(plan, encoding="utf-8") as f:
            try:
                plan = json.load(f)
            except ValueError as e:
                raise PlanError("%s holds no JSON: %s" % (f.name, e)) from e
    try:
        schema = plan["schema"]
        if schema == "berth.plan/v1":
            return {None: _seats(plan)}
        if schema == "berth.fleet-plan/v1":
            return {node: _seats(part["plan"]) for part in plan["parts"] if part.get("plan") for node in part["nodes"]}
    except (KeyError, TypeError, AttributeError) as e:
        raise PlanError("the plan is not whole: %r" % e) from e
    raise PlanError("the plan's schema is %r, not berth.fleet-plan/v1 or berth.plan/v1" % (schema,))


def _seats(plan):
    seats = {}
    for s in plan["placement"]["seats"]:
        seats.setdefault(s["worker"], set()).update(parse_cpus(s["cpus"]))
    # A plan that pins nobody leaves all workers all of its CPUs.
    return [seats.get(i) or parse_cpus(plan["placement"]["cpus"]) for i in range(plan["workers"]["processes"])]


def _node_of(seats):
    """The name under which the plan has this machine, and its seats."""
    here = os.environ.get("BERTH_NODE") or socket.gethostname()
    if here in seats:
        return here, seats[here]
    for node in seats:  # either side may know the domain
        if node is not None and (node + "." == here[: len(node) + 1] or here + "." == node[: len(here) + 1]):
            return node, seats[node]
    return here, seats.get(None)


def _claim(what):
    """A claim that no other process of this user on this machine has until it is
    closed, or this process ends: an abstract name (unix(7)) leaves no file. None:
    it is taken."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:  # by its sum, as a name has 107 bytes at most
        s.bind("\0berth-dask-%d-%s" % (os.getuid(), hashlib.sha256(what.encode()).hexdigest()))
    except OSError as e:
        s.close()
        if e.errno != errno.EADDRINUSE:
            raise
        return None
    return s


def _threads():
    return [int(tid) for tid in os.listdir("/proc/self/task")]


def _read(tid, name):
    try:
        with open("/proc/self/task/%d/%s" % (tid, name), encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:  # the thread has ended
        return None


def _account(tid):
    """Nanoseconds on a CPU and ready but waiting for one; None: not known."""
    fields = (_read(tid, "schedstat") or "").split()
    return (int(fields[0]), int(fields[1])) if len(fields) == 3 else None


def _mask(tid):
    try:
        return os.sched_getaffinity(tid)
    except OSError:
        return None


class Seats(WorkerPlugin):
    """Seats each worker on which it is set up. seats is as read_plan has it;
    with require, the setup fails on a worker that did not get its seat."""

    name = NAME

    def __init__(self, seats, require=False):
        self.seats, self.require = seats, require
        self.claims, self.before, self.accounts = [], {}, {}
        self.node, self.index, self.asked, self.problem = None, 0, set(), None
        self.seated = 0.0

    def setup(self, worker):
        self.seated = time.monotonic()
        if self._take():
            self._sit()
        if self.require:
            broken = self.violations()
            if broken:
                self.teardown(worker)
                raise SeatError("%s: %s" % (self.node, broken[0]["message"]))

    def teardown(self, worker):
        """Gives every thread the mask that it had, and the seat back."""
        for tid in _threads() if self.before else ():
            try:  # a thread that was born on the seat gets what its process had
                os.sched_setaffinity(tid, self.before.get(tid, self.before[os.getpid()]))
            except OSError:
                pass
        for claim in self.claims:
            claim.close()
        self.claims, self.before, self.index, self.asked = [], {}, 0, set()

    def _take(self):
        """Takes the first free seat of the node."""
        self.node, seats = _node_of(self.seats)
        if seats is None:
            self.problem = ("no-node", "the plan has no workers for node %s" % self.node)
            return False
        own = _claim("process-%d" % os.getpid())
        if own is None:
            self.problem = ("shared", "process %d holds another worker, which has a seat: one process has one" % os.getpid())
            return False
        self.claims.append(own)
        order = list(range(len(seats)))
        wanted = os.environ.get("BERTH_WORKER", "")  # the script of --emit dask numbers them
        if wanted.isdecimal() and int(wanted) in order:
            order.remove(int(wanted))
            order.insert(0, int(wanted))
        for i in order:
            claim = _claim("%s-%d" % (self.node, i))
            if claim is not None:
                self.claims.append(claim)
                self.index, self.asked = i, seats[i]
                return True
        self.index = len(seats)  # one more than the plan has
        self.problem = ("no-seat", "the plan has %d workers on %s, and all their seats are taken" % (len(seats), self.node))
        return False

    def _sit(self):
        """Sets the mask of every thread, until no new one has been born meanwhile."""
        done, refused = set(), None
        while True:
            new = [tid for tid in _threads() if tid not in done]
            if not new:
                break
            for tid in new:
                done.add(tid)
                was = _mask(tid)
                try:
                    os.sched_setaffinity(tid, self.asked)
                except ProcessLookupError:
                    continue
                except (OSError, ValueError) as e:
                    refused = e
                    continue
                self.before[tid] = was
                self.accounts[tid] = _account(tid)
        if refused is not None:
            self.problem = ("refused", "seat on CPUs %s: %s" % (format_cpus(self.asked), refused))

    def violations(self, ran_on=None):
        """What is not as it was planned, of this moment."""
        out = []
        add = lambda code, message, tid=0: out.append(dict({"worker": self.index, "code": code, "message": message}, **({"tid": tid} if tid else {})))
        if self.problem is not None:
            add(*self.problem)
            return out
        for tid in sorted(_threads()):
            mask = _mask(tid)
            if mask is None or mask == self.asked:
                pass
            elif mask < self.asked:
                add("trimmed", "thread %d was to have CPUs %s and has %s" % (tid, format_cpus(self.asked), format_cpus(mask)), tid)
            else:
                add("moved", "thread %d was to sit on CPUs %s and sits on %s" % (tid, format_cpus(self.asked), format_cpus(mask)), tid)
        for tid, cpus in sorted((ran_on or {}).items()):
            if not cpus <= self.asked:
                add("elsewhere", "thread %d was seen on CPUs %s, outside its seat %s" % (tid, format_cpus(cpus - self.asked), format_cpus(self.asked)), tid)
        return out

    async def receipt(self, seconds):
        """The worker's receipt, its threads watched for so long."""
        ran_on, end = {}, time.monotonic() + seconds
        while True:
            for tid in _threads():
                # Where a thread ran last is news only if it has run since it was seated.
                account, fields = _account(tid), (_read(tid, "stat") or "").rpartition(")")[2].split()
                if len(fields) > 36 and account is not None and account != self.accounts.get(tid):
                    ran_on.setdefault(tid, set()).add(int(fields[36]))  # processor, proc(5)
            if time.monotonic() >= end:
                break
            await asyncio.sleep(0.02)
        threads, asked = [], format_cpus(self.asked)
        for tid in sorted(_threads()):
            mask, now = _mask(tid), _account(tid)
            if mask is None:
                continue
            t = {"pid": os.getpid(), "tid": tid, "name": _read(tid, "comm") or "", "asked": asked,
                 "set": format_cpus(mask), "ran_on": format_cpus(ran_on.get(tid, ()))}
            was = self.accounts.get(tid) or (0, 0)
            if now is not None:
                t["on_cpu_ms"], t["run_delay_ms"] = (now[0] - was[0]) / 1e6, (now[1] - was[1]) / 1e6
            threads.append(t)
        broken = self.violations(ran_on)
        return {"schema": "berth.receipt/v1", "command": sys.argv, "wall_s": time.monotonic() - self.seated, "each": False,
                "kept": not broken, "status": 0, "verdict": "measured",
                "workers": [{"index": self.index, "pid": os.getpid(), "asked": asked, "threads": threads}],
                "violations": broken, "noise": {}, "findings": [], "node": self.node}


async def _receipt(seconds, dask_worker):
    plugin = dask_worker.plugins.get(NAME)
    if plugin is None:
        raise SeatError("the worker has no plugin %r" % NAME)
    return await plugin.receipt(seconds)


def _by_value():
    """Lets the workers do without this module."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


def seat(client, plan, require=False):
    """Seats all workers, those that come later too, and returns their receipts.
    With require it raises if one did not get its seat, and unseats all."""
    seats = read_plan(plan)
    _by_value()
    try:
        client.register_worker_plugin(Seats(seats, require), name=NAME)
    except SeatError:
        unseat(client)
        raise
    except OSError:  # a worker was not reached: then it has no receipt, and the others are seated
        if require:
            unseat(client)
            raise
    return receipts(client)


def unseat(client):
    """Gives all workers the masks that they had."""
    client.unregister_worker_plugin(NAME)


def receipts(client, seconds=0.5):
    """The receipt of every worker by its address; of one that gives none, the exception."""
    _by_value()
    return client.run(_receipt, seconds, on_error="return")


def main(argv=None):
    p = argparse.ArgumentParser(description="Seat the workers of a Dask cluster by a plan of berth, and print their receipts.")
    p.add_argument("scheduler", help="its address, as tcp://HOST:8786")
    p.add_argument("plan", help="what berth fleet advise -o json wrote")
    p.add_argument("--require", action="store_true", help="fail, and leave the workers as they were, where one does not get its seat")
    p.add_argument("--undo", action="store_true", help="give the workers the masks that they had")
    p.add_argument("--limit", type=float, default=30, help="seconds to wait for the scheduler")
    o = p.parse_args(argv)
    from distributed import Client

    with Client(o.scheduler, timeout=o.limit) as client:
        if o.undo:
            unseat(client)
            return 0
        try:
            found = seat(client, o.plan, o.require)
        except (PlanError, SeatError, OSError) as e:
            print("berth_dask: %s" % e, file=sys.stderr)
            return 1
    good = bool(found)
    for address, r in sorted(found.items()):
        if isinstance(r, Exception):
            good, found[address] = False, {"error": str(r) or repr(r)}
            print("berth_dask: %s gives no receipt: %s" % (address, found[address]["error"]), file=sys.stderr)
            continue
        good = good and r["kept"]
        for v in r["violations"]:
            print("berth_dask: %s, %s: %s" % (r["node"], address, v["message"]), file=sys.stderr)
    json.dump(found, sys.stdout, indent=1)
    print()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
