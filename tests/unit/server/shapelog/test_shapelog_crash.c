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

#define IMAGE_FILES 64

/* All that is stored. */
struct image {
    char name[IMAGE_FILES][64];
    struct bytes file[IMAGE_FILES];
    size_t count;
};

static void image_take_folder(struct image *image, const char *dir, const char *folder)
{
    char path[256];
    const struct dirent *entry;
    DIR *d;

    snprintf(path, sizeof(path), "%s/%s", dir, folder);
    d = opendir(path);
    assert_non_null(d);
    while ((entry = readdir(d)) != NULL) {
        char *name = image->name[image->count];

        if (entry->d_name[0] == '.' || entry->d_type != DT_REG)
            continue;
        assert_true(image->count < IMAGE_FILES);
        snprintf(name, sizeof(image->name[0]), "%s%.40s", folder, entry->d_name);
        image->file[image->count++] = read_file(dir, name);
    }
    closedir(d);
}

static void image_put(const struct image *image, const char *dir)
{
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY);

    mkdirat(dir_fd, "shapes", 0700);
    mkdirat(dir_fd, "segments", 0700);
    for (size_t i = 0; i < image->count; i++)
        write_file(dir, image->name[i], image->file[i].ptr, image->file[i].len);
    close(dir_fd);
}

static void image_free(struct image *image)
{
    for (size_t i = 0; i < image->count; i++)
        free(image->file[i].ptr);
}

/* The history up to last_tx; those behind the ninth are shown but not durable. */
static void image_make(struct image *image, struct work *w, struct progress *progress,
                       unsigned last_tx)
{
    struct fixture f;

    fixture_init(&f, WORK_CHUNK);
    w->last_tx = last_tx;
    assert_int_equal(crash_in_child(w, &f, progress, FAULT_NONE, 0, false), EXIT_DONE);
    w->last_tx = WORK_TXS;
    assert_int_equal(atomic_load(&progress->durable), 9);
    image->count = 0;
    image_take_folder(image, f.dir, "");
    image_take_folder(image, f.dir, "segments/");
    image_take_folder(image, f.dir, "shapes/");
    assert_true(image->count > 6);
    fixture_fini(&f);
}

static bool is_meta(const char *name)
{
    return strchr(name, '/') == NULL;
}

/* The length of the file in the other image, 0 when it isn't there. */
static size_t length_in(const struct image *image, const char *name)
{
    for (size_t i = 0; i < image->count; i++) {
        if (strcmp(image->name[i], name) == 0)
            return image->file[i].len;
    }
    return 0;
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
        write_file(f.dir, image->name[file], b.ptr, at);
    } else {
        char *copy = malloc(b.len + 1);

        assert_non_null(copy);
        memcpy(copy, b.ptr, at);
        memset(copy + at, 0, b.len - at);
        write_file(f.dir, image->name[file], copy, b.len);
        free(copy);
    }
    assert_recovers(w, &f, 3, progress);
    fixture_fini(&f);
}

