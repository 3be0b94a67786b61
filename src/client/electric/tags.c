/*
 * A row's message makes its entry anew: the fresh one is built whole, then takes the old one's place, so
 * that what finds no memory has changed nothing. A move marks the rows that it is about first, then goes
 * through them one by one.
 */

#include "client/electric/tags.h"

#include <stdio.h>
#include <string.h>

#include "client/collection/collection.h"
#include "json/json.h"

#define SLOT_MAX (COULOMB_KEY_MAX - 4u) /* with its position, "999/", it is a key */

struct tag_slot;

/* One slot of one tag of one row. */
struct tag_ref {
    struct tag_row *row;
    struct tag_slot *slot;
    size_t place; /* in the slot's refs */
    size_t tag;   /* of the row */
};

/* A value at a position. */
struct tag_slot {
    coulomb_key key; /* "position/value" */
    struct blob key_bytes;
    size_t pos;
    uint64_t move; /* the last one that named it */
    struct tag_ref **refs;
    size_t count;
    size_t cap;
};

struct tag {
    size_t at; /* in the row's text */
    size_t len;
    bool dead; /* a move removes it */
};

struct tag_row {
    coulomb_key key;
    struct blob key_bytes;
    char *text; /* of all tags */
    size_t text_bytes;
    struct tag *tags;
    size_t tag_count;
    size_t tag_cap;
    struct tag_ref *refs;
    size_t ref_count;
    size_t ref_cap;
    unsigned char *conditions; /* one for each position; NULL: not told */
    bool found;
};

static coulomb_key key_of_row(const void *item)
{
    return ((const struct tag_row *)item)->key;
}

static coulomb_key key_of_slot(const void *item)
{
    return ((const struct tag_slot *)item)->key;
}

void tags_init(struct tags *t, struct coulomb_collection *coll)
{
    memset(t, 0, sizeof(*t));
    t->coll = coll;
    ktab_init(&t->rows, coll->heap, key_of_row);
    ktab_init(&t->slots, coll->heap, key_of_slot);
}

static struct tag_row *find_row(const struct tags *t, coulomb_key key)
{
    return ktab_get(&t->rows, key, coll_hash(t->coll, key));
}

/* --- Slots --------------------------------------------------------------------------------------- */

/* The key of a slot, in `text`; false: it is too long to be one. */
static bool slot_key(size_t pos, struct slice value, char text[COULOMB_KEY_MAX],
                     coulomb_key *key)
{
    int n = snprintf(text, COULOMB_KEY_MAX, "%zu/", pos);

    if (n < 0 || value.len > COULOMB_KEY_MAX - (size_t)n)
        return false;
    memcpy(text + n, value.ptr, value.len);
    *key = coulomb_key_textn(text, (size_t)n + value.len);
    return true;
}

static struct tag_slot *find_slot(const struct tags *t, size_t pos, struct slice value)
{
    char text[COULOMB_KEY_MAX];
    coulomb_key key;

    return slot_key(pos, value, text, &key)
               ? ktab_get(&t->slots, key, coll_hash(t->coll, key))
               : NULL;
}

static void slot_free(struct tags *t, struct tag_slot *slot)
{
    struct heap *h = t->coll->heap;

    blob_fini(h, &slot->key_bytes);
    heap_free(h, slot->refs, slot->cap * sizeof(struct tag_ref *));
    heap_free(h, slot, sizeof(*slot));
}

static void slot_sweep(struct tags *t, struct tag_slot *slot)
{
    struct kent *ent;

    if (slot->count > 0)
        return;
    ent = ktab_find(&t->slots, slot->key, coll_hash(t->coll, slot->key));
    if (ent)
        ktab_remove(&t->slots, ent);
    slot_free(t, slot);
}

