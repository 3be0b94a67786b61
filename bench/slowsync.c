/* Preloaded into the server: fsync and fdatasync take SLOWSYNC_US microseconds longer, as on a
 * disk that has to be waited for. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wait_for_disk(void)
{
    const char *us = getenv("SLOWSYNC_US");

    if (us)
        usleep((useconds_t)strtoul(us, NULL, 10));
}

int fdatasync(int fildes)
{
    wait_for_disk();
    return (int)syscall(SYS_fdatasync, fildes);
}

int fsync(int fd)
{
    wait_for_disk();
    return (int)syscall(SYS_fsync, fd);
}
