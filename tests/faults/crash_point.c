/* Preloaded into the processes under test: one that is armed dies by SIGKILL at its k-th step.

   A step is a call that changes a file system below a folder: open for writing, write, truncate,
   fsync, rename, unlink, mkdir. With TEAR a write that is cut leaves half of its bytes; with
   WRITES_ONLY nothing else is a step, nor is a write of one byte, which has no half. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long at, count;
static int torn;
enum { TEAR = 1, WRITES_ONLY = 2 };

void crash_point_arm(const char *below, long step, int tear) {
    strncpy(folder, below, sizeof folder - 1);
    at = step;
    torn = tear;
    __atomic_store_n(&count, 0, __ATOMIC_SEQ_CST);
}

long crash_point_count(void) { return __atomic_load_n(&count, __ATOMIC_SEQ_CST); }

/* 1 where this step is the last one; the caller may still do half of it. */
static int due_of(const char *path, int divisible) {
    if (!folder[0] || strncmp(path, folder, strlen(folder))) return 0;
    if (torn == WRITES_ONLY && !divisible) return 0;
    return __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST) == at;
}

static int due(const char *path) { return due_of(path, 0); }

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static const char *path_of(int fd, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, buffer, PATH_MAX - 1);
    buffer[size < 0 ? 0 : size] = 0;
    return buffer;
}

static const char *path_at(int fd, const char *path, char *buffer) {
    if (path[0] == '/' || fd == AT_FDCWD) return path;
    return path_of(fd, buffer);
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define ON_FD(type, name, declared, passed) \
    type name declared { \
        REAL(name); \
        char buffer[PATH_MAX]; \
        if (folder[0] && due(path_of(fd, buffer))) die(); \
        return real passed; \
    }

#define ON_PATH(name, declared, passed, path) \
    int name declared { \
        REAL(name); \
        char buffer[PATH_MAX]; \
        (void)buffer; \
        if (folder[0] && due(path)) die(); \
        return real passed; \
    }

#define WRITE(name, declared, passed, half) \
    ssize_t name declared { \
        REAL(name); \
        char buffer[PATH_MAX]; \
        if (folder[0] && due_of(path_of(fd, buffer), n > 1)) { \
            if (torn) half; \
            die(); \
        } \
        return real passed; \
    }

WRITE(write, (int fd, const void *b, size_t n), (fd, b, n), (void)!real(fd, b, n / 2))
WRITE(pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o),
      (void)!real(fd, b, n / 2, o))
WRITE(pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o),
      (void)!real(fd, b, n / 2, o))
WRITE(writev, (int fd, const struct iovec *v, int n), (fd, v, n), (void)!real(fd, v, n / 2))
ON_FD(int, ftruncate, (int fd, off_t size), (fd, size))
ON_FD(int, ftruncate64, (int fd, off64_t size), (fd, size))
ON_FD(int, fsync, (int fd), (fd))
ON_FD(int, fdatasync, (int fd), (fd))
ON_PATH(rename, (const char *from, const char *to), (from, to), to)
ON_PATH(renameat, (int a, const char *from, int b, const char *to), (a, from, b, to),
        path_at(b, to, buffer))
ON_PATH(unlink, (const char *path), (path), path)
ON_PATH(rmdir, (const char *path), (path), path)
ON_PATH(unlinkat, (int fd, const char *path, int flags), (fd, path, flags),
        path_at(fd, path, buffer))
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode), path)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = va_arg(more, mode_t); \
        va_end(more); \
        if ((flags & (O_CREAT | O_TRUNC)) && folder[0] && due(path)) die(); \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
