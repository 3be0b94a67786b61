/* The shapes and the catalog of the HTTP tests: the functions of shapes.h and of catalog.h's
 * cache, over a real shapelog, moved by the test instead of Postgres. Included by the tests;
 * the linker then leaves the modules' own members alone. */
#include <dirent.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "server/catalog/catalog.h"
#include "server/shape/shapes.h"

#define FAKE_SHAPES_MAX 32

struct shape {
    atomic_uint refs;
    struct shape_def *def;
    char handle[SHAPELOG_HANDLE_MAX];
    struct shapelog_shape *log;
    atomic_int state;
    atomic_uint_fast64_t watchers;
    struct err failure;
};

struct shapes {
    pthread_mutex_t lock;
    struct shape *shapes[FAKE_SHAPES_MAX];
    unsigned count;
    struct {
        shapes_notify_fn *notify;
        void *ctx;
    } watchers[SHAPES_WATCHERS_MAX];
    unsigned watcher_count;
    atomic_int service;
    atomic_int contact; /* enum shapes_contact */
    atomic_bool caught_up;
    atomic_uint_fast64_t last_lsn;
    struct shapelog *log;
    char dir[64];
    unsigned handles;
    bool hold_snapshots; /* a new shape stays PREPARING */
    atomic_uint corrupt; /* how often the log found bytes that do not check out */
};

struct catalog {
    struct table *tables[8];
    unsigned count;
    atomic_bool unreachable;
    atomic_uint asked;
};

/* --- shapes.h --- */

enum shapes_service shapes_service(const struct shapes *s)
{
    return (enum shapes_service)atomic_load(&s->service);
}

void shapes_service_detail(const struct shapes *s, char *out, size_t size)
{
    (void)s;
    snprintf(out, size, "%s", "");
}

void shapes_health(const struct shapes *s, struct shapes_health *out)
{
    *out = (struct shapes_health){.service = shapes_service(s), .lag_ms = 1234};
    if (out->service != SHAPES_ACTIVE)
        snprintf(out->detail, sizeof out->detail, "role \"r\" may not");
}

enum shapes_contact shapes_contact(const struct shapes *s)
{
    return (enum shapes_contact)atomic_load(&s->contact);
}

const char *shape_schema(const struct shape *shape)
{
    return shape_definition(shape)->columns->schema_header;
}

bool shapes_caught_up(const struct shapes *s)
{
    return atomic_load(&s->caught_up);
}

uint64_t shapes_seen_lsn(const struct shapes *s)
{
    return atomic_load(&s->last_lsn);
}

struct shape *shape_retain(struct shape *shape)
{
    atomic_fetch_add(&shape->refs, 1);
    return shape;
}

void shape_release(struct shape *shape)
{
    if (atomic_fetch_sub(&shape->refs, 1) != 1)
        return;
    shape_def_release(shape->def);
    shapelog_release(shape->log);
    free(shape);
}

const struct shape_def *shape_definition(const struct shape *shape)
{
    return shape->def;
}

const char *shape_handle(const struct shape *shape)
{
    return shape->handle;
}

struct shapelog_shape *shape_log(const struct shape *shape)
{
    return shape->log;
}

enum shape_state shape_state(const struct shape *shape)
{
    return (enum shape_state)atomic_load(&shape->state);
}

int shape_failure(const struct shape *shape, struct err *out)
{
    *out = shape->failure;
    return shape->failure.code;
}

void shape_touch(struct shape *shape)
{
    (void)shape;
}

