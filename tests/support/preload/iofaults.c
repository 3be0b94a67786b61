/* A library to be preloaded into a server under test: system calls and allocations that
 * fail, are slow, are cut short, or end the process, at the n-th call of their kind.
 *
 *   COULOMB_TEST_FAULTS       the control file; without it nothing is touched
 *   COULOMB_TEST_FAULTS_DIR   only files below this folder are concerned: sockets, logs
 *                             and libraries are left alone
 *   COULOMB_TEST_FAULTS_PORT  only connect() to this TCP port
 *
 * The control file is mapped shared, so that a test arms, disarms and counts by writing
 * and reading it while the server runs, and so that it outlives the server. It is an
 * array of 64-bit words in the machine's order (tests/js/support/iofaults.ts has the same
 * numbers):
 *
 *   0              MAGIC
 *   8 + kind       calls of that kind so far, over all processes
 *   64 + 32 * r    rule r of 8:
 *      + 0   kind + 1, 0 when the rule is off; written last
 *      + 1   action: 1 fail, 2 SIGKILL, 3 only wait
 *      + 2   errno
 *      + 3   n: calls until the rule applies, 1 being the next; counts down
 *      + 4   1: it applies to all later calls as well, 0: once
 *      + 5   writes: 1 half is written first, 2 half is written and reported as success
 *      + 6   microseconds to wait first
 *      + 7   how often it has applied
 *      + 8   text: applies only to paths that contain it (64 bytes)
 *      + 16  text: the path at which it applied first (128 bytes)
 *
 * Calls that glibc makes within itself (fopen's open, for example) are not seen; those of
 * SQLite, libpq and libevent are. The system is entered with syscall(), the allocator by
 * glibc's own names, so that nothing has to be looked up, allocated or initialised. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind {
    KIND_WRITE,
    KIND_SYNC,
    KIND_TRUNCATE, /* and preallocation */
    KIND_CREATE,   /* open with O_CREAT */
    KIND_OPEN,
    KIND_MKDIR,
    KIND_RENAME,
    KIND_UNLINK,
    KIND_READ, /* and sendfile */
    KIND_MEMORY,
    KIND_CONNECT,
    KIND_LIST, /* readdir */
    KIND_COUNT
};

enum action { ACTION_FAIL = 1, ACTION_KILL = 2, ACTION_WAIT = 3 };
enum partial { PARTIAL_NONE, PARTIAL_THEN_FAIL, PARTIAL_SHORT };

#define MAGIC       0x31544c5541464f49 /* "IOFAULT1" */
#define RULES       8
#define FILTER_MAX  64
#define PATH_SHOWN  128
#define PATH_BYTES  4096
#define FDS_TRACKED 65536

struct rule {
    _Atomic int64_t kind_1;
    _Atomic int64_t action;
    _Atomic int64_t error;
    _Atomic int64_t n;
    _Atomic int64_t sticky;
    _Atomic int64_t partial;
    _Atomic int64_t wait_us;
    _Atomic int64_t hits;
    char filter[FILTER_MAX];
    char path[PATH_SHOWN];
};

struct control {
    _Atomic int64_t magic;
    int64_t reserved[7];
    _Atomic int64_t calls[56];
    struct rule rules[RULES];
};

_Static_assert(sizeof(struct rule) == 256, "a rule has 32 words");
_Static_assert(offsetof(struct control, rules) == 512, "rules begin at word 64");

/* What to do with a call. */
struct verdict {
    enum action action; /* 0: nothing */
    enum partial partial;
};

static struct control *control;
static char dir[PATH_BYTES];
static size_t dir_len;
static int port;
/* Whose descriptors these are: 0 not known, 1 below dir, 2 others. */
static _Atomic unsigned char fds[FDS_TRACKED];

__attribute__((constructor)) static void set_up(void)
{
    const char *name = getenv("COULOMB_TEST_FAULTS");
    const char *under = getenv("COULOMB_TEST_FAULTS_DIR");
    const char *at = getenv("COULOMB_TEST_FAULTS_PORT");
    if (name == NULL)
        return;
    if (under != NULL && realpath(under, dir) == NULL)
        snprintf(dir, sizeof dir, "%s", under);
    dir_len = strlen(dir);
    if (at != NULL)
        port = (int)strtol(at, NULL, 10);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *map =
        mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (map == MAP_FAILED)
        return;
    struct control *c = map;
    if (c->magic == MAGIC)
        control = c;
}

