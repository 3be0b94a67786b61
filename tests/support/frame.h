/* Builds pgoutput frames by hand, for the tests of decode and what stands below it.
 *
 *   struct frame f;
 *   frame_init(&f);
 *   frame_begin(&f, 0x1000, 0, 7);          one message: frame_slice(&f)
 *
 * Each frame_<message> starts the frame anew. A row is a text: "1|abc|~|^" is the values
 * 1 and abc, a NULL and an unchanged one; "" is a row without columns. */
#ifndef COULOMB_TESTS_SUPPORT_FRAME_H
#define COULOMB_TESTS_SUPPORT_FRAME_H

#include "base/buf.h"

struct frame {
    struct buf bytes;
};

void frame_init(struct frame *f);
void frame_fini(struct frame *f);
struct slice frame_slice(const struct frame *f);

/* Parts. */
void frame_u8(struct frame *f, unsigned v);
void frame_u16(struct frame *f, unsigned v);
void frame_u32(struct frame *f, uint32_t v);
void frame_u64(struct frame *f, uint64_t v);
void frame_string(struct frame *f, const char *text); /* with its NUL */
void frame_row(struct frame *f, const char *row);

/* Messages. time_us counts from 2000-01-01. */
void frame_begin(struct frame *f, uint64_t lsn, int64_t time_us, uint32_t xid);
void frame_commit(struct frame *f, uint64_t lsn, uint64_t end_lsn);
void frame_origin(struct frame *f, const char *name);
/* columns: "id:23,title:25"; a leading '*' marks one as part of the identity. */
void frame_relation(struct frame *f, uint32_t oid, const char *schema, const char *name,
                    char identity, const char *columns);
void frame_type(struct frame *f, uint32_t oid, const char *schema, const char *name);
void frame_insert(struct frame *f, uint32_t oid, const char *row);
/* mark: 'O' or 'K', or 0 for no old row. */
void frame_update(struct frame *f, uint32_t oid, char mark, const char *old,
                  const char *row);
void frame_delete(struct frame *f, uint32_t oid, char mark, const char *old);
void frame_truncate(struct frame *f, unsigned options, const uint32_t *oids,
                    uint32_t count);
void frame_message(struct frame *f, const char *prefix, const char *content);

#endif