static void what_lies_behind_the_checkpoint_does_not_matter(void **state)
{
    struct progress *progress = progress_new();
    struct image durable, image;
    struct work w;
    unsigned torn = 0;

    (void)state;
    work_init(&w);
    image_make(&durable, &w, progress, 9);
    image_make(&image, &w, progress, WORK_TXS);
    for (size_t i = 0; i < image.count; i++) {
        size_t at = length_in(&durable, image.name[i]);
        size_t step = (image.file[i].len - at) / 25 + 1;

        for (; !is_meta(image.name[i]) && at < image.file[i].len; at += step, torn++)
            tear(&w, &image, progress, i, at, torn % 2 ? DAMAGE_CUT : DAMAGE_ZERO);
    }
    assert_true(torn > 20);
    image_free(&durable);
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
    image_make(&image, &w, progress, WORK_TXS);
    for (size_t file = 0; file < image.count; file++) {
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
    assert_true(told > 20);
    assert_true(dropped > 0);
    print_message("%u shapes dropped at the start, %u reported by readers\n", dropped,
                  told);
    image_free(&image);
    munmap(progress, sizeof(*progress));
    work_fini(&w);
}

/* The epoch is in the name, and above it the id of the process that gave it. */
static bool is_own_file(const char *name, const char *ending)
{
    const char *dot = strrchr(name, '.');

    return dot && strncmp(name, "shapes/", 7) == 0 && strcmp(dot + 1, ending) == 0;
}

static void missing_files_cost_only_shapes(void **state)
{
    struct progress *progress = progress_new();
    struct image image;
    struct work w;

    (void)state;
    work_init(&w);
    image_make(&image, &w, progress, WORK_TXS);
    for (size_t file = 0; file < image.count; file++) {
        struct fixture f;
        unsigned left = 0;

        if (is_meta(image.name[file]))
            continue;
        fixture_init(&f, WORK_CHUNK);
        image_put(&image, f.dir);
        write_file(f.dir, image.name[file], "", 0);
        fixture_open(&f);
        for (unsigned s = 0; s < WORK_SHAPES; s++) {
            const char handle[2] = {(char)('a' + s), '\0'};
            struct shapelog_shape *shape = restored(&f, handle);

            left += shape != NULL;
            if (shape)
                assert_false(right_or_corrupt(shape, w.model[s]));
            shapelog_release(shape);
        }
        assert_true(left < WORK_SHAPES);
        if (is_own_file(image.name[file], "log") ||
            is_own_file(image.name[file], "idx") ||
            is_own_file(image.name[file], "snapshot"))
            assert_int_equal(left, WORK_SHAPES - 1);
        fixture_fini(&f);
    }
    image_free(&image);
    munmap(progress, sizeof(*progress));
    work_fini(&w);
}

static void log_cut_under_a_reader_is_reported_once(void **state)
{
    static const char *const places[] = {"segments/", "shapes/"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct shapelog_found found;
        struct shapelog_piece piece;
        struct shapelog_shape *s;
        struct image image = {.count = 0};
        struct fixture f;
        struct err err;

        fixture_init(&f, 1u << 20);
        fixture_open(&f);
        s = create(&f, "b");
        finish_snapshot(s, NULL);
        transaction(&f, s, NULL, 5, 2, i == 0 ? 10 : 30000); /* to own files, */
        if (i == 1) /* and small enough for a body in memory */
            transaction(&f, s, NULL, 6, 1, 66000);
        assert_int_equal(shapelog_locate(s, OFFSET_SNAPSHOT_END, &found, &err), 0);
        if (i == 1)
            found.size_bytes = 100;
        image_take_folder(&image, f.dir, places[i]);
        for (size_t n = 0; n < image.count; n++)
            write_file(f.dir, image.name[n], "{", 1);
        for (int k = 0; k < 2; k++)
            assert_int_equal(shapelog_read_log(s, &found, 0, &piece, &err), ERR_CORRUPT);
        assert_int_equal(atomic_load(&f.corrupt), 1);
        image_free(&image);
        shapelog_release(s);
        fixture_fini(&f);
    }
}

static void nonsense_instead_of_the_database_empties_the_log(void **state)
{
    struct progress *progress = progress_new();
    struct image image;
    struct work w;
    struct fixture f;

    (void)state;
    work_init(&w);
    image_make(&image, &w, progress, WORK_TXS);
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

/* A storage whose database is nonsense, beside one of before a take-over, which counts no more. */
static void nonsense_init(struct fixture *f)
{
    struct shapelog_shape *s;

    fixture_init(f, WORK_CHUNK);
    fixture_open(f);
    s = create(f, "a");
    finish_snapshot(s, NULL);
    transaction(f, s, NULL, 5, 2, 10);
    assert_true(checkpoint(f, 5));
    shapelog_release(s);
    fixture_close(f);
    write_file(f->dir, "meta-1.sqlite", "nonsense", 8);
    write_file(f->dir, "meta-1.sqlite-wal", "nonsense", 8);
}

/* Whoever comes next finds that nothing counts, wherever the process ended. */
static bool crash_starting_over(enum fault fault, long n)
{
    struct fixture f;
    pid_t child;
    int status;

    nonsense_init(&f);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        faults_arm(fault, n, 0, false, false);
        _exit(fixture_try_open(&f, NULL) == 0 ? EXIT_DONE : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 1);
    for (int life = 0; life < 2; life++) {
        fixture_open(&f);
        assert_null(restored(&f, "a"));
        assert_int_equal(shapelog_durable_lsn(f.log), life == 0 ? 0 : 77);
        assert_true(checkpoint(&f, 77));
        fixture_close(&f);
    }
    fixture_fini(&f);
    return WEXITSTATUS(status) == FAULT_EXIT_CODE;
}

static void crash_while_nonsense_is_replaced(void **state)
{
    static const enum fault kinds[] = {FAULT_WRITE, FAULT_SYNC,   FAULT_OPEN,
                                       FAULT_LIST,  FAULT_UNLINK, FAULT_RENAME};
    long crashes = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
        for (long n = 1; crash_starting_over(kinds[i], n); n += 1 + n / 8)
            crashes++;
    assert_true(crashes > 20);
    print_message("%ld crashes survived\n", crashes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_before_every_write),
        cmocka_unit_test(crash_within_every_write),
        cmocka_unit_test(crash_before_every_sync),
        cmocka_unit_test(what_lies_behind_the_checkpoint_does_not_matter),
        cmocka_unit_test(flipped_bits_are_noticed),
        cmocka_unit_test(missing_files_cost_only_shapes),
        cmocka_unit_test(log_cut_under_a_reader_is_reported_once),
        cmocka_unit_test(nonsense_instead_of_the_database_empties_the_log),
        cmocka_unit_test(crash_while_nonsense_is_replaced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
