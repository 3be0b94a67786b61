/* From append to flush: what the sequencer has given and nobody sees yet.
 *
 * A message is staged once and waits in memory, and each shape's entries, which name it, form a
 * chain. Only when the next entry or the commit has come is it known whether an entry is the
 * last of its transaction: so the newest of each shape is never written before its commit.
 *
 *   stage/append ──▶ pending ──flush──▶ few bytes for a shape: a frame of the journal ──▶ shown
 *                       │               many: its own files (own.c)                  ──▶
 *                       └─ an open transaction above the budget: the same ways, not shown
 *
 * A flush writes all shapes' entries with one write, then moves their published ends. When it
 * fails, nothing was shown and everything unshown is forgotten: the stream sends it again. */
#include "server/shapelog/internal.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"

#define PENDING_MAX (UINT32_MAX - 1)
#define KEEP_BYTES  (2u * STAGE_MAX_BYTES)
/* With more shapes than that, entries go to the shapes' own files only when they are very many:
 * shapes that share messages would each write them. */
#define FEW_SHAPES     32u
#define MANY_OWN_BYTES (1u << 20)

void shapelog_batch_init(struct batch *batch)
{
    *batch = (struct batch){.variants = NULL};
    buf_init(&batch->stage, (size_t)4 * MESSAGE_MAX_BYTES);
    list_init(&batch->shapes);
    list_init(&batch->given);
}

void shapelog_batch_fini(struct batch *batch)
{
    buf_fini(&batch->stage);
    free(batch->variants);
    free(batch->pending);
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "no memory for the entries of a transaction");
}

/* --- Taking part --- */

static bool has_part(const struct shapelog_shape *shape)
{
    return !list_empty(&shape->batch_link);
}

static void take_part(struct shapelog_shape *shape)
{
    if (has_part(shape))
        return;
    list_push(&shape->log->batch.shapes, &shape->batch_link);
    shape->log->batch.shape_count++;
}

static void leave(struct shapelog_shape *shape)
{
    if (!has_part(shape))
        return;
    list_remove(&shape->batch_link);
    shape->log->batch.shape_count--;
}

void shapelog_batch_forget(struct shapelog_shape *shape)
{
    leave(shape);
    free(shape->spilled);
    shape->spilled = NULL;
    shape->pending_first = shape->pending_newest = shape->pending_open = PENDING_NONE;
}

/* --- Chunks --- */

/* A chunk ends behind the entry that brings its bytes to chunk_bytes (3.6). */
int shapelog_settle(struct shapelog_shape *shape, struct entry *e, struct err *err)
{
    struct mark end = mark_after(shape->written, e);
    uint64_t begin =
        shape->chunk_count ? shape->chunks[shape->chunk_count - 1].end.bytes : 0;
    void *items = shape->chunks;
    bool room;

    if (end.bytes - begin >= shape->log->config.chunk_bytes) {
        shapelog_lock(shape);
        room = shapelog_grow(&items, &shape->chunk_cap, (size_t)shape->chunk_count + 1,
                             sizeof(*shape->chunks));
        shape->chunks = items;
        if (room) {
            shape->chunks[shape->chunk_count++] =
                (struct log_chunk){.end = end, .verified = shape->open_verified};
            shape->open_verified = true;
        }
        shapelog_unlock(shape);
        if (!room)
            return no_memory(err);
        e->flags |= ENTRY_CHUNK;
    }
    shape->written = end;
    return 0;
}

/* --- Writing --- */

/* What the chain's entries before `until` come to, as served. */
static uint64_t chain_bytes(const struct shapelog_shape *shape, uint32_t until,
                            uint64_t *count)
{
    const struct batch *batch = &shape->log->batch;
    uint64_t bytes = 0;

    *count = 0;
    for (uint32_t at = shape->pending_first; at != until; at = batch->pending[at].next) {
        bytes += batch->variants[batch->pending[at].variant].len + MESSAGE_LAST_EXTRA + 1;
        ++*count;
    }
    return bytes;
}

static int put_variant(struct shapelog *log, struct variant *v, struct err *err)
{
    struct slice message = slice_make(log->batch.stage.ptr + v->pos, v->len);

    /* An earlier segment may be given up as soon as nothing lives in it. */
    if (v->addr && ADDR_SEGMENT(v->addr) == log->frame.segment->n)
        return 0;
    return shapelog_frame_message(log, message, &v->addr, err);
}

