/* The client's benches: bench_client ingest|mutate ROWS [CHANGES]. Prints "seconds bytes": of CPU,
 * and by how much the process's highest resident size is over the one before.
 *
 * ingest: rows of five columns (int, text, int, text, timestamptz), which lie in memory, into a
 * collection by sync transactions of 1,000 rows (BATCH), with nobody watching. mutate: over that many rows, a
 * subscription without condition; an optimistic update, the handler's answer, and the sync that
 * confirms it, CHANGES times. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "coulomb/coulomb.h"

static const coulomb_column columns[] = {{"id", COULOMB_INT64, COULOMB_ABSENT},
                                         {"name", COULOMB_TEXT, COULOMB_ABSENT},
                                         {"quantity", COULOMB_INT64, COULOMB_ABSENT},
                                         {"note", COULOMB_TEXT, COULOMB_ABSENT},
                                         {"at", COULOMB_TIMESTAMPTZ, COULOMB_ABSENT}};

static coulomb_sync *sync_handle;
static size_t heard;

static int start(coulomb_sync *sync, void *arg)
{
    (void)arg;
    sync_handle = coulomb_sync_retain(sync);
    return 0;
}

static const coulomb_adapter adapter = {.size = sizeof(coulomb_adapter), .start = start};

static void check(int code, const coulomb_client *c)
{
    if (code < 0) {
        fprintf(stderr, "bench_client: %s\n",
                c ? coulomb_last_error(c)->message : "failed");
        exit(1);
    }
}

struct texts {
    char name[32];
    char note[80];
};

static struct texts *make_texts(size_t rows)
{
    struct texts *t = calloc(rows, sizeof(*t));

    if (!t)
        exit(1);
    for (size_t i = 0; i < rows; i++) {
        snprintf(t[i].name, sizeof(t[i].name), "item %zu", i);
        snprintf(t[i].note, sizeof(t[i].note), "a note about item %zu, as long as this",
                 i);
    }
    return t;
}

static void row_of(coulomb_value v[5], const struct texts *t, size_t i, int64_t quantity)
{
    v[0] = coulomb_int((int64_t)i);
    v[1] = coulomb_text(t[i].name);
    v[2] = coulomb_int(quantity);
    v[3] = coulomb_text(t[i].note);
    v[4] = coulomb_moment(COULOMB_TIMESTAMPTZ, (int64_t)i * 1000000);
}

static int64_t cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static long resident_kib(const char *name)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long kib = 0;

    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtol(line + strlen(name), NULL, 10);
    }
    if (f)
        fclose(f);
    return kib;
}

static void ingest(coulomb_client *c, const struct texts *t, size_t rows)
{
    const char *text = getenv("BATCH");
    size_t batch = text ? strtoul(text, NULL, 10) : 1000;
    coulomb_value v[5];

    for (size_t i = 0; i < rows; i++) {
        if (i % batch == 0)
            check(coulomb_sync_begin(sync_handle, 0), c);
        row_of(v, t, i, (int64_t)i % 1000);
        check(coulomb_sync_insert(sync_handle, v, NULL, 0), c);
        if (i % batch == batch - 1 || i + 1 == rows)
            check(coulomb_sync_commit(sync_handle), c);
    }
    check(coulomb_sync_mark_ready(sync_handle), c);
}

static int persist(coulomb_tx *tx, coulomb_collection *coll, coulomb_completion *done,
                   void *arg)
{
    (void)tx;
    (void)coll;
    (void)done;
    (void)arg;
    return 0;
}

static void hear(coulomb_collection *coll, const coulomb_change *changes, size_t count,
                 void *arg)
{
    (void)coll;
    (void)changes;
    (void)arg;
    heard += count;
}

static void mutate(coulomb_client *c, coulomb_collection *coll, const struct texts *t,
                   size_t rows, size_t changes, size_t first)
{
    for (size_t n = 0; n < changes; n++) {
        size_t i = n * 7919 % rows;
        coulomb_field field = {"quantity", coulomb_int((int64_t)(n + first))};
        coulomb_value v[5];

        check(coulomb_set(coll, coulomb_key_int((int64_t)i), &field, 1, NULL, NULL), c);
        check(coulomb_poll(c), c); /* the event; the handler, which succeeds */
        row_of(v, t, i, (int64_t)(n + first));
        check(coulomb_sync_begin(sync_handle, 0), c);
        check(coulomb_sync_update(sync_handle, v, NULL, 0), c);
        check(coulomb_sync_commit(sync_handle), c);
        check(coulomb_poll(c), c); /* the event: synced */
    }
}

int main(int argc, char **argv)
{
    size_t rows = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000000;
    size_t changes = argc > 3 ? strtoul(argv[3], NULL, 10) : 10000;
    struct texts *t = make_texts(rows);
    coulomb_collection_options o;
    coulomb_client *c;
    coulomb_collection *coll;
    coulomb_sub_options so;
    coulomb_sub *sub = NULL;
    long before;
    int64_t from;

    coulomb_options_init(&o, sizeof(o));
    o.columns = columns;
    o.column_count = sizeof(columns) / sizeof(columns[0]);
    o.key_column = "id";
    o.adapter = &adapter;
    o.start_sync = 1;
    o.full_updates = 1;
    o.on_update = persist;
    check(coulomb_client_open(NULL, &c), NULL);
    check(coulomb_collection_new(c, &o, &coll), c);
    check(coulomb_poll(c), c);
    before = resident_kib("VmRSS:");
    from = cpu_us();
    ingest(c, t, rows);
    if (argc > 1 && strcmp(argv[1], "mutate") == 0) {
        coulomb_options_init(&so, sizeof(so));
        so.initial = COULOMB_INITIAL_ROWS;
        check(coulomb_subscribe(coll, &so, hear, NULL, &sub), c);
        mutate(c, coll, t, rows, changes / 10, 5000000); /* warm-up */
        from = cpu_us();
        heard = 0;
        mutate(c, coll, t, rows, changes, 5000);
        if (heard != 2 * changes) {
            fprintf(stderr, "bench_client: %zu events\n", heard);
            return 1;
        }
    }
    printf("%.6f %ld\n", (double)(cpu_us() - from) / 1e6,
           (resident_kib("VmHWM:") - before) * 1024);
    if (coulomb_size(coll) != rows)
        return 1;
    coulomb_unsubscribe(sub);
    coulomb_sync_release(sync_handle);
    coulomb_collection_release(coll);
    coulomb_client_close(c);
    free(t);
    return 0;
}
