// spin N: N threads compute for ever.
#include <pthread.h>
#include <stdlib.h>

static void *spin(void *unused) {
	volatile unsigned long n = 0;
	for (;;)
		n = n * 6364136223846793005UL + 1;
	return unused;
}

int main(int argc, char **argv) {
	pthread_t t;
	for (int i = 1; i < (argc > 1 ? atoi(argv[1]) : 1); i++)
		pthread_create(&t, NULL, spin, NULL);
	spin(NULL);
}
