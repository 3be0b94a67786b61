/* System calls and allocations that fail, or end the process, at the n-th call.
 * Definitions in the executable come before those of the C library, for this module and
 * for SQLite alike. Included by one .c file of a test. */
#ifndef COULOMB_TESTS_SHAPELOG_FAULTS_H
#define COULOMB_TESTS_SHAPELOG_FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum fault {
    FAULT_NONE,
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_TRUNCATE,
    FAULT_OPEN,
    FAULT_RENAME,
    FAULT_MKDIR,
    FAULT_READ,
    FAULT_MEMORY,
    FAULT_COUNT
};

#define FAULT_EXIT_CODE 7

static struct {
    _Atomic int fault;
    _Atomic long countdown;
    _Atomic int error;   /* errno, or 0: end the process */
    _Atomic bool torn;   /* half of the write is done first */
    _Atomic bool sticky; /* all later calls fail as well */
} faults;

static void faults_arm(enum fault fault, long n, int error, bool torn, bool sticky)
{
    atomic_store(&faults.countdown, n);
    atomic_store(&faults.error, error);
    atomic_store(&faults.torn, torn);
    atomic_store(&faults.sticky, sticky);
    atomic_store(&faults.fault, fault);
}

/* Whether the fault was reached. */
static inline bool faults_disarm(void)
{
    atomic_store(&faults.fault, FAULT_NONE);
    return atomic_load(&faults.countdown) <= 0;
}

static bool fault_now(enum fault fault)
{
    long n;

    if (atomic_load(&faults.fault) != (int)fault)
        return false;
    n = atomic_fetch_sub(&faults.countdown, 1);
    if (n > 1 || (n < 1 && !atomic_load(&faults.sticky)))
        return false;
    errno = atomic_load(&faults.error);
    return true;
}

static void fault_exit(void)
{
    if (atomic_load(&faults.error) == 0)
        _exit(FAULT_EXIT_CODE);
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t pos)
{
    if (fault_now(FAULT_WRITE)) {
        if (atomic_load(&faults.torn))
            syscall(SYS_pwrite64, fd, from, n / 2, pos);
        fault_exit();
        return -1;
    }
    return syscall(SYS_pwrite64, fd, from, n, pos);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off64_t pos)
{
    return pwrite(fd, from, n, pos);
}

ssize_t pread(int fd, void *to, size_t n, off_t pos)
{
    return fault_now(FAULT_READ) ? -1 : syscall(SYS_pread64, fd, to, n, pos);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t pos)
{
    return pread(fd, to, n, pos);
}

int ftruncate64(int fd, off64_t size)
{
    return ftruncate(fd, size);
}

int fdatasync(int fd)
{
    if (fault_now(FAULT_SYNC)) {
        fault_exit();
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    if (fault_now(FAULT_SYNC)) {
        fault_exit();
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int ftruncate(int fd, off_t size)
{
    if (fault_now(FAULT_TRUNCATE)) {
        fault_exit();
        return -1;
    }
    return (int)syscall(SYS_ftruncate, fd, size);
}

int openat(int dir, const char *path, int flags, ...)
{
    mode_t mode = 0;

    if (flags & O_CREAT) {
        va_list args;

        va_start(args, flags);
        mode = (mode_t)va_arg(args, unsigned);
        va_end(args);
    }
    return fault_now(FAULT_OPEN) ? -1 : (int)syscall(SYS_openat, dir, path, flags, mode);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    if (fault_now(FAULT_RENAME)) {
        fault_exit();
        return -1;
    }
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    return fault_now(FAULT_MKDIR) ? -1 : (int)syscall(SYS_mkdirat, dir, path, mode);
}

#ifndef COULOMB_SANITIZED /* whose allocator must stay in charge */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *old, size_t n);

void *malloc(size_t n)
{
    return fault_now(FAULT_MEMORY) ? NULL : __libc_malloc(n);
}

void *calloc(size_t count, size_t n)
{
    return fault_now(FAULT_MEMORY) ? NULL : __libc_calloc(count, n);
}

void *realloc(void *old, size_t n)
{
    return fault_now(FAULT_MEMORY) ? NULL : __libc_realloc(old, n);
}
#endif

#endif