/* With room for `more` refs. NULL: no memory. */
static struct tag_slot *slot_get(struct tags *t, size_t pos, struct slice value,
                                 size_t more)
{
    struct heap *h = t->coll->heap;
    char text[COULOMB_KEY_MAX];
    coulomb_key key;
    struct tag_slot *slot;
    void *refs;
    uint32_t hash;
    int code;

    if (!slot_key(pos, value, text, &key))
        return NULL;
    hash = coll_hash(t->coll, key);
    slot = ktab_get(&t->slots, key, hash);
    if (!slot) {
        if (ktab_reserve(&t->slots, 1) != COULOMB_OK)
            return NULL;
        slot = heap_zalloc(h, sizeof(*slot));
        if (!slot)
            return NULL;
        if (key_copy(h, key, &slot->key_bytes, &slot->key) != COULOMB_OK) {
            slot_free(t, slot);
            return NULL;
        }
        slot->pos = pos;
        ktab_put(&t->slots, slot, hash);
    }
    refs = slot->refs;
    code = heap_grow(h, &refs, &slot->cap, slot->count + more, sizeof(struct tag_ref *));
    slot->refs = refs;
    if (code == COULOMB_OK)
        return slot;
    slot_sweep(t, slot);
    return NULL;
}

static void ref_unlink(struct tags *t, struct tag_ref *ref)
{
    struct tag_slot *slot = ref->slot;

    slot->count--;
    slot->refs[ref->place] = slot->refs[slot->count];
    slot->refs[ref->place]->place = ref->place;
    slot_sweep(t, slot);
}

/* --- Tags ---------------------------------------------------------------------------------------- */

/* The next slot of a tag from *at on; false at the end. Only a plain condition's slot is "1". */
static bool next_slot(struct slice tag, size_t *at, struct slice *slot)
{
    const char *slash;

    if (*at > tag.len)
        return false;
    *slot = slice_make(tag.ptr + *at, tag.len - *at);
    slash = slot->len > 0 ? memchr(slot->ptr, '/', slot->len) : NULL;
    if (slash)
        slot->len = (size_t)(slash - slot->ptr);
    *at += slot->len + 1;
    return true;
}

static bool is_value(struct slice slot)
{
    return slot.len > 0 && !slice_eq(slot, SLICE_LIT("1"));
}

/* How many positions, and how many of them are indexed. */
static size_t tag_positions(struct slice tag, size_t *values)
{
    struct slice slot;
    size_t at = 0;
    size_t n = 0;

    *values = 0;
    while (next_slot(tag, &at, &slot)) {
        *values += is_value(slot);
        n++;
    }
    return n;
}

static struct slice tag_of(coulomb_str s)
{
    return slice_make(s.ptr, s.len);
}

static bool tag_fits(const struct tags *t, struct slice tag)
{
    size_t values;

    return tag_positions(tag, &values) == t->positions;
}

/* The first tags that come say how the condition is made. */
static int learn_disjuncts(struct tags *t, const struct stream_headers *headers)
{
    size_t values;
    size_t positions;
    struct slice slot;

    if (t->positions > 0 || headers->tag_count == 0)
        return COULOMB_OK;
    positions = tag_positions(tag_of(headers->tags[0]), &values);
    if (positions > TAGS_POSITIONS_MAX)
        return COULOMB_OK;
    t->disjuncts = heap_zalloc(t->coll->heap, headers->tag_count * positions);
    if (!t->disjuncts)
        return COULOMB_E_MEMORY;
    t->positions = positions;
    t->disjunct_count = headers->tag_count;
    for (size_t i = 0; i < headers->tag_count; i++) {
        struct slice tag = tag_of(headers->tags[i]);
        size_t at = 0;

        for (size_t pos = 0; tag_fits(t, tag) && next_slot(tag, &at, &slot); pos++)
            t->disjuncts[i * positions + pos] = slot.len > 0;
    }
    return COULOMB_OK;
}

/* --- Rows ---------------------------------------------------------------------------------------- */

static void tag_row_free(struct tags *t, struct tag_row *row)
{
    struct heap *h = t->coll->heap;

    blob_fini(h, &row->key_bytes);
    heap_free(h, row->text, row->text_bytes);
    heap_free(h, row->tags, row->tag_cap * sizeof(*row->tags));
    heap_free(h, row->refs, row->ref_cap * sizeof(*row->refs));
    heap_free(h, row->conditions, t->positions);
    heap_free(h, row, sizeof(*row));
}

static void row_drop(struct tags *t, struct tag_row *row)
{
    struct kent *ent = ktab_find(&t->rows, row->key, coll_hash(t->coll, row->key));

    for (size_t i = 0; i < row->ref_count; i++)
        ref_unlink(t, &row->refs[i]);
    if (ent && ent->item == row)
        ktab_remove(&t->rows, ent);
    tag_row_free(t, row);
}

