// A service that takes its time: it answers each request, a delay in
// microseconds as a 4-byte number in the machine's order, with one byte once
// about that delay has passed: uniformly between a half and one and a half of
// it, as services vary. It does so on a timer wheel with one thread, and so
// costs the machine little. The port is printed on standard output.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { TICK_NS = 100000, SLOTS = 8192, MOST = 4096 };

// One request is open on a connection at a time. A client that goes while it
// waits leaves its connection open until then, so that the number is not used
// for another.
static struct connection { int next, waits, gone; uint32_t have; char request[4]; } of[MOST];
static int slot[SLOTS]; // the first connection of each, -1 none
static uint64_t done;   // the last tick that was served

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (t.tv_sec * UINT64_C(1000000000) + t.tv_nsec) / TICK_NS;
}

static uint32_t draw(void) {
  static uint32_t x = 2463534242;
  x ^= x << 13, x ^= x >> 17, x ^= x << 5;
  return x;
}

static void must(int ok, const char *what) {
  if (!ok) perror(what), exit(1);
}

static void later(int fd, uint32_t us) {
  uint64_t ns = us * UINT64_C(1000), wait = ns / 2 + ns * (draw() >> 8) / (1 << 24);
  uint64_t ticks = (wait + TICK_NS - 1) / TICK_NS;
  if (ticks < 1) ticks = 1;
  if (ticks >= SLOTS) ticks = SLOTS - 1;
  uint64_t at = now() + ticks;
  of[fd].waits = 1;
  of[fd].next = slot[at % SLOTS];
  slot[at % SLOTS] = fd;
}

static void answer(uint64_t until) {
  for (; done < until; done++) {
    int *first = &slot[(done + 1) % SLOTS];
    while (*first >= 0) {
      int fd = *first;
      *first = of[fd].next;
      of[fd].waits = 0;
      if (of[fd].gone) close(fd);
      else (void)!write(fd, "!", 1);
    }
  }
}

// arm sets the timer to the next tick with work.
static void arm(int timer) {
  struct itimerspec t = {0};
  for (uint64_t at = done + 1; at < done + SLOTS; at++)
    if (slot[at % SLOTS] >= 0) {
      t.it_value.tv_sec = at * TICK_NS / 1000000000;
      t.it_value.tv_nsec = at * TICK_NS % 1000000000;
      break;
    }
  must(timerfd_settime(timer, TFD_TIMER_ABSTIME, &t, NULL) == 0, "timerfd_settime");
}

static void read_request(int poll, int fd) {
  struct connection *c = &of[fd];
  ssize_t n = read(fd, c->request + c->have, sizeof c->request - c->have);
  if (n <= 0) {
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    epoll_ctl(poll, EPOLL_CTL_DEL, fd, NULL);
    c->gone = 1;
    if (!c->waits) close(fd);
    return;
  }
  if ((c->have += n) < sizeof c->request) return;
  uint32_t us;
  memcpy(&us, c->request, sizeof us);
  c->have = 0;
  later(fd, us);
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  for (int i = 0; i < SLOTS; i++) slot[i] = -1;
  struct rlimit files = {MOST, MOST};
  setrlimit(RLIMIT_NOFILE, &files);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  must(bind(listener, (void *)&address, size) == 0 && listen(listener, 1024) == 0, "listen");
  must(getsockname(listener, (void *)&address, &size) == 0, "getsockname");
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);

  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), poll = epoll_create1(0);
  int both[2] = {listener, timer};
  for (int i = 0; i < 2; i++) {
    struct epoll_event e = {.events = EPOLLIN, .data.fd = both[i]};
    must(epoll_ctl(poll, EPOLL_CTL_ADD, both[i], &e) == 0, "epoll_ctl");
  }
  for (done = now();;) {
    struct epoll_event events[64];
    int n = epoll_wait(poll, events, 64, -1);
    answer(now());
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == timer) {
        uint64_t times;
        (void)!read(timer, &times, sizeof times);
      } else if (fd != listener) {
        read_request(poll, fd);
      } else {
        while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
          if (fd >= MOST) { close(fd); continue; }
          of[fd] = (struct connection){0};
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          must(epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e) == 0, "epoll_ctl");
        }
      }
    }
    arm(timer);
  }
}
