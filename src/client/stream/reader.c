/*
 * The reader: frames to messages, messages to segments.
 *
 * A segment is closed when it has enough messages or bytes, and never in the middle of a message;
 * its memory is a few blocks, so that a row costs no allocation of its own. Nothing here looks at what
 * messages mean but for one thing: an up-to-date ends a group of server-sent events.
 */

#include "client/stream/reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

#define SLAB_FIRST_BYTES  2048u
#define SLAB_MAX_BYTES    (128u * 1024)
#define SCRATCH_MAX_BYTES (256u * 1024 * 1024)

struct slab {
    struct slab *next;
    size_t used;
    size_t size;
};

void reader_init(struct reader *r, struct heap *h, enum reader_frame frame,
                 struct schema *schema, size_t max_bytes)
{
    memset(r, 0, sizeof(*r));
    r->heap = h;
    r->frame = frame;
    r->schema = schema_retain(schema);
    r->tail = &r->head;
    json_splitter_init_from(&r->splitter, max_bytes, &h->shared);
    sse_init(&r->sse, max_bytes, &h->shared);
    buf_init_from(&r->body, max_bytes, &h->shared);
    arena_init_from(&r->scratch, SCRATCH_MAX_BYTES, &h->shared);
}

void reader_fini(struct reader *r)
{
    segments_free(r->head);
    schema_release(r->schema);
    json_splitter_fini(&r->splitter);
    sse_fini(&r->sse);
    buf_fini(&r->body);
    arena_fini(&r->scratch);
    heap_shared_free(r->heap, r->known);
    heap_shared_free(r->heap, r->cells);
}

int reader_refuse(struct reader *r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (vsnprintf(r->why, sizeof(r->why), format, args) < 0)
        r->why[0] = '\0';
    va_end(args);
    return COULOMB_E_PROTOCOL;
}

/* --- Segments ------------------------------------------------------------------------------------- */

void segments_free(struct segment *list)
{
    while (list) {
        struct segment *s = list;

        list = s->next;
        while (s->slabs) {
            struct slab *b = s->slabs;

            s->slabs = b->next;
            heap_shared_free(s->heap, b);
        }
        schema_release(s->schema);
        heap_shared_free(s->heap, s->messages);
        heap_shared_free(s->heap, s);
    }
}

/* Of rows of so many columns, unpacked, a segment has no more than it may. */
static size_t messages_max(const struct reader *r)
{
    size_t columns = r->schema ? r->schema->count : 0;

    if (columns < READER_WIDE)
        return SEGMENT_MESSAGES_MAX;
    return columns < SEGMENT_CELLS_MAX / SEGMENT_MESSAGES_MAX
               ? SEGMENT_MESSAGES_MAX
               : SEGMENT_CELLS_MAX / columns;
}

/* The values behind *to, which take as many of *dense as there are columns. */
static void unpack_row(const struct schema *schema, const coulomb_value **to,
                       coulomb_value **dense)
{
    const struct packed_row *row = (const void *)*to;
    coulomb_value *values = *dense;

    memset(values, 0, schema->count * sizeof(*values)); /* all absent */
    for (size_t i = 0; i < row->count; i++)
        values[row->cells[i].column] = row->cells[i].value;
    *to = values;
    *dense += schema->count;
}

int segment_unpack(struct segment *s)
{
    coulomb_value *dense;
    struct slab *b;
    size_t rows = 0;
    size_t bytes;

    for (size_t i = 0; i < s->count; i++)
        rows += (size_t)s->messages[i].packed + s->messages[i].old_packed;
    if (rows == 0)
        return COULOMB_OK;
    bytes = rows * s->schema->count * sizeof(*dense);
    b = heap_shared(s->heap, NULL, sizeof(*b) + bytes);
    if (!b)
        return COULOMB_E_MEMORY;
    *b = (struct slab){.next = s->slabs, .used = bytes, .size = bytes};
    s->slabs = b;
    dense = (coulomb_value *)(void *)(b + 1);
    for (size_t i = 0; i < s->count; i++) {
        struct stream_message *m = &s->messages[i];

        if (m->packed)
            unpack_row(s->schema, &m->values, &dense);
        if (m->old_packed)
            unpack_row(s->schema, &m->old_values, &dense);
        m->packed = m->old_packed = false;
    }
    return COULOMB_OK;
}

coulomb_value *reader_cell(struct reader *r, size_t column)
{
    if (r->cell_count == r->cell_cap) {
        size_t cap = r->cell_cap > 0 ? r->cell_cap * 2 : 16;
        struct packed_cell *grown = heap_shared(r->heap, r->cells, cap * sizeof(*grown));

        if (!grown)
            return NULL;
        r->cells = grown;
        r->cell_cap = cap;
    }
    r->cells[r->cell_count].column = column;
    return &r->cells[r->cell_count++].value;
}

static bool segment_begin(struct reader *r)
{
    struct segment *s = heap_shared(r->heap, NULL, sizeof(*s));

    if (!s)
        return false;
    *s = (struct segment){.heap = r->heap, .schema = schema_retain(r->schema)};
    *r->tail = s;
    r->tail = &s->next;
    r->current = s;
    r->known_headers = NULL;
    return true;
}

