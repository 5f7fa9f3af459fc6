// Bounces a cache line between two CPUs and prints nanoseconds one way.
// Usage: pingpong CPU CPU ROUNDS
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct { _Alignas(256) atomic_uint turn; char rest[252]; } line;
static int cpus[2];
static unsigned rounds;

static void *side(void *arg) {
	int me = (int)(long)arg;
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpus[me], &set);
	if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0) {
		fprintf(stderr, "pingpong: CPU %d cannot be had\n", cpus[me]);
		exit(1);
	}
	for (unsigned i = 0; i < rounds; i++) {
		while (atomic_load(&line.turn) != 2 * i + me)
			;
		atomic_store(&line.turn, 2 * i + me + 1);
	}
	return 0;
}

int main(int argc, char **argv) {
	if (argc != 4)
		return 2;
	cpus[0] = atoi(argv[1]), cpus[1] = atoi(argv[2]), rounds = atoi(argv[3]);
	double took = 0;
	for (int trial = 0; trial < 2; trial++) { // the first one warms up
		pthread_t other;
		struct timespec from, to;
		atomic_store(&line.turn, 0);
		pthread_create(&other, 0, side, (void *)1);
		clock_gettime(CLOCK_MONOTONIC, &from);
		side(0);
		pthread_join(other, 0);
		clock_gettime(CLOCK_MONOTONIC, &to);
		took = (to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec);
	}
	printf("%.2f\n", took / rounds / 2);
}
