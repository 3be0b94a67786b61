/* Descriptors on demand: a shape's files are opened when they are needed and kept open in
 * order of use, max_open_files of them, so that a hundred thousand idle shapes cost none.
 * A file that is evicted (or whose shape is removed) stays open for those who hold a
 * reference.
 *
 * A removed shape's directory has moved to the trash under the same name; handles are
 * never used twice, so looking there second is safe. */
#include "server/shapelog/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void shapelog_files_init(struct files *files, unsigned max_count, int shapes_fd,
                         int trash_fd)
{
    pthread_mutex_init(&files->lock, NULL);
    list_init(&files->order);
    files->count = 0;
    files->max_count = max_count ? max_count : 1;
    files->shapes_fd = shapes_fd;
    files->trash_fd = trash_fd;
}

void shapelog_files_fini(struct files *files)
{
    pthread_mutex_destroy(&files->lock);
}

const char *shapelog_file_name(enum file_kind kind)
{
    switch (kind) {
    case FILE_LOG:
        return "log.json";
    case FILE_INDEX:
        return "log.idx";
    case FILE_SNAPSHOT:
        return "snapshot.json";
    case FILE_KIND_COUNT:
        break;
    }
    return "?";
}

void shapelog_file_put(struct file *file)
{
    if (atomic_fetch_sub(&file->hold.refs, 1) != 1)
        return;
    close(file->fd);
    free(file);
}

static int open_file(struct shapelog_shape *shape, enum file_kind kind, bool create)
{
    const struct files *files = &shape->log->files;
    char path[PATH_BYTES];
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0);
    int fd;

    snprintf(path, sizeof(path), "%s/%s", shape->handle, shapelog_file_name(kind));
    fd = openat(files->shapes_fd, path, flags, 0600);
    if (fd < 0 && errno == ENOENT)
        fd = openat(files->trash_fd, path, flags, 0600);
    return fd;
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

int shapelog_file_get(struct shapelog_shape *shape, enum file_kind kind, bool create,
                      struct file **out, struct err *err)
{
    struct files *files = &shape->log->files;
    struct file *file;

    pthread_mutex_lock(&files->lock);
    file = cached(files, &shape->files[kind]);
    pthread_mutex_unlock(&files->lock);
    if (!file) {
        file = malloc(sizeof(*file));
        if (!file)
            return err_set(err, ERR_MEMORY, "no memory to open %s", shape->handle);
        atomic_init(&file->hold.refs, 1);
        file->hold.kind = HOLD_FILE;
        file->slot = NULL;
        list_init(&file->link);
        file->fd = open_file(shape, kind, create);
        if (file->fd < 0) {
            int errnum = errno;

            free(file);
            return err_errno(err, errnum == ENOENT && !create ? ERR_CORRUPT : ERR_IO,
                             errnum, "can't open %s/%s", shape->handle,
                             shapelog_file_name(kind));
        }
        file = cache(files, &shape->files[kind], file);
    }
    *out = file;
    return 0;
}

void shapelog_files_forget(struct shapelog_shape *shape)
{
    struct files *files = &shape->log->files;

    for (int kind = 0; kind < FILE_KIND_COUNT; kind++) {
        struct file *file;

        pthread_mutex_lock(&files->lock);
        file = shape->files[kind] ? evict(files, shape->files[kind]) : NULL;
        pthread_mutex_unlock(&files->lock);
        if (file)
            shapelog_file_put(file);
    }
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

static void complain(const struct log *log, const char *name)
{
    log_event(log, LOG_WARNING, "shapelog.not_deleted", LOG_TEXT("name", name),
              LOG_TEXT("error", strerror(errno)));
}

void shapelog_remove_dir(int parent_fd, const char *name, const struct log *log)
{
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;

    if (!dir) {
        if (fd >= 0)
            close(fd);
        else if (errno == ENOTDIR && unlinkat(parent_fd, name, 0) == 0)
            return;
        if (errno != ENOENT)
            complain(log, name);
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, entry->d_name, 0) != 0)
            complain(log, entry->d_name);
    }
    closedir(dir);
    if (unlinkat(parent_fd, name, AT_REMOVEDIR) != 0)
        complain(log, name);
}