static bool slab_add(struct reader *r, size_t n)
{
    struct segment *s = r->current;
    size_t size = s->slabs ? s->slabs->size * 4 : SLAB_FIRST_BYTES;
    struct slab *b;

    if (size > SLAB_MAX_BYTES)
        size = SLAB_MAX_BYTES;
    if (size < n)
        size = n;
    b = heap_shared(r->heap, NULL, sizeof(*b) + size);
    if (!b)
        return false;
    *b = (struct slab){.next = s->slabs, .size = size};
    s->slabs = b;
    s->bytes += size;
    r->bytes += size;
    return true;
}

void *reader_alloc(struct reader *r, size_t n)
{
    size_t rounded = (n + 7) & ~(size_t)7;
    struct slab *b = r->current->slabs;

    if (rounded < n || rounded > PTRDIFF_MAX - sizeof(*b))
        return NULL;
    if (!b || b->size - b->used < rounded) {
        if (!slab_add(r, rounded))
            return NULL;
        b = r->current->slabs;
    }
    b->used += rounded;
    return (char *)(b + 1) + b->used - rounded;
}

struct stream_message *reader_message(struct reader *r)
{
    struct segment *s = r->current;

    if (!s || s->count >= messages_max(r) || s->bytes >= SEGMENT_BYTES_MAX) {
        if (!segment_begin(r))
            return NULL;
        s = r->current;
    }
    if (s->count == s->cap) {
        size_t cap = s->cap > 0 ? s->cap * 4 : 4;
        struct stream_message *grown =
            heap_shared(r->heap, s->messages, cap * sizeof(*grown));

        if (!grown)
            return NULL;
        r->bytes += (cap - s->cap) * sizeof(*grown);
        s->bytes += (cap - s->cap) * sizeof(*grown);
        s->messages = grown;
        s->cap = cap;
    }
    memset(&s->messages[s->count], 0, sizeof(s->messages[0]));
    return &s->messages[s->count];
}

struct segment *reader_take(struct reader *r)
{
    struct segment *all = r->head;

    r->head = r->current = NULL;
    r->tail = &r->head;
    r->group_end = NULL;
    r->bytes = 0;
    r->known_headers = NULL;
    return all;
}

struct segment *reader_take_groups(struct reader *r)
{
    struct segment *list = r->head;

    if (!r->group_end)
        return NULL;
    r->head = *r->group_end;
    *r->group_end = NULL;
    if (!r->head)
        r->tail = &r->head;
    r->group_end = NULL;
    return list;
}

/* An up-to-date was read: what comes next is in other segments. */
static void end_group(struct reader *r)
{
    r->groups++;
    r->group_end = r->tail;
    r->current = NULL;
    r->known_headers = NULL;
    r->bytes = 0;
}

/* --- Frames ---------------------------------------------------------------------------------------- */

static int read_text(struct reader *r, struct slice text)
{
    struct json_reader j;
    int code;

    json_reader_init_from(&j, text, &r->heap->shared);
    if (json_next(&j) != JSON_OBJECT_BEGIN)
        code = reader_refuse(r, "a message is not a JSON object");
    else
        code = message_read(r, &j);
    if (code == COULOMB_OK && json_next(&j) != JSON_END)
        code = reader_refuse(r, "bytes behind a message");
    json_reader_fini(&j);
    return code;
}

static int feed_array(struct reader *r, struct slice bytes)
{
    struct slice text;

    for (;;) {
        int code;

        switch (json_split(&r->splitter, &bytes, &text)) {
        case JSON_SPLIT_ELEMENT:
            code = read_text(r, text);
            if (code != COULOMB_OK)
                return code;
            break;
        case JSON_SPLIT_MORE:
        case JSON_SPLIT_END:
            return COULOMB_OK;
        case JSON_SPLIT_ERROR:
            if (r->splitter.pending.failed)
                return r->splitter.pending.failed == ERR_MEMORY ? COULOMB_E_MEMORY
                                                                : COULOMB_E_LIMIT;
            return reader_refuse(r, "the body is not a JSON array: %s",
                                 r->splitter.error);
        }
    }
}

static int buf_code(const struct buf *b)
{
    return b->failed == 0            ? COULOMB_OK
           : b->failed == ERR_MEMORY ? COULOMB_E_MEMORY
                                     : COULOMB_E_LIMIT;
}

static int feed_events(struct reader *r, struct slice bytes)
{
    struct slice data;
    int code = COULOMB_OK;

    while (code == COULOMB_OK && sse_next(&r->sse, &bytes, &data)) {
        if (data.len > 0)
            code = read_text(r, data);
        if (code == COULOMB_OK && data.len > 0 && r->ends_up_to_date)
            end_group(r);
    }
    if (code == COULOMB_OK)
        code = buf_code(&r->sse.line);
    return code == COULOMB_OK ? buf_code(&r->sse.data) : code;
}

int reader_feed(struct reader *r, struct slice bytes)
{
    if (r->frame == READER_ARRAY)
        return feed_array(r, bytes);
    if (r->frame == READER_EVENTS)
        return feed_events(r, bytes);
    buf_put_slice(&r->body, bytes);
    return buf_code(&r->body);
}

int reader_end(struct reader *r)
{
    if (r->frame == READER_SUBSET)
        return subset_read(r, buf_slice(&r->body));
    if (r->frame == READER_ARRAY && !json_split_complete(&r->splitter))
        return reader_refuse(r, "the body ends within its JSON array");
    return COULOMB_OK;
}
