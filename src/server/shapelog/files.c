/* Descriptors on demand: a shape's own files are opened when they are needed and kept open in
 * order of use, max_open_files of them, so that a hundred thousand idle shapes cost none.
 * A file that is evicted (or whose shape is removed) stays open for those who hold a
 * reference. */
#include "server/shapelog/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void shapelog_files_init(struct files *files, unsigned max_count)
{
    pthread_mutex_init(&files->lock, NULL);
    list_init(&files->order);
    files->count = 0;
    files->max_count = max_count ? max_count : 1;
}

void shapelog_files_fini(struct files *files)
{
    pthread_mutex_destroy(&files->lock);
}

void shapelog_file_name(char out[PATH_BYTES], uint64_t id, uint32_t epoch,
                        enum file_kind kind)
{
    static const char *const endings[] = {
        [FILE_LOG] = "log", [FILE_INDEX] = "idx", [FILE_SNAPSHOT] = "snapshot"};

    snprintf(out, PATH_BYTES, "%" PRIu64 "-%" PRIu32 ".%s", id, epoch, endings[kind]);
}

void shapelog_file_put(struct file *file)
{
    if (atomic_fetch_sub(&file->hold.refs, 1) != 1)
        return;
    close(file->fd);
    free(file);
}

/* Out of the cache; the caller drops the cache's reference, unlocked. Locked. */
static struct file *evict(struct files *files, struct file *file)
{
    *file->slot = NULL;
    file->slot = NULL;
    list_remove(&file->link);
    files->count--;
    return file;
}

/* The cached file with a new reference, or NULL. Locked. */
static struct file *cached(struct files *files, struct file **slot)
{
    struct file *file = *slot;

    if (!file)
        return NULL;
    atomic_fetch_add(&file->hold.refs, 1);
    list_remove(&file->link);
    list_push(&files->order, &file->link);
    return file;
}

/* Puts the new file into its slot, unless another thread was faster. Takes file. */
static struct file *cache(struct files *files, struct file **slot, struct file *file)
{
    struct file *evicted = NULL;
    struct file *other;

    pthread_mutex_lock(&files->lock);
    other = cached(files, slot);
    if (!other) {
        if (files->count >= files->max_count)
            evicted = evict(files, LIST_ENTRY(files->order.next, struct file, link));
        atomic_fetch_add(&file->hold.refs, 1);
        file->slot = slot;
        *slot = file;
        list_push(&files->order, &file->link);
        files->count++;
    }
    pthread_mutex_unlock(&files->lock);
    if (evicted)
        shapelog_file_put(evicted);
    if (!other)
        return file;
    shapelog_file_put(file);
    return other;
}

static struct file *file_new(int fd)
{
    struct file *file = malloc(sizeof(*file));

    if (!file)
        return NULL;
    atomic_init(&file->hold.refs, 1);
    file->hold.kind = HOLD_FILE;
    file->fd = fd;
    file->slot = NULL;
    list_init(&file->link);
    return file;
}

int shapelog_file_get(struct shapelog *log, struct file **slot, const char *name,
                      bool create, struct file **out, struct err *err)
{
    struct files *files = &log->files;
    struct file *file;
    int fd;

    pthread_mutex_lock(&files->lock);
    *out = cached(files, slot);
    pthread_mutex_unlock(&files->lock);
    if (*out)
        return 0;
    fd = openat(log->shapes_fd, name,
                O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);
    if (fd < 0)
        return err_errno(err, errno == ENOENT && !create ? ERR_CORRUPT : ERR_IO, errno,
                         "can't open shapes/%s", name);
    file = file_new(fd);
    if (!file) {
        close(fd);
        return err_set(err, ERR_MEMORY, "no memory to open shapes/%s", name);
    }
    *out = cache(files, slot, file);
    return 0;
}

void shapelog_file_forget(struct files *files, struct file **slot)
{
    struct file *file;

    pthread_mutex_lock(&files->lock);
    file = *slot ? evict(files, *slot) : NULL;
    pthread_mutex_unlock(&files->lock);
    if (file)
        shapelog_file_put(file);
}

int shapelog_read_at(int fd, void *to, size_t n, uint64_t pos, const char *name,
                     struct err *err)
{
    size_t done = 0;

    while (done < n) {
        ssize_t got = pread(fd, (char *)to + done, n - done, (off_t)(pos + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) /* EIO: the disk has lost these bytes */
            return err_errno(err, errno == EIO ? ERR_CORRUPT : ERR_IO, errno,
                             "can't read %s at byte %" PRIu64, name, pos + done);
        if (got == 0)
            return err_set(err, ERR_CORRUPT,
                           "%s ends at byte %" PRIu64 ", before byte %" PRIu64, name,
                           pos + done, pos + n);
        done += (size_t)got;
    }
    return 0;
}

int shapelog_write_at(int fd, const void *from, size_t n, uint64_t pos, const char *name,
                      struct err *err)
{
    size_t done = 0;

    while (done < n) {
        ssize_t put =
            pwrite(fd, (const char *)from + done, n - done, (off_t)(pos + done));

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return err_errno(err, ERR_IO, put < 0 ? errno : ENOSPC,
                             "can't write %s at byte %" PRIu64, name, pos + done);
        done += (size_t)put;
    }
    return 0;
}

int shapelog_sync_dir(int dir_fd, const char *name, struct err *err)
{
    return fsync(dir_fd) == 0
               ? 0
               : err_errno(err, ERR_IO, errno, "can't sync the folder %s", name);
}

int shapelog_each_file(int dir_fd, const char *name, shapelog_file_fn *fn, void *ctx,
                       struct err *err)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    int rc = 0;

    if (!dir) {
        rc = err_errno(err, ERR_IO, errno, "can't list %s", name);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    while (rc == 0) {
        errno = 0; /* what tells an error from the end */
        entry = readdir(dir);
        if (!entry && errno != 0)
            rc = err_errno(err, ERR_IO, errno, "can't list %s", name);
        if (!entry)
            break;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = fn(ctx, entry->d_name, err);
    }
    closedir(dir);
    return rc;
}
