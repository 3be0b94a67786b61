/* The registry: shapes by handle and by definition, and who wants to hear of them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/assert.h"
#include "base/clock.h"
#include "server/shape/internal.h"

/* A healthy server answers a status, of which there is one in 10 s at least. */
#define SILENCE_MAX_MS 30000
/* A question a second; the pool may have other work for a while. */
#define UNANSWERED_MAX_MS 15000

static uint64_t random_seed(const struct shapes *s)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == (ssize_t)sizeof seed)
        return seed;
    return (uint64_t)(uintptr_t)s ^ (uint64_t)clock_mono_us();
}

void shapes_init(struct shapes *s, struct sequencer *q, struct obs *obs)
{
    pthread_rwlock_init(&s->lock, NULL);
    pthread_mutex_init(&s->detail_lock, NULL);
    map_init(&s->by_handle);
    map_init(&s->by_identity);
    s->sequencer = q;
    s->obs = obs;
    s->where_seed = random_seed(s);
    s->handle_seed = random_seed(s);
    atomic_init(&s->service, SHAPES_STARTING);
    atomic_init(&s->fresh_ms, clock_mono_ms());
    atomic_init(&s->heard_ms, clock_mono_ms());
}

void shapes_fini(struct shapes *s)
{
    map_fini(&s->by_handle);
    map_fini(&s->by_identity);
    pthread_mutex_destroy(&s->detail_lock);
    pthread_rwlock_destroy(&s->lock);
}

/* --- The service --- */

enum shapes_service shapes_service(const struct shapes *s)
{
    return (enum shapes_service)atomic_load(&s->service);
}

void shapes_service_detail(const struct shapes *s, char *out, size_t size)
{
    struct shapes *mutable_lock = sequencer_shapes(s->sequencer);
    ASSERT(size > 0 && mutable_lock == s);
    pthread_mutex_lock(&mutable_lock->detail_lock);
    size_t n = strnlen(s->detail, sizeof s->detail - 1);
    n = n < size ? n : size - 1;
    memcpy(out, s->detail, n);
    out[n] = '\0';
    pthread_mutex_unlock(&mutable_lock->detail_lock);
}

void shapes_set_refusal(struct shapes *s, const char *refusal)
{
    pthread_mutex_lock(&s->detail_lock);
    snprintf(s->refusal, sizeof s->refusal, "%s", refusal);
    pthread_mutex_unlock(&s->detail_lock);
}

static void tell_refusal(const struct shapes *s, struct shapes_health *out)
{
    struct shapes *mutable_lock = sequencer_shapes(s->sequencer);
    pthread_mutex_lock(&mutable_lock->detail_lock);
    snprintf(out->detail, sizeof out->detail, "%s",
             s->refusal[0] != '\0' ? s->refusal
                                   : "the database has not yet answered a query");
    pthread_mutex_unlock(&mutable_lock->detail_lock);
}

/* A stream that stands, and yet something is amiss. */
static void find_fault(const struct shapes *s, struct shapes_health *out)
{
    int64_t now_ms = clock_mono_ms();
    int64_t silent_ms = now_ms - atomic_load(&s->heard_ms);
    int64_t asked_ms = atomic_load(&s->asked_ms);
    if (silent_ms > SILENCE_MAX_MS)
        snprintf(out->detail, sizeof out->detail,
                 "Postgres has said nothing for %" PRId64 " s: is it stopped, or the "
                 "network cut?",
                 silent_ms / 1000);
    else if (!atomic_load(&s->caught_up))
        snprintf(out->detail, sizeof out->detail,
                 "the WAL from before the connection is being read: %" PRIuFAST64
                 " bytes are left",
                 atomic_load(&s->backlog_bytes));
    else if (atomic_load(&s->checkpoint_failing))
        snprintf(
            out->detail, sizeof out->detail,
            "the storage can't be written, and Postgres keeps its WAL meanwhile: see "
            "checkpoint.failed in the log for the reason (is the disk full?)");
    else if (asked_ms == 0 || now_ms - asked_ms > UNANSWERED_MAX_MS)
        tell_refusal(s, out);
}

