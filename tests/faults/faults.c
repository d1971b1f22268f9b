/* Faults of the system, for one process at a time: loaded with LD_PRELOAD, armed by a call, forgotten at exec.

   faults_full(folder, n): the n-th write (from 1) to a file below `folder`, and all after it, fail as on a full disk.
   faults_read_only(folder): nothing below `folder` can be opened for writing, made, renamed or deleted.
   faults_clock(): the time of day runs backwards, at the speed at which it should run forwards.
   faults_writes(): writes below the folder so far. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static char root[4096];
static long full_from, n_writes;
static int read_only, backwards;
static struct timespec armed_at;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void faults_full(const char *folder, long n) {
    snprintf(root, sizeof root, "%s", folder);
    full_from = n;
    __atomic_store_n(&n_writes, 0, __ATOMIC_SEQ_CST);
}
void faults_read_only(const char *folder) {
    snprintf(root, sizeof root, "%s", folder);
    read_only = 1;
}
void faults_clock(void) {
    REAL(clock_gettime)(CLOCK_REALTIME, &armed_at);
    backwards = 1;
}
long faults_writes(void) { return __atomic_load_n(&n_writes, __ATOMIC_SEQ_CST); }

static int below(const char *path) {
    size_t length = strlen(root);
    return length && path && strncmp(path, root, length) == 0 && (path[length] == '/' || !path[length]);
}
static int is_full(int descriptor) {
    char link[64], path[4096];
    if (!full_from) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!below(path)) return 0;
    return __atomic_add_fetch(&n_writes, 1, __ATOMIC_SEQ_CST) >= full_from;
}

#define REFUSE_IF_FULL(descriptor) if (is_full(descriptor)) { errno = ENOSPC; return -1; }
ssize_t write(int d, const void *data, size_t n) { REFUSE_IF_FULL(d) return REAL(write)(d, data, n); }
ssize_t writev(int d, const struct iovec *v, int n) { REFUSE_IF_FULL(d) return REAL(writev)(d, v, n); }
ssize_t pwrite64(int d, const void *b, size_t n, off64_t o) { REFUSE_IF_FULL(d) return REAL(pwrite64)(d, b, n, o); }

static int refused(const char *path) {
    if (read_only && below(path)) { errno = EROFS; return 1; }
    return 0;
}
static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

#define OPEN(name) int name(const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
    if (writes(flags) && refused(path)) return -1; return REAL(name)(path, flags, mode); }
#define OPENAT(name) int name(int at, const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
    if (writes(flags) && refused(path)) return -1; return REAL(name)(at, path, flags, mode); }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int mkdir(const char *path, mode_t mode) { return refused(path) ? -1 : REAL(mkdir)(path, mode); }
int rename(const char *from, const char *to) { return refused(to) ? -1 : REAL(rename)(from, to); }
int unlink(const char *path) { return refused(path) ? -1 : REAL(unlink)(path); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = REAL(clock_gettime)(clock, now);
    if (backwards && clock == CLOCK_REALTIME && result == 0) {
        now->tv_sec = 2 * armed_at.tv_sec - now->tv_sec;
    }
    return result;
}
