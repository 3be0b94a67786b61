/* The process ends at every write, and files are torn and damaged in every place: what is
 * found afterwards is whole transactions, with the right bytes, or nothing. */
#include "unit/server/shapelog/faults.h"
#include "unit/server/shapelog/workload.h"

#include <sys/mman.h>
#include <sys/wait.h>

#define EXIT_DONE 42

/* Runs the history in a process that ends at the fault (or, done, without closing). */
static int crash_in_child(const struct work *w, struct fixture *f,
                          struct progress *progress, enum fault fault, long n, bool torn)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        struct shapelog_shape *shapes[WORK_SHAPES];

        faults_arm(fault, n, 0, torn, false);
        if (fixture_try_open(f, NULL) != 0)
            _exit(1);
        work_run(w, f, shapes, progress);
        _exit(EXIT_DONE);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static struct progress *progress_new(void)
{
    struct progress *p =
        mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(p, MAP_FAILED);
    return p;
}

static void crash_at_every(enum fault fault, bool torn)
{
    struct progress *progress = progress_new();
    struct work w;
    int code = FAULT_EXIT_CODE;
    long n;

    work_init(&w);
    for (n = 1; code != EXIT_DONE; n++) {
        struct fixture f;

        fixture_init(&f, WORK_CHUNK);
        memset((void *)progress, 0, sizeof(*progress));
        code = crash_in_child(&w, &f, progress, fault, n, torn);
        assert_true(code == FAULT_EXIT_CODE || code == EXIT_DONE);
        assert_recovers(&w, &f, 3, progress);
        fixture_fini(&f);
    }
    assert_true(n > 2);
    print_message("%ld crashes survived\n", n - 1);
    munmap(progress, sizeof(*progress));
    work_fini(&w);
}

static void crash_before_every_write(void **state)
{
    (void)state;
    crash_at_every(FAULT_WRITE, false);
}

static void crash_within_every_write(void **state)
{
    (void)state;
    crash_at_every(FAULT_WRITE, true);
}

static void crash_before_every_sync(void **state)
{
    (void)state;
    crash_at_every(FAULT_SYNC, false);
}

static void crash_before_every_truncate(void **state)
{
    (void)state;
    crash_at_every(FAULT_TRUNCATE, false);
}

/* --- damaged files --- */

struct bytes {
    char *ptr;
    size_t len;
};

static struct bytes read_file(const char *dir, const char *name)
{
    struct bytes b = {NULL, 0};
    struct stat st;
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
    int fd = openat(dir_fd, name, O_RDONLY);

    if (fd >= 0 && fstat(fd, &st) == 0) {
        b.len = (size_t)st.st_size;
        b.ptr = malloc(b.len + 1);
        assert_non_null(b.ptr);
        assert_int_equal(read(fd, b.ptr, b.len), (ssize_t)b.len);
    }
    close(fd);
    close(dir_fd);
    return b;
}

static void write_file(const char *dir, const char *name, const char *ptr, size_t len)
{
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, ptr, len), (ssize_t)len);
    close(fd);
    close(dir_fd);
}

static const char *const stored[] = {
    "meta.sqlite",       "meta.sqlite-wal",        "meta.sqlite-shm",
    "shapes/a/log.json", "shapes/a/log.idx",       "shapes/b/log.json",
    "shapes/b/log.idx",  "shapes/a/snapshot.json", "shapes/b/snapshot.json"};

#define STORED (sizeof(stored) / sizeof(*stored))

struct image {
    struct bytes file[STORED];
};

static void image_take(struct image *image, const char *dir)
{
    for (size_t i = 0; i < STORED; i++)
        image->file[i] = read_file(dir, stored[i]);
}

static void image_put(const struct image *image, const char *dir)
{
    static const char *const dirs[] = {"shapes", "trash", "shapes/a", "shapes/b"};
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY);

    for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++)
        mkdirat(dir_fd, dirs[i], 0700);
    for (size_t i = 0; i < STORED; i++) {
        if (image->file[i].ptr)
            write_file(dir, stored[i], image->file[i].ptr, image->file[i].len);
        else
            unlinkat(dir_fd, stored[i], 0);
    }
    close(dir_fd);
}

static void image_free(struct image *image)
{
    for (size_t i = 0; i < STORED; i++)
        free(image->file[i].ptr);
}

