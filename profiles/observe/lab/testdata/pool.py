"""pool.py PROCESSES: a pool of processes that compute."""
import multiprocessing
import sys


def work(n):
    return sum(i * i for i in range(n))


if __name__ == "__main__":
    with multiprocessing.Pool(int(sys.argv[1])) as pool:
        while True:
            pool.map(work, [300_000] * 40, chunksize=5)