/* Puts the chain's entries before `until` into the frame and the tail. */
static int journal_write(struct shapelog_shape *shape, uint32_t until, uint64_t count,
                         struct err *err)
{
    struct shapelog *log = shape->log;
    struct batch *batch = &log->batch;
    struct entry_base base;
    int rc = shapelog_frame_begin(log, err);

    if (rc != 0)
        return rc;
    shapelog_frame_group(log, shape->id, shape->written.entries, count, &base);
    for (uint32_t at = shape->pending_first; at != until; at = batch->pending[at].next) {
        const struct pending *p = &batch->pending[at];
        struct variant *v = &batch->variants[p->variant];
        struct entry e = {.tx = p->tx, .op = p->op, .len = v->len, .flags = p->flags};

        rc = put_variant(log, v, err);
        if (rc == 0)
            rc = shapelog_settle(shape, &e, err);
        if (rc != 0)
            return rc;
        e.addr = v->addr;
        shapelog_frame_entry(log, &base, &e);
        shapelog_lock(shape);
        rc = shapelog_tail_put(&shape->tail, &e);
        shapelog_unlock(shape);
        if (rc != 0)
            return no_memory(err);
        atomic_fetch_add(&log->frame.segment->live, 1);
        atomic_fetch_add(&log->frame.segment->placed, 1);
    }
    return 0;
}

/* The shape's entries before `until` are on their way. */
static void chain_advance(struct shapelog_shape *shape, uint32_t until)
{
    shape->pending_first = until;
    if (until == PENDING_NONE)
        shape->pending_newest = PENDING_NONE;
}

/* From where on a shape's entries go to its own files at once. */
static uint64_t own_bytes(const struct batch *batch)
{
    return batch->shape_count <= FEW_SHAPES ? TAIL_MAX_BYTES : MANY_OWN_BYTES;
}

/* Writes the entries before `until`, where they belong. */
static int chain_write(struct shapelog_shape *shape, uint32_t until, struct err *err)
{
    uint64_t count;
    uint64_t bytes = chain_bytes(shape, until, &count);
    int rc = 0;

    if (count == 0)
        return 0;
    if (bytes >= own_bytes(&shape->log->batch))
        rc = shapelog_own_write(shape, until, err);
    else
        rc = journal_write(shape, until, count, err);
    if (rc == 0)
        chain_advance(shape, until);
    return rc;
}

/* --- Memory --- */

/* What is still pending, being copied together. */
struct compaction {
    struct batch *batch;
    struct buf stage;
    struct variant *variants;
    size_t variant_count;
    struct pending *pending;
    size_t pending_count;
    uint32_t *moved; /* old variant -> new one, or PENDING_NONE */
};

static void forget_all(struct batch *batch)
{
    batch->spill_at = 0;
    buf_reset(&batch->stage, KEEP_BYTES);
    batch->variant_count = 0;
    batch->pending_count = 0;
    if (batch->pending_cap * sizeof(*batch->pending) > KEEP_BYTES) {
        free(batch->pending);
        batch->pending = NULL;
        batch->pending_cap = 0;
    }
    if (batch->variant_cap * sizeof(*batch->variants) > KEEP_BYTES) {
        free(batch->variants);
        batch->variants = NULL;
        batch->variant_cap = 0;
    }
}

static uint32_t keep_variant(struct compaction *c, uint32_t old)
{
    struct variant v = c->batch->variants[old];
    size_t pos = c->stage.len;

    if (c->moved[old] == PENDING_NONE) {
        buf_put(&c->stage, c->batch->stage.ptr + v.pos, (size_t)v.len + 1);
        v.pos = pos;
        c->moved[old] = (uint32_t)c->variant_count;
        c->variants[c->variant_count++] = v;
    }
    return c->moved[old];
}

static void keep_chain(struct compaction *c, struct shapelog_shape *shape)
{
    uint32_t open = shape->pending_open;
    uint32_t last = PENDING_NONE;

    for (uint32_t at = shape->pending_first; at != PENDING_NONE;) {
        struct pending p = c->batch->pending[at];
        uint32_t now = (uint32_t)c->pending_count++;

        if (last == PENDING_NONE)
            shape->pending_first = now;
        else
            c->pending[last].next = now;
        if (at == open)
            shape->pending_open = now;
        at = p.next;
        p.variant = keep_variant(c, p.variant);
        p.next = PENDING_NONE;
        c->pending[now] = p;
        last = now;
    }
    shape->pending_newest = last;
}