/* --- Which calls are concerned --- */

static bool below_dir(const char *path)
{
    return dir_len > 0 && strncmp(path, dir, dir_len) == 0 &&
           (path[dir_len] == '/' || path[dir_len] == '\0');
}

/* The path of a descriptor; "" when it has none. */
static void path_of_fd(int fd, char *out, size_t size)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
}

/* The whole path of a name as the *at calls have it. */
static void path_of_name(int at, const char *name, char *out, size_t size)
{
    char base[PATH_BYTES] = "";
    if (name == NULL || name[0] == '/')
        snprintf(out, size, "%s", name == NULL ? "" : name);
    else if (at == AT_FDCWD && getcwd(base, sizeof base) == NULL)
        out[0] = '\0';
    else {
        if (at != AT_FDCWD)
            path_of_fd(at, base, sizeof base);
        int n = snprintf(out, size, "%s/%s", base, name);
        if (n < 0 || (size_t)n >= size)
            out[0] = '\0';
    }
}

static bool fd_concerned(int fd)
{
    if (control == NULL || dir_len == 0 || fd < 0)
        return false;
    unsigned char known = fd < FDS_TRACKED ? fds[fd] : 0;
    if (known == 0) {
        char path[PATH_BYTES];
        path_of_fd(fd, path, sizeof path);
        known = below_dir(path) ? 1 : 2;
        if (fd < FDS_TRACKED)
            fds[fd] = known;
    }
    return known == 1;
}

static void forget_fd(int fd)
{
    if (fd >= 0 && fd < FDS_TRACKED)
        fds[fd] = 0;
}

/* --- Rules --- */

static void wait_us(int64_t us)
{
    struct timespec t = {us / 1000000, (long)(us % 1000000) * 1000};
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, NULL);
}

/* Whether the rule applies to this call of its kind. */
static bool applies(struct rule *rule, const char *path)
{
    if (rule->filter[0] != '\0' && (path == NULL || strstr(path, rule->filter) == NULL))
        return false;
    int64_t n = atomic_fetch_sub(&rule->n, 1);
    return n == 1 || (n < 1 && rule->sticky);
}

static void note(struct rule *rule, const char *path)
{
    if (atomic_fetch_add(&rule->hits, 1) == 0 && path != NULL) {
        size_t len = strlen(path);
        const char *end = len < PATH_SHOWN ? path : path + len - (PATH_SHOWN - 1);
        memcpy(rule->path, end, strlen(end) + 1);
    }
}

/* Counts the call and says what becomes of it; errno is set when it is to fail. `path` is
 * NULL for kinds without. A kill that writes nothing first happens here. */
static struct verdict judge(enum kind kind, const char *path)
{
    struct verdict verdict = {0, PARTIAL_NONE};
    atomic_fetch_add(&control->calls[kind], 1);
    for (size_t r = 0; r < RULES; r++) {
        struct rule *rule = &control->rules[r];
        if (rule->kind_1 != kind + 1 || !applies(rule, path))
            continue;
        note(rule, path);
        if (rule->wait_us > 0)
            wait_us(rule->wait_us);
        if (rule->action == ACTION_WAIT || verdict.action != 0)
            continue;
        verdict.action = (enum action)rule->action;
        verdict.partial = (enum partial)rule->partial;
        errno = (int)rule->error;
    }
    return verdict;
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        syscall(SYS_pause);
}

/* For calls that have no half: true when the call is to fail, with errno. */
static bool refused(enum kind kind, const char *path)
{
    struct verdict verdict = judge(kind, path);
    if (verdict.action == ACTION_KILL)
        die();
    return verdict.action == ACTION_FAIL;
}

static bool armed(enum kind kind)
{
    for (size_t r = 0; r < RULES; r++)
        if (control->rules[r].kind_1 == kind + 1)
            return true;
    return false;
}

static struct verdict judge_fd(enum kind kind, int fd)
{
    char path[PATH_BYTES] = "";
    if (armed(kind))
        path_of_fd(fd, path, sizeof path);
    return judge(kind, path);
}

