/* From bytes of a body to messages. Internal; runs on the I/O thread, owner by owner.
 *
 *   bytes ─▶ frame (array, server-sent events, subset) ─▶ one message's JSON ─▶ segment
 *
 * A segment is some messages with all that they point to: what one batch delivers. Its memory is the
 * client's allocator's, taken here and given back by whoever it was handed to. */
#ifndef COULOMB_CLIENT_STREAM_READER_H
#define COULOMB_CLIENT_STREAM_READER_H

#include "base/arena.h"
#include "base/buf.h"
#include "client/stream/schema.h"
#include "client/stream/sse.h"
#include "json/json.h"

#define SEGMENT_MESSAGES_MAX 1024
#define READER_WIDE          32     /* columns, from which on rows are packed */
#define SEGMENT_CELLS_MAX    200000 /* of wide tables */
#define READER_ORDER         64
#define SEGMENT_BYTES_MAX    (1u << 20) /* no message is begun beyond */

struct slab; /* a block of a segment's memory */

struct packed_cell {
    size_t column;
    coulomb_value value;
};

/* What values points to when a message is packed. */
struct packed_row {
    size_t count;
    struct packed_cell cells[];
};

struct segment {
    struct segment *next;
    struct heap *heap;
    struct schema *schema; /* retained */
    struct slab *slabs;
    size_t bytes; /* of slabs */
    size_t count;
    size_t cap;
    struct stream_message *messages;
};

/* Rows of wide tables are kept packed, since a change has few of their columns: before a segment is
 * delivered they are unpacked. COULOMB_E_MEMORY: nothing happened. */
int segment_unpack(struct segment *s);
/* The list is freed. */
void segments_free(struct segment *list);

enum reader_frame {
    READER_ARRAY,  /* a log answer */
    READER_EVENTS, /* the same by server-sent events */
    READER_SUBSET  /* an object with metadata and data */
};

struct reader {
    struct heap *heap;
    enum reader_frame frame;
    struct schema *schema; /* retained */
    struct json_splitter splitter;
    struct sse sse;
    struct buf body; /* of a subset */
    struct arena scratch;
    struct segment *head;
    struct segment **tail; /* where the next one goes */
    struct segment *current;
    struct segment **group_end; /* behind the last whole group of events; NULL: none */
    size_t bytes;               /* of all segments, of events of those behind group_end */
    size_t groups;              /* of events, so far */
    size_t skipped;             /* messages of kinds that are not known */
    /* The headers of the message before, as text and read; within the current segment. */
    char *known;
    size_t known_len;
    size_t known_cap;
    const struct stream_headers *known_headers;
    enum stream_kind known_kind;
    /* Of a wide table's row that is being read. */
    struct packed_cell *cells;
    size_t cell_count;
    size_t cell_cap;
    uint16_t order[READER_ORDER]; /* which column came at that place of the last row */
    bool ends_up_to_date;         /* the last message is an up-to-date */
    char why[200];                /* after COULOMB_E_PROTOCOL */
};

/* max_bytes: of one message, and of a whole subset. */
void reader_init(struct reader *r, struct heap *h, enum reader_frame frame,
                 struct schema *schema, size_t max_bytes);
void reader_fini(struct reader *r);
/* 0; COULOMB_E_MEMORY; COULOMB_E_LIMIT; COULOMB_E_PROTOCOL (words in why). After a failure only
 * reader_fini. */
int reader_feed(struct reader *r, struct slice bytes);
/* The body is over. */
int reader_end(struct reader *r);
/* Messages so far, the caller's; NULL: none. */
struct segment *reader_take(struct reader *r);
/* Of events: those of groups that are whole. */
struct segment *reader_take_groups(struct reader *r);

/* --- Within (message.c, cell.c) --- */

/* One column more of the row that is being read, whose cells begin again with cell_count 0. NULL: no
 * memory. */
coulomb_value *reader_cell(struct reader *r, size_t column);
/* Memory of the current segment, aligned to 8; NULL: none. */
void *reader_alloc(struct reader *r, size_t n);
/* Room for one message more. NULL: no memory. */
struct stream_message *reader_message(struct reader *r);
/* Reads one message, the JSON reader being behind its "{". */
int message_read(struct reader *r, struct json_reader *j);
/* Reads a whole subset answer. */
int subset_read(struct reader *r, struct slice text);
/* A column's value of its text. 0, COULOMB_E_MEMORY, COULOMB_E_PROTOCOL. */
int cell_read(struct reader *r, const struct stream_column *column, struct slice text,
              coulomb_value *out);
int reader_refuse(struct reader *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