static void keep_chains(struct compaction *c, struct list *shapes)
{
    for (struct list *l = shapes->next; l != shapes; l = l->next)
        keep_chain(c, LIST_ENTRY(l, struct shapelog_shape, batch_link));
}

static size_t count_pending(const struct batch *batch, struct list *shapes)
{
    size_t count = 0;

    for (struct list *l = shapes->next; l != shapes; l = l->next) {
        const struct shapelog_shape *shape =
            LIST_ENTRY(l, struct shapelog_shape, batch_link);

        for (uint32_t at = shape->pending_first; at != PENDING_NONE;
             at = batch->pending[at].next)
            count++;
    }
    return count;
}

/* Gives back the memory of what was written. */
static int compact(struct batch *batch, struct err *err)
{
    size_t left =
        count_pending(batch, &batch->shapes) + count_pending(batch, &batch->given);
    struct compaction c = {.batch = batch};

    if (left == 0) {
        forget_all(batch);
        return 0;
    }
    if (left == batch->pending_count)
        return 0;
    buf_init(&c.stage, batch->stage.max_bytes);
    c.variants = calloc(left, sizeof(*c.variants));
    c.pending = calloc(left, sizeof(*c.pending));
    c.moved = malloc(batch->variant_count * sizeof(*c.moved));
    if (!c.variants || !c.pending || !c.moved ||
        !buf_reserve(&c.stage, batch->stage.len)) {
        buf_fini(&c.stage);
        free(c.variants);
        free(c.pending);
        free(c.moved);
        return no_memory(err);
    }
    memset(c.moved, 0xff, batch->variant_count * sizeof(*c.moved));
    keep_chains(&c, &batch->shapes);
    keep_chains(&c, &batch->given);
    free(c.moved);
    free(batch->variants);
    free(batch->pending);
    buf_fini(&batch->stage);
    batch->stage = c.stage;
    batch->variants = c.variants;
    batch->variant_count = c.variant_count;
    batch->variant_cap = left;
    batch->pending = c.pending;
    batch->pending_count = batch->pending_cap = left;
    return batch->stage.failed ? no_memory(err) : 0;
}

/* --- Giving --- */

/* A start must read open frames that may still come to count: no fold behind them. */
static void set_open(struct shapelog *log, bool open)
{
    log->frame.open = open;
    pthread_mutex_lock(&log->lock);
    log->journal_open = open;
    pthread_mutex_unlock(&log->lock);
}

static size_t memory_used(const struct batch *batch)
{
    return batch->stage.len + batch->pending_count * sizeof(*batch->pending);
}

static bool over_budget(const struct shapelog *log)
{
    size_t budget =
        log->batch.spill_at > log->stage_bytes ? log->batch.spill_at : log->stage_bytes;

    return memory_used(&log->batch) >= budget;
}

/* Writes the shape's committed entries, or all but the newest one. */
static int spill_shape(struct shapelog_shape *shape, struct err *err)
{
    bool open = shape->pending_first == shape->pending_open;
    uint32_t until = open ? shape->pending_newest : shape->pending_open;
    int rc;

    if (until == PENDING_NONE) /* nothing, or committed but held back by the sequencer */
        return 0;
    if (open && !shape->spilled) {
        shape->spilled = malloc(sizeof(*shape->spilled));
        if (!shape->spilled)
            return no_memory(err);
        *shape->spilled = shape->written;
    }
    rc = chain_write(shape, until, err);
    if (rc == 0 && open)
        shape->pending_open = until;
    return rc;
}

/* Shapes with much to write go to their own files; a frame takes the rest if that is much. */
static int spill_some(struct shapelog *log, uint64_t at_least, struct err *err)
{
    struct batch *batch = &log->batch;
    int rc = 0;

    for (struct list *l = batch->shapes.next; rc == 0 && l != &batch->shapes;
         l = l->next) {
        struct shapelog_shape *shape = LIST_ENTRY(l, struct shapelog_shape, batch_link);
        uint64_t count;

        if (chain_bytes(shape, shape->pending_newest, &count) < at_least)
            continue;
        rc = spill_shape(shape, err);
        if (rc == 0 && shapelog_frame_full(log))
            rc = shapelog_frame_write(log, FRAME_OPEN, 0, err);
    }
    return rc == 0 ? shapelog_frame_write(log, FRAME_OPEN, 0, err) : rc;
}