void shapes_health(const struct shapes *s, struct shapes_health *out)
{
    out->service = shapes_service(s);
    out->lag_ms = clock_mono_ms() - atomic_load(&s->fresh_ms);
    shapes_service_detail(s, out->detail, sizeof out->detail);
    if (out->service != SHAPES_ACTIVE) {
        if (out->detail[0] == '\0')
            snprintf(out->detail, sizeof out->detail,
                     "the connection to Postgres is being set up");
        return;
    }
    find_fault(s, out);
    if (out->detail[0] != '\0')
        out->service = SHAPES_STARTING;
}

enum shapes_contact shapes_contact(const struct shapes *s)
{
    return (enum shapes_contact)atomic_load(&s->contact);
}

bool shapes_caught_up(const struct shapes *s)
{
    return atomic_load(&s->caught_up);
}

uint64_t shapes_seen_lsn(const struct shapes *s)
{
    return atomic_load(&s->seen_lsn);
}

void shapes_notify_all(struct shapes *s)
{
    for (unsigned i = 0; i < s->watcher_count; i++)
        s->watchers[i].notify(s->watchers[i].ctx, NULL);
}

void shapes_set_service(struct shapes *s, enum shapes_service service, const char *detail)
{
    pthread_mutex_lock(&s->detail_lock);
    size_t n = strlen(detail);
    n = n < sizeof s->detail ? n : sizeof s->detail - 1;
    memcpy(s->detail, detail, n);
    s->detail[n] = '\0';
    pthread_mutex_unlock(&s->detail_lock);
    atomic_store(&s->service, service);
    shapes_notify_all(s);
}

/* --- Finding --- */

static XXH128_hash_t handle_key(const struct shapes *s, struct slice handle)
{
    return XXH3_128bits_withSeed(handle.len ? handle.ptr : "", handle.len,
                                 s->handle_seed);
}

static struct slice key_slice(const XXH128_hash_t *key)
{
    return slice_make((const char *)key, sizeof *key);
}

struct shape *shapes_borrow(const struct shapes *s, struct slice handle)
{
    XXH128_hash_t key = handle_key(s, handle);
    struct shape *shape = map_get(&s->by_handle, key_slice(&key));
    bool is_it = shape != NULL && slice_eq(slice_of(shape_handle(shape)), handle);
    return is_it ? shape : NULL;
}

struct shape *shapes_by_handle(struct shapes *s, struct slice handle)
{
    pthread_rwlock_rdlock(&s->lock);
    struct shape *shape = shapes_borrow(s, handle);
    if (shape != NULL)
        shape_retain(shape);
    pthread_rwlock_unlock(&s->lock);
    return shape;
}

struct shape *shapes_by_def(struct shapes *s, const struct shape_def *def)
{
    pthread_rwlock_rdlock(&s->lock);
    struct shape *shape = map_get(&s->by_identity, shape_def_identity(def));
    if (shape != NULL)
        shape_retain(shape);
    pthread_rwlock_unlock(&s->lock);
    return shape;
}

int shapes_insert(struct shapes *s, struct shape *shape)
{
    XXH128_hash_t key = handle_key(s, slice_of(shape_handle(shape)));
    pthread_rwlock_wrlock(&s->lock);
    int rc = map_put(&s->by_handle, key_slice(&key), shape, NULL);
    if (rc == 0) {
        rc = map_put(&s->by_identity, shape_def_identity(shape->def), shape, NULL);
        if (rc < 0)
            map_del(&s->by_handle, key_slice(&key));
        else
            shape_retain(shape);
    }
    size_t count = s->by_handle.len;
    pthread_rwlock_unlock(&s->lock);
    obs_set(s->obs, OBS_G_SHAPES, (int64_t)count);
    return rc;
}

