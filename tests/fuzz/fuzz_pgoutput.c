/* fuzz: server/txn */
/* pgoutput: any bytes, as a stream of messages, through decode and txn.
 *
 * The input is a list of messages, each behind a big-endian u16 of its length; what is
 * left at the end is one more. Every value that is handed on is read, so that a sanitizer
 * sees a slice that leaves its message; the grammar of the calls is checked. */
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "server/txn/txn.h"

struct seen {
    bool open;
    uint64_t next_position;
    unsigned sum;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_bytes(struct seen *s, const char *ptr, size_t len)
{
    for (size_t i = 0; i < len; i++)
        s->sum += (unsigned char)ptr[i];
}

static void read_row(struct seen *s, const struct value *row, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        ASSERT(row[i].kind != VALUE_UNCHANGED);
        if (row[i].kind == VALUE_TEXT)
            read_bytes(s, row[i].ptr, row[i].len);
    }
}

static void read_relation(struct seen *s, const struct decode_relation *rel)
{
    ASSERT(rel->name.len > 0 && rel->schema.len > 0);
    ASSERT(rel->column_count <= DECODE_COLUMNS_MAX);
    read_bytes(s, rel->schema.ptr, rel->schema.len);
    read_bytes(s, rel->name.ptr, rel->name.len);
    for (unsigned i = 0; i < rel->column_count; i++)
        read_bytes(s, rel->columns[i].name.ptr, rel->columns[i].name.len);
}

static int on_begin(void *ctx, const struct txn_begin *begin, struct err *err)
{
    struct seen *s = ctx;

    (void)err;
    ASSERT(!s->open && begin->lsn > 0);
    s->open = true;
    s->next_position = 0;
    return 0;
}

static int on_relation(void *ctx, const struct decode_relation *rel, struct err *err)
{
    (void)err;
    read_relation(ctx, rel);
    return 0;
}

static int on_change(void *ctx, const struct txn_change *change, struct err *err)
{
    struct seen *s = ctx;
    unsigned count = change->relation->column_count;

    (void)err;
    ASSERT(s->open && change->position == s->next_position);
    ASSERT((change->op == TXN_INSERT) == !change->old);
    ASSERT((change->op == TXN_DELETE) == !change->row);
    s->next_position += 2;
    read_relation(s, change->relation);
    read_row(s, change->old, change->old ? count : 0);
    read_row(s, change->row, change->row ? count : 0);
    return 0;
}

static int on_truncate(void *ctx, const struct decode_relation *rel, uint64_t position,
                       struct err *err)
{
    struct seen *s = ctx;

    (void)err;
    ASSERT(s->open && position == s->next_position);
    s->next_position += 2;
    read_relation(s, rel);
    return 0;
}

static int on_identity_lost(void *ctx, const struct decode_relation *rel, struct err *err)
{
    struct seen *s = ctx;

    (void)err;
    ASSERT(s->open);
    s->next_position += 2;
    read_relation(s, rel);
    return 0;
}

static int on_commit(void *ctx, uint64_t lsn, uint64_t end_lsn, struct err *err)
{
    struct seen *s = ctx;

    (void)err;
    (void)end_lsn;
    ASSERT(s->open && lsn > 0);
    s->open = false;
    return 0;
}

static void on_abandon(void *ctx)
{
    struct seen *s = ctx;

    ASSERT(s->open);
    s->open = false;
}

static void feed(struct txn *t, const uint8_t *data, size_t size)
{
    /* Alone in its allocation. */
    char *bytes = malloc(size ? size : 1);
    struct err err;
    int rc;

    ASSERT(bytes);
    if (size > 0)
        memcpy(bytes, data, size);
    err_clear(&err);
    rc = txn_feed(t, slice_make(bytes, size), &err);
    ASSERT(rc == 0 ||
           ((rc == ERR_CORRUPT || rc == ERR_MEMORY) && err.message[0] != '\0'));
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen seen = {.open = false};
    const struct txn_sink sink = {.ctx = &seen,
                                  .begin = on_begin,
                                  .relation = on_relation,
                                  .change = on_change,
                                  .truncate = on_truncate,
                                  .identity_lost = on_identity_lost,
                                  .commit = on_commit,
                                  .abandon = on_abandon};
    struct txn *t = txn_new(&sink);

    ASSERT(t);
    while (size > 0) {
        size_t len = size < 2 ? SIZE_MAX : (size_t)data[0] << 8 | data[1];

        if (len > size - 2 || size < 2) {
            feed(t, data, size);
            break;
        }
        feed(t, data + 2, len);
        data += 2 + len;
        size -= 2 + len;
    }
    ASSERT(txn_open(t) == seen.open);
    txn_reset(t);
    txn_free(t);
    return 0;
}