int shapelog_spill(struct shapelog *log, struct err *err)
{
    struct batch *batch = &log->batch;
    int rc = 0;

    if (!over_budget(log))
        return 0;
    set_open(log, true);
    rc = spill_some(log, own_bytes(batch), err);
    if (rc == 0)
        rc = compact(batch, err);
    if (rc == 0 && over_budget(log)) {
        rc = spill_some(log, 1, err);
        if (rc == 0)
            rc = compact(batch, err);
    }
    /* What could not go, as the newest entry of each shape, must double before all are looked
     * at again. */
    batch->spill_at = 2 * memory_used(batch);
    return rc;
}

static int check_message(struct slice json, struct err *err)
{
    size_t end = sizeof(MESSAGE_END) - 1;

    if (json.len < end || memcmp(json.ptr + json.len - end, MESSAGE_END, end) != 0)
        return err_set(err, ERR_INVALID, "an entry must end in " MESSAGE_END);
    if (json.len > MESSAGE_MAX_BYTES - MESSAGE_LAST_EXTRA)
        return err_set(err, ERR_LIMIT, "an entry has %zu bytes; at most %u can be kept",
                       json.len, MESSAGE_MAX_BYTES);
    return 0;
}

int shapelog_stage(struct shapelog *log, struct slice json, struct shapelog_variant *out,
                   struct err *err)
{
    struct batch *batch = &log->batch;
    int rc = check_message(json, err);
    void *items;

    if (rc != 0)
        return rc;
    if (json.len >= batch->stage.max_bytes - batch->stage.len)
        return err_set(err, ERR_LIMIT,
                       "the messages of one change come to more than %zu bytes: too many "
                       "shapes select different columns of a huge row",
                       batch->stage.max_bytes);
    items = batch->variants;
    if (!shapelog_grow(&items, &batch->variant_cap, batch->variant_count + 1,
                       sizeof(*batch->variants)))
        return no_memory(err);
    batch->variants = items;
    batch->variants[batch->variant_count] =
        (struct variant){.pos = batch->stage.len, .len = (uint32_t)json.len};
    buf_put_slice(&batch->stage, json);
    buf_putc(&batch->stage, ',');
    if (batch->stage.failed)
        return no_memory(err);
    out->n = (uint32_t)batch->variant_count++;
    return 0;
}

static struct offset newest_offset(const struct shapelog_shape *shape)
{
    const struct pending *p;

    if (shape->pending_newest == PENDING_NONE)
        return shape->written.at;
    p = &shape->log->batch.pending[shape->pending_newest];
    return (struct offset){p->tx, p->op, false};
}

int shapelog_append(struct shapelog_shape *shape, uint64_t tx, uint64_t op,
                    struct shapelog_variant variant, struct err *err)
{
    struct batch *batch = &shape->log->batch;
    struct offset at = {tx, op, false};
    void *items = batch->pending;
    uint32_t n = (uint32_t)batch->pending_count;

    ASSERT(variant.n < batch->variant_count);
    if (tx == 0 || op == OFFSET_OP_INF || offset_cmp(at, newest_offset(shape)) <= 0) {
        char text[OFFSET_TEXT_MAX];

        offset_print(at, text);
        return err_set(err, ERR_INVALID,
                       "an entry of %s at %s must be above the one before", shape->handle,
                       text);
    }
    if (batch->pending_count >= PENDING_MAX ||
        !shapelog_grow(&items, &batch->pending_cap, batch->pending_count + 1,
                       sizeof(*batch->pending)))
        return no_memory(err);
    batch->pending = items;
    batch->pending[batch->pending_count++] =
        (struct pending){.tx = tx, .op = op, .variant = variant.n, .next = PENDING_NONE};
    if (shape->pending_newest == PENDING_NONE)
        shape->pending_first = n;
    else
        batch->pending[shape->pending_newest].next = n;
    shape->pending_newest = n;
    if (shape->pending_open == PENDING_NONE)
        shape->pending_open = n;
    take_part(shape);
    return 0;
}

