import os
import signal
import socket
import sys

import uvicorn

# The libraries below Python read it when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "@BELOW@")
os.environ.setdefault("BERTH_IN_FLIGHT", "@IN_FLIGHT@")  # in each worker; 0: not planned

PROCESSES = @PROCESSES@
# The CPUs of each process; empty: not pinned.
SEATS = @SEATS@


def serve(application, listener, n):
    if SEATS:
        os.sched_setaffinity(0, SEATS[n])
    os.environ["BERTH_WORKER"] = str(n)
    uvicorn.Server(uvicorn.Config(application)).run(sockets=[listener])


def main(application, host="127.0.0.1", port="8000"):
    """Serve until a signal comes or a worker ends; then end all."""
    missing = set().union(*SEATS) - os.sched_getaffinity(0)
    if missing:
        raise RuntimeError(f"CPUs {sorted(missing)} of the plan are not allowed here")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, int(port)))
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals | {signal.SIGCHLD})
    workers = set()
    for n in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals | {signal.SIGCHLD})
            serve(application, listener, n)
            sys.stderr.flush()
            os._exit(0)
        workers.add(pid)
    came = signal.sigwait(signals | {signal.SIGCHLD})
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    for pid in workers:
        os.waitpid(pid, 0)
    return 1 if came == signal.SIGCHLD else 0


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    sys.exit(main(*sys.argv[1:]))
