// client PORT WAIT_MS COMPUTE_MS: one connection, in an epoll of its own with a
// time-out: computes by the clock of its CPU time, asks the server, which takes
// WAIT_MS to answer, and so on. Prints each second which share it waited.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(clockid_t clock) {
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
	if (argc != 4)
		return 2;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int s = socket(AF_INET, SOCK_STREAM, 0), e = epoll_create1(0);
	if (connect(s, (struct sockaddr *)&to, sizeof to))
		return 1;
	struct epoll_event ev = {.events = EPOLLIN};
	epoll_ctl(e, EPOLL_CTL_ADD, s, &ev);
	char ask[32], answer[64];
	snprintf(ask, sizeof ask, "%s\n", argv[2]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	double compute = atof(argv[3]) / 1e3, computed = 0, waited = 0;
	for (double last = now(CLOCK_MONOTONIC);;) {
		double from = now(CLOCK_THREAD_CPUTIME_ID), used;
		while ((used = now(CLOCK_THREAD_CPUTIME_ID) - from) < compute)
			;
		computed += used;
		from = now(CLOCK_MONOTONIC);
		if (write(s, ask, strlen(ask)) < 0)
			return 1;
		int ready;
		while ((ready = epoll_wait(e, &ev, 1, 5000)) < 0 && errno == EINTR)
			; // strace came or went
		if (ready != 1 || read(s, answer, sizeof answer) <= 0)
			return 1;
		waited += now(CLOCK_MONOTONIC) - from;
		if (now(CLOCK_MONOTONIC) - last >= 1) {
			printf("waited %.3f\n", waited / (waited + computed));
			last = now(CLOCK_MONOTONIC);
		}
	}
}