void shapelog_commit(struct shapelog_shape *shape)
{
    struct pending *p;

    if (shape->pending_open == PENDING_NONE)
        return;
    p = &shape->log->batch.pending[shape->pending_newest];
    p->flags |= ENTRY_LAST;
    shape->committed_tx = p->tx;
    shape->committed_op = p->op;
    shape->pending_open = PENDING_NONE;
    free(shape->spilled);
    shape->spilled = NULL;
}

struct offset shapelog_committed(const struct shapelog_shape *shape)
{
    if (shape->committed_tx == 0)
        return OFFSET_SNAPSHOT_END;
    return (struct offset){shape->committed_tx, shape->committed_op, false};
}

void shapelog_publish(struct shapelog_shape *shape)
{
    struct batch *batch = &shape->log->batch;

    if (!has_part(shape))
        return;
    list_remove(&shape->batch_link);
    list_push(&batch->given, &shape->batch_link);
}

/* --- Showing --- */

/* What of the written may be shown: not the open transaction's entries. */
static struct mark complete(const struct shapelog_shape *shape)
{
    return shape->spilled ? *shape->spilled : shape->written;
}

/* All of the shape's complete entries are on disk, in open frames: a group without entries makes
 * them count. */
static int journal_confirm(struct shapelog_shape *shape, struct err *err)
{
    struct entry_base base;
    int rc = shapelog_frame_begin(shape->log, err);

    if (rc == 0)
        shapelog_frame_group(shape->log, shape->id, complete(shape).entries, 0, &base);
    return rc;
}

static int write_given(struct shapelog *log, uint64_t lsn, struct err *err)
{
    struct batch *batch = &log->batch;
    int rc = 0;

    for (struct list *l = batch->given.next; rc == 0 && l != &batch->given; l = l->next) {
        struct shapelog_shape *shape = LIST_ENTRY(l, struct shapelog_shape, batch_link);

        rc = shape->pending_first == shape->pending_open
                 ? journal_confirm(shape, err)
                 : chain_write(shape, shape->pending_open, err);
        if (rc == 0 && shapelog_frame_full(log))
            rc = shapelog_frame_write(log, FRAME_PART, lsn, err);
    }
    if (rc == 0)
        rc = shapelog_frame_begin(log, err);
    return rc == 0 ? shapelog_frame_write(log, 0, lsn, err) : rc;
}

/* To be rewritten, so that a reader need not gather it: not for a few large messages, which many
 * shapes may share. */
static bool is_long(const struct shapelog_shape *shape)
{
    uint64_t bytes = shape->written.bytes - shape->own_end.bytes;
    uint64_t entries = shape->written.entries - shape->own_end.entries;

    return bytes >= TAIL_MAX_BYTES && (bytes / entries < TAIL_LARGE_MESSAGE ||
                                       bytes >= shape->log->config.chunk_bytes);
}

/* Returns how its row is to be written: own files that are shown are in no frame. */
static enum dirty show(struct shapelog_shape *shape)
{
    struct shapelog *log = shape->log;
    bool fat = is_long(shape);
    struct mark end = complete(shape);
    bool own = shape->own_end.entries > shape->published.entries;

    obs_count(log->config.obs, OBS_LOG_BYTES, end.bytes - shape->published.bytes);
    shapelog_lock(shape);
    shape->published = end;
    shapelog_unlock(shape);
    if (fat && !shape->fat) {
        shape->fat = true;
        list_push(&log->fat, &shape->fat_link);
    }
    return own ? DIRTY_ROW : DIRTY_TAIL;
}

/* Whether something is on disk that is not shown. */
static bool is_open(const struct batch *batch)
{
    for (struct list *l = batch->shapes.next; l != &batch->shapes; l = l->next) {
        const struct shapelog_shape *shape =
            LIST_ENTRY(l, struct shapelog_shape, batch_link);

        if (shape->written.entries != shape->published.entries)
            return true;
    }
    return false;
}

