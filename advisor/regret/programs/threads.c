// Programs of native threads: threads KIND N. Each thread counts what it has
// done in its own cell of the file COUNTER, 64 bytes apart, until the program
// is ended.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 256, CELL = 64, NODE = 64 };

static volatile uint64_t *cells;
static pthread_barrier_t ready;

static void must(int ok, const char *what) {
  if (!ok) perror(what), exit(1);
}

// About a microsecond each: a chain that no compiler shortens.
static uint64_t compute(uint64_t x, int us) {
  for (long i = 0; i < us * 600L; i++) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    __asm__ volatile("" : "+r"(x));
  }
  return x;
}

static int service(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  a.sin_port = htons(atoi(getenv("SERVICE")));
  must(connect(fd, (void *)&a, sizeof a) == 0, "connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

// fetch: 0.3 ms of work on what a service gave after 10 ms.
static void fetch(volatile uint64_t *count) {
  int fd = service();
  uint32_t delay = 10000;
  char byte;
  pthread_barrier_wait(&ready);
  for (uint64_t x = 1;; ++*count) {
    must(write(fd, &delay, sizeof delay) == sizeof delay && read(fd, &byte, 1) == 1, "service");
    x = compute(x, 300);
  }
}

static void busy(volatile uint64_t *count) {
  pthread_barrier_wait(&ready);
  for (uint64_t x = 1;; ++*count) x = compute(x, 1000);
}

// serial: a tenth of the work is done under one lock.
static void serial(volatile uint64_t *count) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_barrier_wait(&ready);
  for (uint64_t x = 1;; ++*count) {
    x = compute(x, 900);
    pthread_mutex_lock(&lock);
    x = compute(x, 100);
    pthread_mutex_unlock(&lock);
  }
}

// triad: a = b + 3c over 64 MiB of each thread's own; a unit is 64 KiB of each
// array.
static void triad(volatile uint64_t *count) {
  size_t n = (64u << 20) / 3 / sizeof(double), step = (64 << 10) / sizeof(double);
  double *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b), *c = malloc(n * sizeof *c);
  must(a && b && c, "malloc");
  for (size_t i = 0; i < n; i++) a[i] = 0, b[i] = 1, c[i] = 2;
  pthread_barrier_wait(&ready);
  for (;;)
    for (size_t i = 0; i + step <= n; i += step, ++*count)
      for (size_t k = i; k < i + step; k++) a[k] = b[k] + 3 * c[k];
}

// chase: each load needs the one before it, over one cycle through memory that
// all share; a unit is 1,000 loads.
static char *cycle;
static size_t nodes;

static void make_cycle(size_t bytes) {
  nodes = bytes / NODE;
  must((cycle = aligned_alloc(4096, bytes)) != NULL, "aligned_alloc");
  uint32_t *order = malloc(nodes * sizeof *order);
  must(order != NULL, "malloc");
  for (size_t i = 0; i < nodes; i++) order[i] = i;
  uint64_t x = 88172645463325252u;
  for (size_t i = nodes - 1; i > 0; i--) { // Sattolo: one cycle
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    size_t j = x % i;
    uint32_t t = order[i];
    order[i] = order[j], order[j] = t;
  }
  for (size_t i = 0; i < nodes; i++) *(char **)(cycle + i * NODE) = cycle + (size_t)order[i] * NODE;
  free(order);
}

static void chase(volatile uint64_t *count) {
  uint64_t me = (uint64_t)((char *)count - (char *)cells) / CELL;
  char *at = cycle + (me * 2654435761u % nodes) * NODE;
  pthread_barrier_wait(&ready);
  for (;; ++*count)
    for (int i = 0; i < 1000; i++) {
      at = *(char **)at;
      __asm__ volatile("" : "+r"(at));
    }
}

static struct { const char *name; void (*work)(volatile uint64_t *); } kinds[] = {
  {"fetch", fetch}, {"busy", busy}, {"serial", serial}, {"triad", triad}, {"chase", chase},
};

static void (*work)(volatile uint64_t *);

static void *thread(void *count) { work(count); return NULL; }

int main(int argc, char **argv) {
  int n = argc == 3 ? atoi(argv[2]) : 0;
  for (size_t i = 0; n > 0 && i < sizeof kinds / sizeof *kinds; i++)
    if (strcmp(argv[1], kinds[i].name) == 0) work = kinds[i].work;
  if (!work || n > MOST) {
    fprintf(stderr, "usage: threads fetch|busy|serial|triad|chase N, N at most %d\n", MOST);
    return 2;
  }
  const char *file = getenv("COUNTER");
  int fd = file ? open(file, O_RDWR) : -1;
  if (fd < 0 && file) must(0, file);
  cells = mmap(NULL, MOST * CELL, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
  must(cells != MAP_FAILED, "mmap");
  if (work == chase) make_cycle(256u << 20);
  pthread_barrier_init(&ready, NULL, n);
  pthread_t t;
  for (int i = 0; i < n; i++) must(pthread_create(&t, NULL, thread, (char *)cells + i * CELL) == 0, "pthread_create");
  for (;;) pause();
}