/* The history, its last three transactions published but not durable. */
static void image_make(struct image *image, struct work *w, struct progress *progress)
{
    struct fixture f;

    fixture_init(&f, WORK_CHUNK);
    assert_int_equal(crash_in_child(w, &f, progress, FAULT_NONE, 0, false), EXIT_DONE);
    assert_int_equal(atomic_load(&progress->durable), 9);
    image_take(image, f.dir);
    fixture_fini(&f);
}

/* Where the entries of the last three transactions of a shape begin: in log.json and
 * log.idx. */
static void tail_of(const struct model *m, size_t *log, size_t *index)
{
    *log = *index = 0;
    for (size_t i = 0; i < m->count && m->entries[i].at.tx <= 9; i++) {
        *log += strlen(m->entries[i].text) + 1;
        *index += 40;
    }
}

enum damage { DAMAGE_CUT, DAMAGE_ZERO };

static void tear(struct work *w, const struct image *image,
                 const struct progress *progress, size_t file, size_t at,
                 enum damage damage)
{
    struct bytes b = image->file[file];
    struct fixture f;

    fixture_init(&f, WORK_CHUNK);
    image_put(image, f.dir);
    if (damage == DAMAGE_CUT) {
        write_file(f.dir, stored[file], b.ptr, at);
    } else {
        char *copy = malloc(b.len + 1);

        assert_non_null(copy);
        memcpy(copy, b.ptr, at);
        memset(copy + at, 0, b.len - at);
        write_file(f.dir, stored[file], copy, b.len);
        free(copy);
    }
    assert_recovers(w, &f, 3, progress);
    fixture_fini(&f);
}

static void torn_tails_are_cut_at_a_transaction(void **state)
{
    struct progress *progress = progress_new();
    struct image image;
    struct work w;
    size_t log_at, index_at;

    (void)state;
    work_init(&w);
    image_make(&image, &w, progress);
    tail_of(w.model[0], &log_at, &index_at);
    assert_true(image.file[3].len > log_at && image.file[4].len > index_at);
    for (size_t at = log_at; at < image.file[3].len; at += 41)
        tear(&w, &image, progress, 3, at, at % 2 ? DAMAGE_CUT : DAMAGE_ZERO);
    for (size_t at = index_at; at < image.file[4].len; at += 7)
        tear(&w, &image, progress, 4, at, at % 2 ? DAMAGE_CUT : DAMAGE_ZERO);
    image_free(&image);
    munmap(progress, sizeof(*progress));
    work_fini(&w);
}

/* Like assert_log, but ERR_CORRUPT is an answer, too. */
static bool right_or_corrupt(struct shapelog_shape *shape, struct model *m)
{
    struct offset committed = shapelog_committed(shape);
    size_t count = m->count;
    bool corrupt = false;

    while (m->count > 0 && offset_cmp(m->entries[m->count - 1].at, committed) > 0)
        m->count--;
    for (size_t i = 0; i <= m->count + 2; i++) {
        struct offset after = i < m->count        ? m->entries[i].at
                              : i == m->count     ? OFFSET_SNAPSHOT_END
                              : i == m->count + 1 ? OFFSET_BEFORE_ALL
                                                  : (struct offset){0, 0, false};
        struct shapelog_found found;
        struct offset end;
        struct buf got, want;
        int rc;

        buf_init(&got, 1u << 26);
        buf_init(&want, 1u << 26);
        rc = fetch(shape, after, &found, &got);
        assert_true(rc == 0 || rc == ERR_CORRUPT);
        corrupt = corrupt || rc != 0;
        if (rc == 0) {
            if (after.before_all || (after.tx == 0 && after.op == 0))
                assert_true(
                    model_snapshot(m, WORK_CHUNK, after.before_all ? 0 : 1, &want));
            else
                model_log(m, WORK_CHUNK, after, &want, &end);
            assert_same(&got, &want);
        }
        buf_fini(&got);
        buf_fini(&want);
    }
    m->count = count;
    return corrupt;
}