static bool refused_fd(enum kind kind, int fd)
{
    if (!fd_concerned(fd))
        return false;
    struct verdict verdict = judge_fd(kind, fd);
    if (verdict.action == ACTION_KILL)
        die();
    return verdict.action == ACTION_FAIL;
}

static bool refused_name(enum kind kind, int at, const char *name)
{
    char path[PATH_BYTES];
    if (control == NULL || dir_len == 0)
        return false;
    path_of_name(at, name, path, sizeof path);
    return below_dir(path) && refused(kind, path);
}

/* --- Writing --- */

#define NO_OFFSET (-1)

static ssize_t write_plain(int fd, const void *buf, size_t n, off_t offset)
{
    if (offset == NO_OFFSET)
        return syscall(SYS_write, fd, buf, n);
    return syscall(SYS_pwrite64, fd, buf, n, offset);
}

/* What is left of a write of n bytes after the verdict: true when *result is its end. */
static bool write_ends(struct verdict verdict, int fd, const void *buf, size_t n,
                       off_t offset, ssize_t *result)
{
    int error = errno;
    ssize_t done = 0;
    if (verdict.action == 0)
        return false;
    if (verdict.partial != PARTIAL_NONE && n > 1)
        done = write_plain(fd, buf, n / 2, offset);
    if (verdict.action == ACTION_KILL)
        die();
    errno = error;
    *result = verdict.partial == PARTIAL_SHORT && done > 0 ? done : -1;
    return true;
}

static ssize_t write_at(int fd, const void *buf, size_t n, off_t offset)
{
    ssize_t result;
    if (fd_concerned(fd) &&
        write_ends(judge_fd(KIND_WRITE, fd), fd, buf, n, offset, &result))
        return result;
    return write_plain(fd, buf, n, offset);
}

static ssize_t writev_at(int fd, const struct iovec *iov, int count, off_t offset)
{
    ssize_t result;
    if (fd_concerned(fd)) {
        struct verdict verdict = judge_fd(KIND_WRITE, fd);
        /* Of several pieces the first is the half. */
        const void *buf = count > 0 ? iov[0].iov_base : NULL;
        size_t n = count > 0 ? iov[0].iov_len : 0;
        if (count > 1)
            n *= 2;
        if (write_ends(verdict, fd, buf, n, offset, &result))
            return result;
    }
    if (offset == NO_OFFSET)
        return syscall(SYS_writev, fd, iov, count);
    return syscall(SYS_pwritev, fd, iov, count, offset, 0);
}

ssize_t write(int fd, const void *buf, size_t n)
{
    return write_at(fd, buf, n, NO_OFFSET);
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
    return write_at(fd, buf, n, offset);
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t offset)
{
    return write_at(fd, buf, n, offset);
}

ssize_t writev(int fd, const struct iovec *iovec, int count)
{
    return writev_at(fd, iovec, count, NO_OFFSET);
}