void tags_remove(struct tags *t, coulomb_key key)
{
    struct tag_row *row = find_row(t, key);

    if (row)
        row_drop(t, row);
}

bool tags_has(const struct tags *t, coulomb_key key)
{
    return find_row(t, key) != NULL;
}

void tags_clear(struct tags *t)
{
    struct heap *h = t->coll->heap;
    struct kent *ent;
    size_t it = 0;

    while ((ent = ktab_next(&t->rows, &it)) != NULL)
        tag_row_free(t, ent->item);
    it = 0;
    while ((ent = ktab_next(&t->slots, &it)) != NULL)
        slot_free(t, ent->item);
    ktab_fini(&t->rows);
    ktab_fini(&t->slots);
    heap_free(h, t->disjuncts, t->disjunct_count * t->positions);
    heap_free(h, t->found, t->found_cap * sizeof(struct tag_row *));
    t->disjuncts = NULL;
    t->found = NULL;
    t->positions = t->disjunct_count = t->found_cap = 0;
}

static struct slice row_tag(const struct tag_row *row, size_t i)
{
    return slice_make(row->text + row->tags[i].at, row->tags[i].len);
}

static bool among(const coulomb_str *tags, size_t count, struct slice tag)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_eq(tag_of(tags[i]), tag))
            return true;
    }
    return false;
}

/* Which tags a row is to have: those of the message, and of an update those that it had and the message
 * does not remove. */
struct wanted {
    const struct tag_row *old;
    const struct stream_headers *headers;
};

static bool wanted_at(const struct tags *t, const struct wanted *w, size_t i,
                      struct slice *tag)
{
    size_t count = w->headers->tag_count;

    if (i < count)
        *tag = tag_of(w->headers->tags[i]);
    else
        *tag = row_tag(w->old, i - count);
    if (i >= count && among(w->headers->tags, count, *tag))
        return false;
    return tag_fits(t, *tag) &&
           !among(w->headers->removed_tags, w->headers->removed_tag_count, *tag);
}

static size_t wanted_count(const struct wanted *w)
{
    return w->headers->tag_count + (w->old ? w->old->tag_count : 0);
}

/* The memory of a row with these tags. NULL: none. */
static struct tag_row *row_alloc(struct tags *t, coulomb_key key, const struct wanted *w)
{
    struct heap *h = t->coll->heap;
    struct tag_row *row = heap_zalloc(h, sizeof(*row));
    struct slice tag;
    size_t values;

    if (!row)
        return NULL;
    for (size_t i = 0; i < wanted_count(w); i++) {
        if (!wanted_at(t, w, i, &tag))
            continue;
        tag_positions(tag, &values);
        row->tag_cap++;
        row->ref_cap += values;
        row->text_bytes += tag.len;
    }
    row->text = heap_alloc(h, row->text_bytes);
    row->tags = heap_alloc(h, row->tag_cap * sizeof(*row->tags));
    row->refs = heap_alloc(h, row->ref_cap * sizeof(*row->refs));
    row->conditions = heap_alloc(h, t->positions);
    if (row->text && row->tags && row->refs && row->conditions &&
        key_copy(h, key, &row->key_bytes, &row->key) == COULOMB_OK)
        return row;
    tag_row_free(t, row);
    return NULL;
}

static int row_add_tag(struct tags *t, struct tag_row *row, size_t text_at,
                       struct slice tag)
{
    struct slice slot;
    size_t at = 0;

    memcpy(row->text + text_at, tag.ptr, tag.len);
    row->tags[row->tag_count] = (struct tag){.at = text_at, .len = tag.len};
    for (size_t pos = 0; next_slot(tag, &at, &slot); pos++) {
        struct tag_ref *ref = &row->refs[row->ref_count];

        if (!is_value(slot))
            continue;
        if (slot.len > SLOT_MAX)
            return client_fail(
                t->coll->client, COULOMB_E_PROTOCOL,
                "a tag of a row of %s has a slot of %zu bytes; servers send "
                "hashes, and %u are the most",
                t->coll->id, slot.len, SLOT_MAX);
        ref->slot = slot_get(t, pos, slot, 1);
        if (!ref->slot)
            return COULOMB_E_MEMORY;
        ref->row = row;
        ref->tag = row->tag_count;
        ref->place = ref->slot->count;
        ref->slot->refs[ref->slot->count++] = ref;
        row->ref_count++;
    }
    row->tag_count++;
    return COULOMB_OK;
}

