/* Prints a line for each OpenMP thread: its number, its place, and the CPUs
 * that the kernel lets it use. Build with -fopenmp. */
#define _GNU_SOURCE
#include <omp.h>
#include <sched.h>
#include <stdio.h>

int main(void) {
#pragma omp parallel
#pragma omp critical
  {
    cpu_set_t mask;
    sched_getaffinity(0, sizeof mask, &mask);
    printf("thread %d of %d place %d cpus", omp_get_thread_num(), omp_get_num_threads(), omp_get_place_num());
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
      if (CPU_ISSET(cpu, &mask))
        printf(" %d", cpu);
    printf("\n");
  }
  return 0;
}
