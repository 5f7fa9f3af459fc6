// lock N compute|sleep: N threads take turns at a mutex, each holding it for
// 50 µs of computing or of sleeping and needing 10 µs of computing outside.
// Prints each second which share of the threads' time went into waiting for it.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int sleeps;
static double waited[64];

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void compute(double s) {
	for (double until = now() + s; now() < until;)
		;
}

static void *work(void *sum) {
	for (;;) {
		double from = now();
		pthread_mutex_lock(&mutex);
		*(double *)sum += now() - from;
		if (sleeps)
			usleep(50);
		else
			compute(50e-6);
		pthread_mutex_unlock(&mutex);
		compute(10e-6);
	}
	return NULL;
}

int main(int argc, char **argv) {
	int n = argc > 1 ? atoi(argv[1]) : 4;
	sleeps = argc > 2 && !strcmp(argv[2], "sleep");
	for (int i = 0; i < n && i < 64; i++) {
		pthread_t t;
		pthread_create(&t, NULL, work, &waited[i]);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (double from = now();;) {
		sleep(1);
		double sum = 0;
		for (int i = 0; i < n; i++)
			sum += waited[i];
		printf("waited %.3f\n", sum / n / (now() - from));
	}
}