/* The conditions that the message tells, or that the row had. */
static void row_conditions(const struct tags *t, struct tag_row *row,
                           const struct wanted *w)
{
    const struct stream_headers *headers = w->headers;

    if (headers->has_conditions && headers->condition_count == t->positions) {
        for (size_t i = 0; i < t->positions; i++)
            row->conditions[i] = headers->conditions[i];
    } else if (w->old && w->old->conditions) {
        memcpy(row->conditions, w->old->conditions, t->positions);
    } else {
        heap_free(t->coll->heap, row->conditions, t->positions);
        row->conditions = NULL;
    }
}

static int row_make_tagged(struct tags *t, coulomb_key key, const struct wanted *w,
                           struct tag_row **out)
{
    struct tag_row *row = row_alloc(t, key, w);
    struct slice tag;
    size_t text_at = 0;
    int code = row ? COULOMB_OK : COULOMB_E_MEMORY;

    for (size_t i = 0; code == COULOMB_OK && i < wanted_count(w); i++) {
        if (!wanted_at(t, w, i, &tag))
            continue;
        code = row_add_tag(t, row, text_at, tag);
        text_at += tag.len;
    }
    if (code != COULOMB_OK) {
        if (row)
            row_drop(t, row);
        return code;
    }
    row_conditions(t, row, w);
    *out = row;
    return COULOMB_OK;
}

int tags_put(struct tags *t, coulomb_key key, bool insert,
             const struct stream_headers *headers)
{
    uint32_t hash = coll_hash(t->coll, key);
    struct tag_row *old = ktab_get(&t->rows, key, hash);
    struct wanted w = {insert ? NULL : old, headers};
    struct tag_row *row = NULL;
    int code;

    if (!insert && !headers->has_tags && !headers->has_removed_tags &&
        !headers->has_conditions)
        return COULOMB_OK;
    code = learn_disjuncts(t, headers);
    if (code == COULOMB_OK)
        code = ktab_reserve(&t->rows, 1);
    if (code == COULOMB_OK && t->positions > 0)
        code = row_make_tagged(t, key, &w, &row);
    if (code != COULOMB_OK)
        return code;
    if (old)
        row_drop(t, old);
    if (row && row->tag_count == 0)
        row_drop(t, row);
    else if (row)
        ktab_put(&t->rows, row, hash);
    return COULOMB_OK;
}

/* --- Moves ---------------------------------------------------------------------------------------- */

static bool visible(const struct tags *t, const struct tag_row *row)
{
    for (size_t d = 0; d < t->disjunct_count; d++) {
        const unsigned char *in = t->disjuncts + d * t->positions;
        bool all = true;

        for (size_t pos = 0; pos < t->positions; pos++)
            all = all && (!in[pos] || row->conditions[pos]);
        if (all)
            return true;
    }
    return false;
}

static int found_add(struct tags *t, size_t n, struct tag_row *row)
{
    void *rows = t->found;
    int code =
        heap_grow(t->coll->heap, &rows, &t->found_cap, n + 1, sizeof(struct tag_row *));

    t->found = rows;
    if (code == COULOMB_OK) {
        row->found = true;
        t->found[n] = row;
    }
    return code;
}

/* A move begins: the slots that it names, and the rows that have them, each once, in t->found. */
static int find_rows(struct tags *t, const struct stream_pattern *patterns, size_t count,
                     size_t *found)
{
    size_t n = 0;
    int code = COULOMB_OK;

    t->move++;
    for (size_t i = 0; i < count && code == COULOMB_OK; i++) {
        struct tag_slot *slot = find_slot(t, patterns[i].pos, tag_of(patterns[i].value));

        if (slot)
            slot->move = t->move;
        for (size_t r = 0; slot && r < slot->count && code == COULOMB_OK; r++) {
            if (slot->refs[r]->row->found)
                continue;
            code = found_add(t, n, slot->refs[r]->row);
            n += code == COULOMB_OK;
        }
    }
    for (size_t i = 0; i < n; i++)
        t->found[i]->found = false;
    *found = n;
    return code;
}

