/* A log's folder removed whole. */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

#include "server/shapelog/shapelog.h"

#define WALK_DESCRIPTORS 8

static int remove_one(const char *path, const struct stat *st, int kind,
                      struct FTW *where)
{
    (void)st;
    (void)where;
    return (kind == FTW_DP ? rmdir(path) : unlink(path)) == 0 ? 0 : errno;
}

int shapelog_destroy(const char *dir, struct err *err)
{
    int failed = nftw(dir, remove_one, WALK_DESCRIPTORS, FTW_DEPTH | FTW_PHYS);
    if (failed != 0)
        return err_errno(err, ERR_IO, failed > 0 ? failed : errno,
                         "the storage folder \"%s\" can't be removed", dir);
    return 0;
}