static struct shape *fake_find(struct shapes *s, struct slice handle,
                               struct slice identity)
{
    struct shape *found = NULL;

    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->count && !found; i++) {
        struct shape *shape = s->shapes[i];

        if (shape_state(shape) != SHAPE_GONE &&
            (slice_eq(slice_of(shape->handle), handle) ||
             slice_eq(shape_def_identity(shape->def), identity)))
            found = shape_retain(shape);
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

struct shape *shapes_by_handle(struct shapes *s, struct slice handle)
{
    return fake_find(s, handle, SLICE_LIT("none"));
}

struct shape *shapes_by_def(struct shapes *s, const struct shape_def *def)
{
    return fake_find(s, SLICE_LIT("none"), shape_def_identity(def));
}

unsigned shapes_add_watcher(struct shapes *s, shapes_notify_fn *notify, void *ctx)
{
    s->watchers[s->watcher_count].notify = notify;
    s->watchers[s->watcher_count].ctx = ctx;
    return s->watcher_count++;
}

void shape_watch(struct shape *shape, unsigned watcher)
{
    atomic_fetch_or(&shape->watchers, UINT64_C(1) << watcher);
}

/* --- Moved by the test --- */

static inline void fake_notify(struct shapes *s, struct shape *shape)
{
    uint64_t due = atomic_exchange(&shape->watchers, 0);

    for (unsigned i = 0; i < s->watcher_count; i++)
        if (due & UINT64_C(1) << i)
            s->watchers[i].notify(s->watchers[i].ctx, shape);
}

static inline void fake_set_service(struct shapes *s, enum shapes_service service)
{
    atomic_store(&s->service, (int)service);
    for (unsigned i = 0; i < s->watcher_count; i++)
        s->watchers[i].notify(s->watchers[i].ctx, NULL);
}

static inline void fake_row(struct shape *shape, const char *json)
{
    ASSERT(shapelog_snapshot_row(shape->log, slice_of(json), NULL) == 0);
}

static inline void fake_flush(struct shapes *s, struct shape *shape)
{
    ASSERT(shapelog_snapshot_flush(shape->log, NULL) == 0);
    atomic_store(&shape->state, SHAPE_READING);
    fake_notify(s, shape);
}

static inline void fake_end(struct shapes *s, struct shape *shape)
{
    ASSERT(shapelog_snapshot_end(
               shape->log, SLICE_LIT("{\"headers\":{\"control\":\"snapshot-end\"}}"),
               SLICE_LIT("1:1:"), NULL) == 0);
    atomic_store(&shape->state, SHAPE_LIVE);
    fake_notify(s, shape);
}

#define FAKE_ROW                                                                         \
    "{\"key\":\"k\",\"value\":{\"id\":\"1\"},\"headers\":{\"operation\":\"insert\"}}"

static inline void fake_snapshot(struct shapes *s, struct shape *shape)
{
    fake_row(shape, FAKE_ROW);
    fake_flush(s, shape);
    fake_end(s, shape);
}

/* One transaction of one message, or of `count` ones of about `size` bytes. */
static inline void fake_commit_many(struct shapes *s, struct shape *shape, uint64_t lsn,
                                    unsigned count, size_t size)
{
    char *pad = malloc(size + 1);
    char *json = malloc(size + 256);

    ASSERT(pad && json);
    memset(pad, 'x', size);
    pad[size] = '\0';
    for (unsigned i = 0; i < count; i++) {
        int n = snprintf(json, size + 256,
                         "{\"key\":\"k%u\",\"value\":{\"v\":\"}]\\\"%s\"},\"headers\":{"
                         "\"lsn\":\"%llu\"}}",
                         i, pad, (unsigned long long)lsn);

        struct shapelog_variant variant;

        ASSERT(shapelog_stage(s->log, slice_make(json, (size_t)n), &variant, NULL) == 0);
        ASSERT(shapelog_append(shape->log, lsn, 2 * i, variant, NULL) == 0);
    }
    free(pad);
    free(json);
    shapelog_commit(shape->log);
    shapelog_publish(shape->log);
    ASSERT(shapelog_flush(s->log, lsn, NULL) == 0);
    atomic_store(&s->last_lsn, lsn);
    fake_notify(s, shape);
}

static inline void fake_commit(struct shapes *s, struct shape *shape, uint64_t lsn)
{
    fake_commit_many(s, shape, lsn, 1, 1);
}

static inline void fake_drop(struct shapes *s, struct shape *shape)
{
    shapelog_remove(shape->log);
    atomic_store(&shape->state, SHAPE_GONE);
    fake_notify(s, shape);
}

static inline void fake_fail(struct shapes *s, struct shape *shape, int status,
                             const char *message)
{
    err_set(&shape->failure, ERR_DB, "%s", message);
    shape->failure.http_status = status;
    fake_drop(s, shape);
}

static inline struct shape *fake_make(struct shapes *s, struct shape_def *def)
{
    struct shape *shape = calloc(1, sizeof *shape);

    ASSERT(shape && s->count < FAKE_SHAPES_MAX);
    atomic_init(&shape->refs, 1);
    shape->def = shape_def_retain(def);
    snprintf(shape->handle, sizeof shape->handle, "%u-1700000000000000", ++s->handles);
    ASSERT(shapelog_create(s->log, slice_of(shape->handle), SLICE_LIT("{}"), &shape->log,
                           NULL) == 0);
    pthread_mutex_lock(&s->lock);
    s->shapes[s->count++] = shape;
    pthread_mutex_unlock(&s->lock);
    if (!s->hold_snapshots)
        fake_snapshot(s, shape);
    return shape;
}

/* The first shape, once it has been asked for. */
static inline struct shape *fake_first(struct shapes *s)
{
    for (;;) {
        pthread_mutex_lock(&s->lock);
        struct shape *shape = s->count ? s->shapes[0] : NULL;
        pthread_mutex_unlock(&s->lock);
        if (shape)
            return shape;
        clock_sleep_ms(2);
    }
}

struct shapes_where_hash shapes_where_hash(const struct shapes *s, struct slice text,
                                           const struct sql_params *params)
{
    (void)s;
    (void)text;
    (void)params;
    return (struct shapes_where_hash){{0, 1}};
}

bool shape_knows_where(const struct shape *shape, struct shapes_where_hash words)
{
    (void)shape;
    (void)words;
    return false;
}

void shape_tell_where(struct shape *shape, struct shapes_where_hash words)
{
    (void)shape;
    (void)words;
}

void shapes_get(struct shapes *s, struct shape_def *def, struct shape_where *where,
                shapes_answer_fn *fn, void *ctx)
{
    struct shape *shape = shapes_by_def(s, def);

    (void)where;

    if (shape) {
        fn(ctx, shape, NULL);
        shape_release(shape);
    } else {
        fn(ctx, fake_make(s, def), NULL);
    }
}

void shapes_remove(struct shapes *s, struct shape *shape, enum obs_shape_reason reason,
                   shapes_answer_fn *fn, void *ctx)
{
    (void)reason;
    fake_drop(s, shape);
    fn(ctx, shape, NULL);
}

void shapes_suspect(struct shapes *s)
{
    (void)s;
}

int shapes_sees_passed(struct shapes *s, const struct snapshot_view *view,
                       struct err *err)
{
    (void)s;
    (void)view;
    (void)err;
    return 0;
}

/* --- catalog.h --- */

struct table *catalog_cached(struct catalog *c, struct slice schema, struct slice name)
{
    (void)c;
    (void)schema;
    (void)name;
    return NULL;
}

void catalog_find(struct catalog *c, struct slice schema, struct slice name,
                  catalog_found_fn *fn, void *ctx)
{
    struct err err;

    atomic_fetch_add(&c->asked, 1);
    for (unsigned i = 0; i < c->count; i++) {
        if (slice_eq(c->tables[i]->schema, schema) &&
            slice_eq(c->tables[i]->name, name)) {
            fn(ctx, c->tables[i], NULL);
            return;
        }
    }
    if (atomic_load(&c->unreachable))
        err_set(&err, ERR_RETRY, "no connection");
    else
        err_set(&err, ERR_NOT_FOUND, "no such table");
    fn(ctx, NULL, &err);
}

/* --- Making and freeing --- */

static inline void fake_add_table(struct catalog *c, const char *name, uint32_t oid)
{
    struct table_column columns[] = {{.name = SLICE_LIT("id"),
                                      .type_name = SLICE_LIT("int4"),
                                      .type_oid = 23,
                                      .typmod = -1,
                                      .attnum = 1,
                                      .not_null = true},
                                     {.name = SLICE_LIT("v"),
                                      .type_name = SLICE_LIT("text"),
                                      .type_oid = 25,
                                      .typmod = -1,
                                      .attnum = 2,
                                      .pk_index = -1},
                                     {.name = SLICE_LIT("n"),
                                      .type_name = SLICE_LIT("int4"),
                                      .type_oid = 23,
                                      .typmod = -1,
                                      .attnum = 3,
                                      .pk_index = -1}};
    uint16_t pk[] = {0};
    struct table model = {.oid = oid,
                          .schema = SLICE_LIT("public"),
                          .name = slice_of(name),
                          .kind = 'r',
                          .replica_identity = 'f',
                          .has_pk = true,
                          .column_count = 3,
                          .pk_count = 1,
                          .columns = columns,
                          .pk = pk};

    c->tables[c->count] = table_copy(&model);
    ASSERT(c->tables[c->count++]);
}

static inline int fake_unlink(const char *path, const struct stat *st, int kind,
                              struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static inline bool fake_corrupt(void *ctx, struct shapelog_shape *log)
{
    struct shapes *s = ctx;

    (void)log;
    atomic_fetch_add(&s->corrupt, 1);
    return true;
}

static inline int fake_damage_index(const char *path, const struct stat *st, int kind,
                                    struct FTW *ftw)
{
    size_t len = strlen(path);

    (void)st;
    (void)ftw;
    return kind == FTW_F && len > 4 && strcmp(path + len - 4, ".idx") == 0
               ? truncate(path, 0)
               : 0;
}

/* From now on no place within a long log is found. */
static inline void fake_damage(struct shapes *s)
{
    ASSERT(!shapelog_tend(s->log, INT64_C(1000000)));
    ASSERT(nftw(s->dir, fake_damage_index, 16, FTW_PHYS) == 0);
}

static inline void fake_init(struct shapes *s, struct catalog *c, struct obs *obs,
                             uint64_t chunk_bytes)
{
    *s = (struct shapes){.count = 0};
    *c = (struct catalog){.count = 0};
    pthread_mutex_init(&s->lock, NULL);
    atomic_store(&s->service, SHAPES_ACTIVE);
    atomic_store(&s->contact, SHAPES_CONTACT_MADE);
    atomic_store(&s->caught_up, true);
    snprintf(s->dir, sizeof s->dir, "/tmp/coulomb-http-XXXXXX");
    ASSERT(mkdtemp(s->dir));
    const struct shapelog_config config = {.dir = s->dir,
                                           .chunk_bytes = chunk_bytes,
                                           .max_open_files = 64,
                                           .obs = obs,
                                           .ctx = s,
                                           .corrupt = fake_corrupt};
    struct err err;
    if (shapelog_open(&config, &s->log, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    fake_add_table(c, "items", 1000);
    fake_add_table(c, "other", 1001);
}

static inline void fake_fini(struct shapes *s, struct catalog *c)
{
    for (unsigned i = 0; i < s->count; i++) {
        ASSERT(atomic_load(&s->shapes[i]->refs) == 1); /* requests let go of it */
        shape_release(s->shapes[i]);
    }
    shapelog_close(s->log);
    for (unsigned i = 0; i < c->count; i++)
        table_release(c->tables[i]);
    pthread_mutex_destroy(&s->lock);
    nftw(s->dir, fake_unlink, 16, FTW_DEPTH | FTW_PHYS);
}