static void set_conditions(const struct tags *t, struct tag_row *row, bool to)
{
    for (size_t r = 0; r < row->ref_count; r++) {
        if (row->refs[r].slot->move == t->move)
            row->conditions[row->refs[r].slot->pos] = to;
    }
}

/* Marks the tags that the move names; false: another one is left. */
static bool mark_dead(const struct tags *t, struct tag_row *row)
{
    size_t dead = 0;

    for (size_t r = 0; r < row->ref_count; r++) {
        if (row->refs[r].slot->move == t->move)
            row->tags[row->refs[r].tag].dead = true;
    }
    for (size_t i = 0; i < row->tag_count; i++)
        dead += row->tags[i].dead;
    return dead == row->tag_count;
}

static void revive(struct tag_row *row)
{
    for (size_t i = 0; i < row->tag_count; i++)
        row->tags[i].dead = false;
}

/* Takes the dead tags out, in place. */
static void bury(struct tags *t, struct tag_row *row)
{
    size_t refs = 0;
    size_t tags = 0;

    for (size_t r = 0; r < row->ref_count; r++) {
        struct tag_ref *ref = &row->refs[r];
        size_t before = 0;

        if (row->tags[ref->tag].dead) {
            ref_unlink(t, ref);
            continue;
        }
        for (size_t i = 0; i < ref->tag; i++)
            before += row->tags[i].dead;
        row->refs[refs] = *ref;
        row->refs[refs].tag -= before;
        ref->slot->refs[ref->place] = &row->refs[refs];
        refs++;
    }
    row->ref_count = refs;
    for (size_t i = 0; i < row->tag_count; i++) {
        if (!row->tags[i].dead)
            row->tags[tags++] = row->tags[i];
    }
    row->tag_count = tags;
}

static int move_out_row(struct tags *t, struct tag_row *row, tags_moved_fn *fn, void *arg)
{
    bool leaves;
    int code;

    if (row->conditions) {
        set_conditions(t, row, false);
        leaves = !visible(t, row);
    } else {
        leaves = mark_dead(t, row);
    }
    code = fn(arg, row->key, leaves);
    if (code != COULOMB_OK)
        revive(row);
    else if (leaves)
        row_drop(t, row);
    else
        bury(t, row);
    return code;
}

int tags_move_out(struct tags *t, const struct stream_pattern *patterns, size_t count,
                  tags_moved_fn *fn, void *arg)
{
    size_t n = 0;
    int code = find_rows(t, patterns, count, &n);

    for (size_t i = 0; code == COULOMB_OK && i < n; i++)
        code = move_out_row(t, t->found[i], fn, arg);
    return code;
}

int tags_move_in(struct tags *t, const struct stream_pattern *patterns, size_t count,
                 tags_moved_fn *fn, void *arg)
{
    size_t n = 0;
    int code = find_rows(t, patterns, count, &n);

    for (size_t i = 0; code == COULOMB_OK && i < n; i++) {
        if (!t->found[i]->conditions)
            continue;
        set_conditions(t, t->found[i], true);
        code = fn(arg, t->found[i]->key, false);
    }
    return code;
}

/* --- Keeping them ----------------------------------------------------------------------------------- */

static void put_conditions(struct buf *out, size_t count, const unsigned char *bytes,
                           const bool *bools)
{
    buf_puts(out, ",\"active_conditions\":[");
    for (size_t i = 0; i < count; i++) {
        buf_puts(out, i > 0 ? "," : "");
        buf_puts(out, (bytes ? bytes[i] != 0 : bools[i]) ? "true" : "false");
    }
    buf_putc(out, ']');
}

void tags_print(const struct tags *t, coulomb_key key, struct buf *out)
{
    const struct tag_row *row = find_row(t, key);
    const char *comma = "";

    if (!row)
        return;
    buf_puts(out, "\"tags\":[");
    for (size_t i = 0; i < row->tag_count; i++) {
        if (row->tags[i].dead)
            continue;
        buf_puts(out, comma);
        json_put_string(out, row_tag(row, i));
        comma = ",";
    }
    buf_putc(out, ']');
    if (row->conditions)
        put_conditions(out, t->positions, row->conditions, NULL);
}