void shapes_erase(struct shapes *s, struct shape *shape)
{
    XXH128_hash_t key = handle_key(s, slice_of(shape_handle(shape)));
    pthread_rwlock_wrlock(&s->lock);
    struct shape *known = map_del(&s->by_handle, key_slice(&key));
    if (map_get(&s->by_identity, shape_def_identity(shape->def)) == shape)
        map_del(&s->by_identity, shape_def_identity(shape->def));
    size_t count = s->by_handle.len;
    pthread_rwlock_unlock(&s->lock);
    obs_set(s->obs, OBS_G_SHAPES, (int64_t)count);
    if (known != NULL)
        shape_release(known);
}

/* --- One shape --- */

struct shape *shape_retain(struct shape *shape)
{
    atomic_fetch_add_explicit(&shape->refs, 1, memory_order_relaxed);
    return shape;
}

static void shape_fini_links(struct shape *shape)
{
    for (size_t i = 0; i < shape->link_count; i++)
        free(shape->links[i].order);
    free(shape->links);
    shape->links = NULL;
    shape->link_count = 0;
}

static void shape_free_headers(struct shape *shape)
{
    struct shape_header *header = atomic_load(&shape->header);
    while (header != NULL) {
        struct shape_header *older = header->older;
        shape_def_release(header->def);
        free(header);
        header = older;
    }
}

void shape_set_failure(struct shape *shape, const struct err *failure)
{
    static struct err no_memory = {.code = ERR_MEMORY,
                                   .http_status = 503,
                                   .message = "The server has no memory for the shape"};
    struct err *copy = failure == NULL ? NULL : malloc(sizeof *copy);
    if (copy != NULL)
        *copy = *failure;
    if (shape->failure != &no_memory)
        free(shape->failure);
    shape->failure = copy;
    if (copy == NULL && failure != NULL)
        shape->failure = &no_memory;
}

void shape_release(struct shape *shape)
{
    if (shape == NULL ||
        atomic_fetch_sub_explicit(&shape->refs, 1, memory_order_acq_rel) != 1)
        return;
    shape_fini_links(shape);
    shape_free_headers(shape);
    if (shape->log != NULL)
        shapelog_release(shape->log);
    shape_def_release(shape->def);
    snapshot_view_fini(&shape->view);
    buf_fini(&shape->join_buffer);
    shape_set_failure(shape, NULL);
    free(shape);
}

const struct shape_def *shape_definition(const struct shape *shape)
{
    return shape->def;
}

int shape_set_header(struct shape *shape, struct shape_def *def)
{
    struct shape_header *header = calloc(1, sizeof *header);
    if (header == NULL)
        return ERR_MEMORY;
    header->def = shape_def_retain(def);
    header->older = atomic_load(&shape->header);
    atomic_store(&shape->header, header);
    return 0;
}

const char *shape_schema(const struct shape *shape)
{
    const struct shape_header *header = atomic_load(&shape->header);
    return header->def->columns->schema_header;
}

const char *shape_handle(const struct shape *shape)
{
    return shapelog_handle(shape->log);
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
    if (shape_state(shape) != SHAPE_GONE || shape->failure == NULL)
        return 0;
    *out = *shape->failure;
    return out->code;
}

/* The text, then each parameter, hashed together with what came before it. */
static XXH128_hash_t hash_on(XXH128_hash_t before, struct slice text, uint64_t seed)
{
    XXH128_hash_t own =
        XXH3_128bits_withSeed(text.len > 0 ? text.ptr : "", text.len, seed);
    const uint64_t chain[] = {before.low64, before.high64, own.low64, own.high64,
                              text.len};
    return XXH3_128bits_withSeed(chain, sizeof chain, seed);
}

struct shapes_where_hash shapes_where_hash(const struct shapes *s, struct slice text,
                                           const struct sql_params *params)
{
    XXH128_hash_t h = hash_on((XXH128_hash_t){0, 0}, text, s->where_seed);
    for (size_t i = 0; params != NULL && i < params->count; i++)
        h = hash_on(h, params->values[i], s->where_seed);
    return (struct shapes_where_hash){{h.low64, h.high64 == 0 ? 1 : h.high64}};
}

