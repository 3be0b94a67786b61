/* System calls and allocations that fail, or end the process, at the n-th call; or something
 * else happens there first. Definitions in the executable come before those of the C library,
 * for this module and for SQLite alike. Included by one .c file of a test. */
#ifndef COULOMB_TESTS_SHAPELOG_FAULTS_H
#define COULOMB_TESTS_SHAPELOG_FAULTS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum fault {
    FAULT_NONE,
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_OPEN,
    FAULT_MKDIR,
    FAULT_READ,
    FAULT_MEMORY,
    FAULT_RENAME,
    FAULT_UNLINK,
    FAULT_LIST,
    FAULT_COUNT
};

#define FAULT_EXIT_CODE 7

static struct {
    _Atomic int fault;
    _Atomic long countdown;
    _Atomic int error;          /* errno, or 0: end the process */
    _Atomic bool torn;          /* half of the write is done first */
    _Atomic bool sticky;        /* all later calls fail as well */
    void (*_Atomic hook)(void); /* is called at the n-th, which does not fail then */
} faults;

static void faults_arm(enum fault fault, long n, int error, bool torn, bool sticky)
{
    atomic_store(&faults.countdown, n);
    atomic_store(&faults.error, error);
    atomic_store(&faults.torn, torn);
    atomic_store(&faults.sticky, sticky);
    atomic_store(&faults.fault, fault);
}

static inline void faults_hook(enum fault fault, long n, void (*hook)(void))
{
    atomic_store(&faults.hook, hook);
    faults_arm(fault, n, 0, false, false);
}

/* Whether the fault was reached. */
static inline bool faults_disarm(void)
{
    atomic_store(&faults.fault, FAULT_NONE);
    atomic_store(&faults.hook, NULL);
    return atomic_load(&faults.countdown) <= 0;
}

static bool fault_now(enum fault fault)
{
    void (*hook)(void) = atomic_load(&faults.hook);
    long n;

    if (atomic_load(&faults.fault) != (int)fault)
        return false;
    n = atomic_fetch_sub(&faults.countdown, 1);
    if (n > 1 || (n < 1 && !atomic_load(&faults.sticky)))
        return false;
    if (hook) {
        hook();
        return false;
    }
    errno = atomic_load(&faults.error);
    return true;
}

static void fault_exit(void)
{
    if (atomic_load(&faults.error) == 0)
        _exit(FAULT_EXIT_CODE);
}

/* For calls that have no half: whether it is to fail. */
static bool refused(enum fault fault)
{
    if (!fault_now(fault))
        return false;
    fault_exit();
    return true;
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
    if (fault_now(FAULT_WRITE)) {
        if (atomic_load(&faults.torn))
            syscall(SYS_pwrite64, fd, buf, n / 2, offset);
        fault_exit();
        return -1;
    }
    return syscall(SYS_pwrite64, fd, buf, n, offset);
}

/* The names with 64 and without `at` are SQLite's, which may hold locks that others here need:
 * no hook is called there. */
static bool hooked(void)
{
    return atomic_load(&faults.hook) != NULL;
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t offset)
{
    return hooked() ? syscall(SYS_pwrite64, fd, buf, n, offset)
                    : pwrite(fd, buf, n, offset);
}

ssize_t pwritev(int fd, const struct iovec *iovec, int count, off_t offset)
{
    if (fault_now(FAULT_WRITE)) {
        if (atomic_load(&faults.torn)) /* without the frame's index */
            syscall(SYS_pwritev, fd, iovec, count - 1, offset, 0);
        fault_exit();
        return -1;
    }
    return syscall(SYS_pwritev, fd, iovec, count, offset, 0);
}

ssize_t pread(int fd, void *buf, size_t nbytes, off_t offset)
{
    return refused(FAULT_READ) ? -1 : syscall(SYS_pread64, fd, buf, nbytes, offset);
}

ssize_t pread64(int fd, void *buf, size_t nbytes, off64_t offset)
{
    return pread(fd, buf, nbytes, offset);
}

int fdatasync(int fildes)
{
    return refused(FAULT_SYNC) ? -1 : (int)syscall(SYS_fdatasync, fildes);
}

int fsync(int fd)
{
    return refused(FAULT_SYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

#define MODE_OF(oflag, mode)                                                             \
    do {                                                                                 \
        if ((oflag)&O_CREAT) {                                                           \
            va_list args;                                                                \
            va_start(args, oflag);                                                       \
            (mode) = (mode_t)va_arg(args, unsigned);                                     \
            va_end(args);                                                                \
        }                                                                                \
    } while (0)

int openat(int fd, const char *file, int oflag, ...)
{
    mode_t mode = 0;

    MODE_OF(oflag, mode);
    return refused(FAULT_OPEN) ? -1 : (int)syscall(SYS_openat, fd, file, oflag, mode);
}

int open64(const char *file, int oflag, ...)
{
    mode_t mode = 0;

    MODE_OF(oflag, mode);
    return !hooked() && refused(FAULT_OPEN)
               ? -1
               : (int)syscall(SYS_openat, AT_FDCWD, file, oflag, mode);
}

int unlink(const char *name)
{
    return !hooked() && refused(FAULT_UNLINK)
               ? -1
               : (int)syscall(SYS_unlinkat, AT_FDCWD, name, 0);
}

int unlinkat(int fd, const char *name, int flag)
{
    return refused(FAULT_UNLINK) ? -1 : (int)syscall(SYS_unlinkat, fd, name, flag);
}

int renameat2(int oldfd, const char *old, int newfd, const char *new, unsigned flags)
{
    return refused(FAULT_RENAME)
               ? -1
               : (int)syscall(SYS_renameat2, oldfd, old, newfd, new, flags);
}

int renameat(int oldfd, const char *old, int newfd, const char *new)
{
    return renameat2(oldfd, old, newfd, new, 0);
}

/* The C library has it under both names. */
struct dirent *readdir(DIR *dirp)
{
    return refused(FAULT_LIST) ? NULL : (struct dirent *)readdir64(dirp);
}

int mkdirat(int fd, const char *path, mode_t mode)
{
    return refused(FAULT_MKDIR) ? -1 : (int)syscall(SYS_mkdirat, fd, path, mode);
}

#ifndef COULOMB_SANITIZED /* whose allocator must stay in charge */
// glibc's own names of its allocator. NOLINTBEGIN(bugprone-reserved-identifier)
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t nmemb, size_t size);
void *__libc_realloc(void *ptr, size_t size);
// NOLINTEND(bugprone-reserved-identifier)

void *malloc(size_t size)
{
    return refused(FAULT_MEMORY) ? NULL : __libc_malloc(size);
}

void *calloc(size_t nmemb, size_t size)
{
    return refused(FAULT_MEMORY) ? NULL : __libc_calloc(nmemb, size);
}

void *realloc(void *ptr, size_t size)
{
    return refused(FAULT_MEMORY) ? NULL : __libc_realloc(ptr, size);
}
#endif

#endif