static void flipped_bits_are_noticed(void **state)
{
    struct progress *progress = progress_new();
    struct image image;
    struct work w;
    unsigned dropped = 0;
    unsigned told = 0;

    (void)state;
    work_init(&w);
    image_make(&image, &w, progress);
    for (size_t file = 0; file < STORED; file++) {
        struct bytes b = image.file[file];
        size_t step = b.len / 40 + 1;

        for (size_t at = file; at < b.len; at += step) {
            struct fixture f;

            fixture_init(&f, WORK_CHUNK);
            b.ptr[at] = (char)(b.ptr[at] ^ (1 << (at % 8)));
            image_put(&image, f.dir);
            b.ptr[at] = (char)(b.ptr[at] ^ (1 << (at % 8)));
            if (fixture_try_open(&f, NULL) == 0) {
                for (unsigned s = 0; s < WORK_SHAPES; s++) {
                    const char handle[2] = {(char)('a' + s), '\0'};
                    struct shapelog_shape *shape = restored(&f, handle);

                    if (shape && right_or_corrupt(shape, w.model[s]))
                        assert_true(atomic_load(&f.lost) & 1u << s);
                    dropped += shape == NULL;
                    shapelog_release(shape);
                }
                told += atomic_load(&f.corrupt);
            }
            fixture_fini(&f);
        }
    }
    assert_true(told > 100);
    assert_true(dropped > 0);
    print_message("%u shapes dropped at the start, %u reported by readers\n", dropped,
                  told);
    image_free(&image);
    munmap(progress, sizeof(*progress));
    work_fini(&w);
}

static void shapes_with_missing_files_are_dropped(void **state)
{
    struct progress *progress = progress_new();
    struct image image;
    struct work w;

    (void)state;
    work_init(&w);
    image_make(&image, &w, progress);
    for (size_t file = 3; file < STORED; file++) {
        struct shapelog_shape *shape;
        struct fixture f;
        const char handle[2] = {stored[file][7], '\0'};
        const char other[2] = {handle[0] == 'a' ? 'b' : 'a', '\0'};

        fixture_init(&f, WORK_CHUNK);
        image_put(&image, f.dir);
        write_file(f.dir, stored[file], "", 0);
        fixture_open(&f);
        assert_null(restored(&f, handle));
        shape = restored(&f, other);
        assert_non_null(shape);
        shapelog_release(shape);
        fixture_fini(&f);
    }
    image_free(&image);
    munmap(progress, sizeof(*progress));
    work_fini(&w);
}

static void log_cut_under_a_reader_is_reported_once(void **state)
{
    struct shapelog_found found;
    struct shapelog_piece piece;
    struct shapelog_shape *s;
    struct fixture f;
    struct err err;

    (void)state;
    fixture_init(&f, WORK_CHUNK);
    fixture_open(&f);
    s = create(&f, "b");
    finish_snapshot(s, NULL);
    transaction(s, NULL, 5, 2, 10);
    transaction(s, NULL, 6, 2, 10); /* its body is the cached one */
    assert_int_equal(shapelog_locate(s, OFFSET_SNAPSHOT_END, &found, &err), 0);
    write_file(f.dir, "shapes/b/log.json", "{", 1);
    for (int i = 0; i < 2; i++)
        assert_int_equal(shapelog_read_log(s, &found, 0, &piece, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.message, "log.json"));
    assert_int_equal(atomic_load(&f.corrupt), 1);
    shapelog_release(s);
    fixture_fini(&f);
}

static void nonsense_instead_of_the_database_empties_the_log(void **state)
{
    struct progress *progress = progress_new();
    struct image image;
    struct work w;
    struct fixture f;

    (void)state;
    work_init(&w);
    image_make(&image, &w, progress);
    fixture_init(&f, WORK_CHUNK);
    image_put(&image, f.dir);
    write_file(f.dir, "meta.sqlite-wal", "", 0);
    write_file(f.dir, "meta.sqlite", w.model[0]->entries[0].text, 30);
    fixture_open(&f);
    assert_null(restored(&f, "a"));
    assert_int_equal(shapelog_durable_lsn(f.log), 0);
    assert_true(checkpoint(&f, 77));
    fixture_fini(&f);
    image_free(&image);
    munmap(progress, sizeof(*progress));
    work_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_before_every_write),
        cmocka_unit_test(crash_within_every_write),
        cmocka_unit_test(crash_before_every_sync),
        cmocka_unit_test(crash_before_every_truncate),
        cmocka_unit_test(torn_tails_are_cut_at_a_transaction),
        cmocka_unit_test(flipped_bits_are_noticed),
        cmocka_unit_test(shapes_with_missing_files_are_dropped),
        cmocka_unit_test(log_cut_under_a_reader_is_reported_once),
        cmocka_unit_test(nonsense_instead_of_the_database_empties_the_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