bool shape_knows_where(const struct shape *shape, struct shapes_where_hash words)
{
    return atomic_load_explicit(&shape->where_hash[0], memory_order_relaxed) ==
               words.halves[0] &&
           atomic_load_explicit(&shape->where_hash[1], memory_order_relaxed) ==
               words.halves[1];
}

void shape_tell_where(struct shape *shape, struct shapes_where_hash words)
{
    for (int i = 0; i < 2; i++)
        atomic_store_explicit(&shape->where_hash[i], words.halves[i],
                              memory_order_relaxed);
}

void shape_touch(struct shape *shape)
{
    atomic_store_explicit(&shape->read_ms, clock_mono_ms(), memory_order_relaxed);
}

/* --- Asking --- */

void shapes_get(struct shapes *s, struct shape_def *def, struct shape_where *where,
                shapes_answer_fn *fn, void *ctx)
{
    struct mail_get *m = calloc(1, sizeof *m);
    struct err err = {0};
    if (m == NULL) {
        err_set(&err, ERR_MEMORY, "no memory for a request");
        fn(ctx, NULL, &err);
        return;
    }
    m->mail.kind = MAIL_GET;
    m->def = shape_def_retain(def);
    m->where = where == NULL ? NULL : shape_where_retain(where);
    m->fn = fn;
    m->ctx = ctx;
    if (mailbox_send(&s->sequencer->mailbox, &m->mail, false) < 0) {
        err_set(&err, ERR_RETRY, "too many shapes are being asked for at once");
        fn(ctx, NULL, &err);
        shape_def_release(m->def);
        shape_where_release(m->where);
        free(m);
    }
}

void shapes_remove(struct shapes *s, struct shape *shape, enum obs_shape_reason reason,
                   shapes_answer_fn *fn, void *ctx)
{
    struct mail_remove *m = calloc(1, sizeof *m);
    struct err err = {0};
    if (m == NULL) {
        err_set(&err, ERR_MEMORY, "no memory for a request");
        if (fn != NULL)
            fn(ctx, NULL, &err);
        return;
    }
    m->mail.kind = MAIL_REMOVE;
    m->shape = shape_retain(shape);
    m->reason = reason;
    m->fn = fn;
    m->ctx = ctx;
    if (mailbox_send(&s->sequencer->mailbox, &m->mail, true) < 0) {
        err_set(&err, ERR_RETRY, "the server is stopping");
        if (fn != NULL)
            fn(ctx, NULL, &err);
        shape_release(m->shape);
        free(m);
    }
}

/* Want of memory leaves it to the look that is due anyway. */
void shapes_suspect(struct shapes *s)
{
    struct mail *m = calloc(1, sizeof *m);
    if (m == NULL)
        return;
    m->kind = MAIL_SUSPECT;
    if (mailbox_send(&s->sequencer->mailbox, m, false) < 0)
        free(m);
}

int shapes_sees_passed(struct shapes *s, const struct snapshot_view *view,
                       struct err *err)
{
    return join_ask(s->sequencer, MAIL_SEES, NULL, view, err);
}

/* --- Waiting --- */

unsigned shapes_add_watcher(struct shapes *s, shapes_notify_fn *notify, void *ctx)
{
    ASSERT(s->watcher_count < SHAPES_WATCHERS_MAX);
    s->watchers[s->watcher_count] = (struct watcher){notify, ctx};
    return s->watcher_count++;
}

void shape_watch(struct shape *shape, unsigned watcher)
{
    atomic_fetch_or(&shape->watchers, UINT64_C(1) << watcher);
}

void shape_notify(struct shape *shape)
{
    uint64_t bits = atomic_exchange(&shape->watchers, 0);
    struct shapes *s = shape->owner;
    for (unsigned i = 0; bits != 0; i++, bits >>= 1) {
        if ((bits & 1) != 0)
            s->watchers[i].notify(s->watchers[i].ctx, shape);
    }
}