void tags_print_headers(const struct stream_headers *headers, struct buf *out)
{
    if (!headers->has_tags)
        return;
    buf_puts(out, "\"tags\":[");
    for (size_t i = 0; i < headers->tag_count; i++) {
        buf_puts(out, i > 0 ? "," : "");
        json_put_string(out, tag_of(headers->tags[i]));
    }
    buf_putc(out, ']');
    if (headers->has_conditions)
        put_conditions(out, headers->condition_count, NULL, headers->conditions);
}

/* What tags_restore() reads. */
struct restored {
    coulomb_str *tags;
    size_t tag_count;
    size_t tag_cap;
    bool *conditions;
    size_t condition_count;
    size_t condition_cap;
    bool has_conditions;
};

static int restore_tag(struct tags *t, struct restored *r, struct slice tag)
{
    struct heap *h = t->coll->heap;
    void *tags = r->tags;
    int code = heap_grow(h, &tags, &r->tag_cap, r->tag_count + 1, sizeof(*r->tags));
    char *copy;

    r->tags = tags;
    copy = code == COULOMB_OK ? heap_alloc(h, tag.len) : NULL;
    if (!copy)
        return COULOMB_E_MEMORY;
    if (tag.len > 0)
        memcpy(copy, tag.ptr, tag.len);
    r->tags[r->tag_count++] = (coulomb_str){copy, tag.len};
    return COULOMB_OK;
}

static int restore_condition(struct tags *t, struct restored *r, bool is)
{
    void *all = r->conditions;
    int code = heap_grow(t->coll->heap, &all, &r->condition_cap, r->condition_count + 1,
                         sizeof(*r->conditions));

    r->conditions = all;
    if (code == COULOMB_OK)
        r->conditions[r->condition_count++] = is;
    return code;
}

/* The members of an array; anything else ends it. */
static int restore_array(struct tags *t, struct json_reader *j, struct restored *r,
                         bool tags)
{
    int code = COULOMB_OK;

    while (code == COULOMB_OK) {
        enum json_event ev = json_next(j);

        if (tags && ev == JSON_STRING)
            code = restore_tag(t, r, j->text);
        else if (!tags && (ev == JSON_TRUE || ev == JSON_FALSE))
            code = restore_condition(t, r, ev == JSON_TRUE);
        else
            return COULOMB_OK;
    }
    return code;
}

static int restore_members(struct tags *t, struct json_reader *j, struct restored *r)
{
    int code = COULOMB_OK;

    if (json_next(j) != JSON_OBJECT_BEGIN)
        return COULOMB_OK;
    while (code == COULOMB_OK && json_next(j) == JSON_NAME) {
        bool tags = slice_eq(j->text, SLICE_LIT("tags"));
        bool conditions = slice_eq(j->text, SLICE_LIT("active_conditions"));
        enum json_event ev = json_next(j);

        r->has_conditions = r->has_conditions || conditions;
        if ((tags || conditions) && ev == JSON_ARRAY_BEGIN)
            code = restore_array(t, j, r, tags);
        else if (!json_skip(j, ev))
            return COULOMB_OK;
    }
    return code;
}

int tags_restore(struct tags *t, coulomb_key key, struct slice json)
{
    struct heap *h = t->coll->heap;
    struct restored r = {0};
    struct stream_headers headers = {.has_tags = true};
    struct json_reader j;
    int code;

    json_reader_init_from(&j, json, &h->mem);
    code = restore_members(t, &j, &r);
    if (code == COULOMB_OK && j.scratch.failed == ERR_MEMORY)
        code = COULOMB_E_MEMORY;
    json_reader_fini(&j);
    headers.tags = r.tags;
    headers.tag_count = r.tag_count;
    headers.conditions = r.conditions;
    headers.condition_count = r.condition_count;
    headers.has_conditions = r.has_conditions;
    if (code == COULOMB_OK && r.tag_count > 0)
        code = tags_put(t, key, true, &headers);
    for (size_t i = 0; i < r.tag_count; i++)
        heap_free(h, (char *)(uintptr_t)r.tags[i].ptr, r.tags[i].len);
    heap_free(h, r.tags, r.tag_cap * sizeof(*r.tags));
    heap_free(h, r.conditions, r.condition_cap * sizeof(*r.conditions));
    return code;
}
