#include "support/frame.h"

#include <stdlib.h>

#include "base/assert.h"

void frame_init(struct frame *f)
{
    buf_init(&f->bytes, 1u << 24);
}

void frame_fini(struct frame *f)
{
    buf_fini(&f->bytes);
}

struct slice frame_slice(const struct frame *f)
{
    ASSERT(f->bytes.failed == 0);
    return buf_slice(&f->bytes);
}

static void start(struct frame *f, char type)
{
    buf_reset(&f->bytes, SIZE_MAX);
    buf_putc(&f->bytes, type);
}

void frame_u8(struct frame *f, unsigned v)
{
    buf_putc(&f->bytes, (char)(unsigned char)v);
}

void frame_u16(struct frame *f, unsigned v)
{
    frame_u8(f, v >> 8 & 0xff);
    frame_u8(f, v & 0xff);
}

void frame_u32(struct frame *f, uint32_t v)
{
    frame_u16(f, v >> 16);
    frame_u16(f, v & 0xffff);
}

void frame_u64(struct frame *f, uint64_t v)
{
    frame_u32(f, (uint32_t)(v >> 32));
    frame_u32(f, (uint32_t)v);
}

void frame_string(struct frame *f, const char *text)
{
    buf_put(&f->bytes, text, strlen(text) + 1);
}

static unsigned count_parts(const char *list, char separator)
{
    unsigned n = *list ? 1 : 0;

    for (; *list; list++)
        n += *list == separator;
    return n;
}

void frame_row(struct frame *f, const char *row)
{
    unsigned count = count_parts(row, '|');

    frame_u16(f, count);
    for (unsigned i = 0; i < count; i++) {
        size_t len = strcspn(row, "|");

        if (len == 1 && (*row == '~' || *row == '^')) {
            frame_u8(f, *row == '~' ? 'n' : 'u');
        } else {
            frame_u8(f, 't');
            frame_u32(f, (uint32_t)len);
            buf_put(&f->bytes, row, len);
        }
        row += len + 1;
    }
}

void frame_begin(struct frame *f, uint64_t lsn, int64_t time_us, uint32_t xid)
{
    start(f, 'B');
    frame_u64(f, lsn);
    frame_u64(f, (uint64_t)time_us);
    frame_u32(f, xid);
}

void frame_commit(struct frame *f, uint64_t lsn, uint64_t end_lsn)
{
    start(f, 'C');
    frame_u8(f, 0);
    frame_u64(f, lsn);
    frame_u64(f, end_lsn);
    frame_u64(f, 0);
}

void frame_origin(struct frame *f, const char *name)
{
    start(f, 'O');
    frame_u64(f, 1);
    frame_string(f, name);
}

void frame_relation(struct frame *f, uint32_t oid, const char *schema, const char *name,
                    char identity, const char *columns)
{
    unsigned count = count_parts(columns, ',');

    start(f, 'R');
    frame_u32(f, oid);
    frame_string(f, schema);
    frame_string(f, name);
    frame_u8(f, (unsigned char)identity);
    frame_u16(f, count);
    for (unsigned i = 0; i < count; i++) {
        bool in_identity = *columns == '*';
        size_t len;

        columns += in_identity;
        len = strcspn(columns, ":");
        frame_u8(f, in_identity);
        buf_put(&f->bytes, columns, len);
        frame_u8(f, 0);
        frame_u32(f, (uint32_t)strtoul(columns + len + 1, NULL, 10));
        frame_u32(f, UINT32_MAX); /* no typmod */
        columns += strcspn(columns, ",") + 1;
    }
}

void frame_type(struct frame *f, uint32_t oid, const char *schema, const char *name)
{
    start(f, 'Y');
    frame_u32(f, oid);
    frame_string(f, schema);
    frame_string(f, name);
}

void frame_insert(struct frame *f, uint32_t oid, const char *row)
{
    start(f, 'I');
    frame_u32(f, oid);
    frame_u8(f, 'N');
    frame_row(f, row);
}

void frame_update(struct frame *f, uint32_t oid, char mark, const char *old,
                  const char *row)
{
    start(f, 'U');
    frame_u32(f, oid);
    if (mark) {
        frame_u8(f, (unsigned char)mark);
        frame_row(f, old);
    }
    frame_u8(f, 'N');
    frame_row(f, row);
}

void frame_delete(struct frame *f, uint32_t oid, char mark, const char *old)
{
    start(f, 'D');
    frame_u32(f, oid);
    frame_u8(f, (unsigned char)mark);
    frame_row(f, old);
}

void frame_truncate(struct frame *f, unsigned options, const uint32_t *oids,
                    uint32_t count)
{
    start(f, 'T');
    frame_u32(f, count);
    frame_u8(f, options);
    for (uint32_t i = 0; i < count; i++)
        frame_u32(f, oids[i]);
}

void frame_message(struct frame *f, const char *prefix, const char *content)
{
    start(f, 'M');
    frame_u8(f, 1);
    frame_u64(f, 1);
    frame_string(f, prefix);
    frame_u32(f, (uint32_t)strlen(content));
    buf_puts(&f->bytes, content);
}
