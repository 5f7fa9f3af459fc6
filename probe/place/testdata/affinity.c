/* Preloaded into likwid-pin and OpenMP programs in the lab: makes them believe
   in PLACE_CPUS CPUs, and likwid in the topology file PLACE_TOPOLOGY, so that
   they answer for a machine that is not this one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int believe(size_t size, cpu_set_t *mask)
{
	const char *cpus = getenv("PLACE_CPUS");
	memset(mask, 0, size);
	for (int i = 0; cpus && i < atoi(cpus); i++)
		CPU_SET_S(i, size, mask);
	return 0;
}

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *mask) { return believe(size, mask); }
int pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *mask) { return believe(size, mask); }
int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *mask) { return 0; }
int pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *mask) { return 0; }

static const char *instead(const char *path)
{
	const char *topology = getenv("PLACE_TOPOLOGY");
	return topology && !strcmp(path, "/etc/likwid_topo.cfg") ? topology : path;
}

FILE *fopen(const char *path, const char *mode)
{
	FILE *(*real)(const char *, const char *) = dlsym(RTLD_NEXT, "fopen");
	return real(instead(path), mode);
}

int access(const char *path, int mode)
{
	int (*real)(const char *, int) = dlsym(RTLD_NEXT, "access");
	return real(instead(path), mode);
}