/* All that was written is shown, and the journal's end moves behind it. */
static void show_given(struct shapelog *log)
{
    struct batch *batch = &log->batch;
    const struct segment *journal = log->segments.journal;

    for (struct list *l = batch->given.next; l != &batch->given; l = l->next) {
        struct shapelog_shape *shape = LIST_ENTRY(l, struct shapelog_shape, batch_link);

        shape->shown_as = (uint8_t)show(shape);
    }
    pthread_mutex_lock(&log->lock);
    for (struct list *l = batch->given.next; l != &batch->given; l = l->next) {
        struct shapelog_shape *shape = LIST_ENTRY(l, struct shapelog_shape, batch_link);

        shapelog_mark_dirty_locked(shape, (enum dirty)shape->shown_as);
    }
    log->journal = (struct journal_mark){journal->n, atomic_load(&journal->end)};
    log->journal_bytes = log->frame.written_bytes;
    pthread_mutex_unlock(&log->lock);
    while (!list_empty(&batch->given)) {
        struct list *l = batch->given.next;
        struct shapelog_shape *shape = LIST_ENTRY(l, struct shapelog_shape, batch_link);

        list_remove(l);
        if (shape->pending_first == PENDING_NONE)
            batch->shape_count--;
        else
            list_push(&batch->shapes, l);
    }
    if (log->frame.open)
        set_open(log, is_open(batch));
}

int shapelog_flush(struct shapelog *log, uint64_t lsn, struct err *err)
{
    int rc = 0;

    if (!list_empty(&log->batch.given))
        rc = write_given(log, lsn, err);
    if (rc != 0)
        return rc;
    shapelog_visible_raise(log, lsn);
    if (list_empty(&log->batch.given))
        return 0;
    show_given(log);
    /* Without memory for it, what is left stays where it is. */
    (void)compact(&log->batch, NULL);
    return 0;
}

/* --- Going back --- */

static void tail_cut(struct shapelog_shape *shape)
{
    struct shapelog *log = shape->log;
    struct tail_walk walk;
    struct entry_base base = {0};
    const char *end = shape->tail.bytes;

    shapelog_tail_walk(&walk, &shape->tail, shape->own_end);
    while (shapelog_tail_next(&walk)) {
        if (walk.after.entries <= shape->published.entries) {
            end = walk.reader.at;
            base = walk.base;
        } else {
            shapelog_segment_unplace(log, ADDR_SEGMENT(walk.entry.addr));
        }
    }
    shape->tail.len = end ? (uint32_t)(end - shape->tail.bytes) : 0;
    shape->tail.base = base;
}

void shapelog_roll_back_shape(struct shapelog_shape *shape)
{
    shapelog_lock(shape);
    if (shape->own_end.entries > shape->published.entries) {
        shape->own_end = shape->published;
        shape->runs[shape->run_count - 1]->end = shape->published;
    }
    tail_cut(shape);
    shape->written = shape->published;
    while (shape->chunk_count > 0 &&
           shape->chunks[shape->chunk_count - 1].end.entries > shape->published.entries)
        shape->open_verified = shape->chunks[--shape->chunk_count].verified;
    shapelog_unlock(shape);
    shape->committed_tx = shape->published.entries ? shape->published.at.tx : 0;
    shape->committed_op = shape->published.entries ? shape->published.at.op : 0;
    shapelog_batch_forget(shape);
}

static void roll_back_all(struct list *shapes)
{
    while (!list_empty(shapes))
        shapelog_roll_back_shape(
            LIST_ENTRY(shapes->next, struct shapelog_shape, batch_link));
}

void shapelog_rollback(struct shapelog *log)
{
    roll_back_all(&log->batch.given);
    roll_back_all(&log->batch.shapes);
    forget_all(&log->batch);
    shapelog_frame_abandon(log);
    set_open(log, false);
}

/* --- Long tails --- */

bool shapelog_tend(struct shapelog *log, int64_t budget_us)
{
    int64_t until_us = clock_mono_us() + budget_us;

    while (!list_empty(&log->fat) && clock_mono_us() < until_us) {
        struct shapelog_shape *shape =
            LIST_ENTRY(log->fat.next, struct shapelog_shape, fat_link);
        struct err why;

        list_remove(&shape->fat_link);
        shape->fat = false;
        err_clear(&why);
        if (shapelog_own_move(shape, &why) == ERR_CORRUPT)
            shapelog_report(shape, &why);
    }
    return !list_empty(&log->fat);
}
