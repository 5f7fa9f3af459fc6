/* Prints what the OpenMP runtime makes of OMP_PLACES: a line with the CPUs of
   each place. */
#include <omp.h>
#include <stdio.h>

int main(void)
{
	for (int i = 0; i < omp_get_num_places(); i++) {
		int n = omp_get_place_num_procs(i), cpus[n];
		omp_get_place_proc_ids(i, cpus);
		for (int j = 0; j < n; j++)
			printf("%s%d", j ? "," : "", cpus[j]);
		puts("");
	}
}