ssize_t pwritev(int fd, const struct iovec *iovec, int count, off_t offset)
{
    return writev_at(fd, iovec, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *iovec, int count, off64_t offset)
{
    return writev_at(fd, iovec, count, offset);
}

int ftruncate(int fd, off_t length)
{
    if (refused_fd(KIND_TRUNCATE, fd))
        return -1;
    return (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    return ftruncate(fd, length);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    if (refused_fd(KIND_TRUNCATE, fd))
        return -1;
    return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
    return fallocate(fd, mode, offset, len);
}

/* These two return the error. */
int posix_fallocate(int fd, off_t offset, off_t len)
{
    return fallocate(fd, 0, offset, len) == 0 ? 0 : errno;
}

int posix_fallocate64(int fd, off64_t offset, off64_t len)
{
    return posix_fallocate(fd, offset, len);
}

/* --- Making durable --- */

int fsync(int fd)
{
    return refused_fd(KIND_SYNC, fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fildes)
{
    return refused_fd(KIND_SYNC, fildes) ? -1 : (int)syscall(SYS_fdatasync, fildes);
}

int syncfs(int fd)
{
    return refused_fd(KIND_SYNC, fd) ? -1 : (int)syscall(SYS_syncfs, fd);
}

int sync_file_range(int fd, off64_t offset, off64_t count, unsigned flags)
{
    if (refused_fd(KIND_SYNC, fd))
        return -1;
    return (int)syscall(SYS_sync_file_range, fd, offset, count, flags);
}

/* --- Names --- */

static int open_at(int at, const char *file, int flags, mode_t mode)
{
    if (refused_name((flags & O_CREAT) != 0 ? KIND_CREATE : KIND_OPEN, at, file))
        return -1;
    int fd = (int)syscall(SYS_openat, at, file, flags, mode);
    forget_fd(fd);
    return fd;
}

static bool takes_mode(int flags)
{
    return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

#define MODE_OF(flags, mode)                                                             \
    do {                                                                                 \
        if (takes_mode(flags)) {                                                         \
            va_list args;                                                                \
            va_start(args, flags);                                                       \
            (mode) = (mode_t)va_arg(args, unsigned);                                     \
            va_end(args);                                                                \
        }                                                                                \
    } while (0)

int open(const char *file, int oflag, ...)
{
    mode_t mode = 0;
    MODE_OF(oflag, mode);
    return open_at(AT_FDCWD, file, oflag, mode);
}

int open64(const char *file, int oflag, ...)
{
    mode_t mode = 0;
    MODE_OF(oflag, mode);
    return open_at(AT_FDCWD, file, oflag, mode);
}

int openat(int fd, const char *file, int oflag, ...)
{
    mode_t mode = 0;
    MODE_OF(oflag, mode);
    return open_at(fd, file, oflag, mode);
}

int openat64(int fd, const char *file, int oflag, ...)
{
    mode_t mode = 0;
    MODE_OF(oflag, mode);
    return open_at(fd, file, oflag, mode);
}

int creat(const char *file, mode_t mode)
{
    return open_at(AT_FDCWD, file, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int close(int fd)
{
    forget_fd(fd);
    return (int)syscall(SYS_close, fd);
}

int dup2(int fd, int fd2)
{
    forget_fd(fd2);
    return fd == fd2 ? fd : (int)syscall(SYS_dup3, fd, fd2, 0);
}

int mkdirat(int fd, const char *path, mode_t mode)
{
    if (refused_name(KIND_MKDIR, fd, path))
        return -1;
    return (int)syscall(SYS_mkdirat, fd, path, mode);
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

int renameat2(int oldfd, const char *old, int newfd, const char *new, unsigned flags)
{
    if (refused_name(KIND_RENAME, newfd, new))
        return -1;
    return (int)syscall(SYS_renameat2, oldfd, old, newfd, new, flags);
}

int renameat(int oldfd, const char *old, int newfd, const char *new)
{
    return renameat2(oldfd, old, newfd, new, 0);
}

int rename(const char *old, const char *new)
{
    return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0);
}

int linkat(int fromfd, const char *from, int tofd, const char *to, int flags)
{
    if (refused_name(KIND_RENAME, tofd, to))
        return -1;
    return (int)syscall(SYS_linkat, fromfd, from, tofd, to, flags);
}

int link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int fd, const char *name, int flag)
{
    if (refused_name(KIND_UNLINK, fd, name))
        return -1;
    return (int)syscall(SYS_unlinkat, fd, name, flag);
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

/* glibc has it under both names; at a folder's end nothing is said either, but errno is 0. */
struct dirent *readdir(DIR *dirp)
{
    return refused_fd(KIND_LIST, dirfd(dirp)) ? NULL : (struct dirent *)readdir64(dirp);
}

/* --- Reading --- */

ssize_t read(int fd, void *buf, size_t nbytes)
{
    return refused_fd(KIND_READ, fd) ? -1 : syscall(SYS_read, fd, buf, nbytes);
}

ssize_t readv(int fd, const struct iovec *iovec, int count)
{
    return refused_fd(KIND_READ, fd) ? -1 : syscall(SYS_readv, fd, iovec, count);
}

ssize_t pread(int fd, void *buf, size_t nbytes, off_t offset)
{
    return refused_fd(KIND_READ, fd) ? -1 : syscall(SYS_pread64, fd, buf, nbytes, offset);
}

ssize_t pread64(int fd, void *buf, size_t nbytes, off64_t offset)
{
    return pread(fd, buf, nbytes, offset);
}

ssize_t preadv(int fd, const struct iovec *iovec, int count, off_t offset)
{
    if (refused_fd(KIND_READ, fd))
        return -1;
    return syscall(SYS_preadv, fd, iovec, count, offset, 0);
}

ssize_t preadv64(int fd, const struct iovec *iovec, int count, off64_t offset)
{
    return preadv(fd, iovec, count, offset);
}

ssize_t sendfile(int out_fd, int in_fd, off_t *offset, size_t count)
{
    if (refused_fd(KIND_READ, in_fd))
        return -1;
    return syscall(SYS_sendfile, out_fd, in_fd, offset, count);
}

ssize_t sendfile64(int out_fd, int in_fd, off64_t *offset, size_t count)
{
    return sendfile(out_fd, in_fd, offset, count);
}

/* What fortified headers make of read, pread and open. */
// NOLINTBEGIN(bugprone-reserved-identifier)
ssize_t __read_chk(int fd, void *buf, size_t nbytes, size_t size);
ssize_t __pread_chk(int fd, void *buf, size_t nbytes, off_t offset, size_t size);
ssize_t __pread64_chk(int fd, void *buf, size_t nbytes, off64_t offset, size_t size);
int __open_2(const char *file, int oflag);
int __open64_2(const char *file, int oflag);
int __openat_2(int fd, const char *file, int oflag);
int __openat64_2(int fd, const char *file, int oflag);

ssize_t __read_chk(int fd, void *buf, size_t nbytes, size_t size)
{
    return read(fd, buf, nbytes < size ? nbytes : size);
}

ssize_t __pread_chk(int fd, void *buf, size_t nbytes, off_t offset, size_t size)
{
    return pread(fd, buf, nbytes < size ? nbytes : size, offset);
}

ssize_t __pread64_chk(int fd, void *buf, size_t nbytes, off64_t offset, size_t size)
{
    return pread(fd, buf, nbytes < size ? nbytes : size, offset);
}

int __open_2(const char *file, int oflag)
{
    return open_at(AT_FDCWD, file, oflag, 0);
}

int __open64_2(const char *file, int oflag)
{
    return open_at(AT_FDCWD, file, oflag, 0);
}

int __openat_2(int fd, const char *file, int oflag)
{
    return open_at(fd, file, oflag, 0);
}

int __openat64_2(int fd, const char *file, int oflag)
{
    return open_at(fd, file, oflag, 0);
}

/* --- Memory: glibc's own names of its allocator --- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t nmemb, size_t size);
void *__libc_realloc(void *ptr, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
// NOLINTEND(bugprone-reserved-identifier)

static bool no_memory(void)
{
    if (control == NULL)
        return false;
    int before = errno;
    if (refused(KIND_MEMORY, NULL)) {
        errno = ENOMEM;
        return true;
    }
    errno = before;
    return false;
}

void *malloc(size_t size)
{
    return no_memory() ? NULL : __libc_malloc(size);
}

void *calloc(size_t nmemb, size_t size)
{
    return no_memory() ? NULL : __libc_calloc(nmemb, size);
}

void *realloc(void *ptr, size_t size)
{
    return no_memory() ? NULL : __libc_realloc(ptr, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return no_memory() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **memptr, size_t alignment, size_t size)
{
    void *p = no_memory() ? NULL : __libc_memalign(alignment, size);
    if (p == NULL)
        return ENOMEM;
    *memptr = p;
    return 0;
}

/* --- Postgres --- */

static int port_of(const struct sockaddr *addr, socklen_t len)
{
    struct sockaddr_in six_or_four; /* the port is at the same place in both */
    if (addr == NULL || len < sizeof six_or_four)
        return -1;
    if (addr->sa_family != AF_INET && addr->sa_family != AF_INET6)
        return -1;
    memcpy(&six_or_four, addr, sizeof six_or_four);
    return ntohs(six_or_four.sin_port);
}

/* With _GNU_SOURCE glibc declares the address as a union of pointers. */
int connect(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
    const struct sockaddr *to = addr.__sockaddr__;
    if (control != NULL && port != 0 && port_of(to, len) == port &&
        refused(KIND_CONNECT, NULL))
        return -1;
    return (int)syscall(SYS_connect, fd, to, len);
}
