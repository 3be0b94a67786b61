/* pgoutput, protocol version 1: bytes to messages.
 *
 * https://www.postgresql.org/docs/15/protocol-logicalrep-message-formats.html
 * The reader is sticky: the first underflow or nonsense sets a flag that later reads
 * respect, one check at the end fails the whole message. Values point into the frame. */
#ifndef COULOMB_SERVER_DECODE_DECODE_H
#define COULOMB_SERVER_DECODE_DECODE_H

#include "base/arena.h"
#include "base/err.h"
#include "server/row/value.h"

enum decode_kind {
    DECODE_BEGIN,
    DECODE_COMMIT,
    DECODE_ORIGIN,
    DECODE_RELATION,
    DECODE_TYPE,
    DECODE_INSERT,
    DECODE_UPDATE,
    DECODE_DELETE,
    DECODE_TRUNCATE,
    DECODE_MESSAGE
};

#define DECODE_COLUMNS_MAX 1664 /* Postgres allows 1600 */

struct decode_tuple {
    struct value *values;
    uint16_t count;
};

/* Which old row an update or delete carries: whole (FULL), its key only, or none. */
enum decode_old { DECODE_OLD_NONE, DECODE_OLD_KEY, DECODE_OLD_FULL };

struct decode_column {
    struct slice name;
    uint32_t type_oid;
    int32_t typmod;
    bool in_identity;
};

struct decode_relation {
    uint32_t oid;
    struct slice schema; /* "" on the wire means pg_catalog */
    struct slice name;
    char replica_identity; /* relreplident */
    uint16_t column_count;
    struct decode_column *columns;
};

struct decode_message {
    enum decode_kind kind;
    union {
        struct {
            uint64_t final_lsn; /* LSN of the commit record: the offset's tx */
            int64_t commit_us;  /* since 2000-01-01 */
            uint32_t xid;
        } begin;
        struct {
            uint64_t commit_lsn;
            uint64_t end_lsn;
            int64_t commit_us;
        } commit;
        struct decode_relation relation;
        struct {
            uint32_t oid;
            struct decode_tuple row;
        } insert;
        struct {
            uint32_t oid;
            enum decode_old old_kind;
            struct decode_tuple old;
            struct decode_tuple row;
        } update;
        struct {
            uint32_t oid;
            enum decode_old old_kind;
            struct decode_tuple old;
        } remove;
        struct {
            uint32_t count;
            const uint32_t *oids;
            bool cascade;
            bool restart_identity;
        } truncate;
    } u;
};

/* Decodes one whole message. Arrays come from the arena, texts point into frame.
 * ERR_CORRUPT with the message type and byte position on anything malformed; ERR_MEMORY.
 */
int decode_message(struct slice frame, struct arena *arena, struct decode_message *out,
                   struct err *err);

/* The relations that the stream has described. Entries are copies owned by the cache; a
 * pointer stays valid until a Relation message for the same OID replaces it or the cache
 * is emptied. */
struct decode_relations;

struct decode_relations *decode_relations_new(void);
void decode_relations_free(struct decode_relations *c);
/* Copies. *out gets the entry. ERR_MEMORY. */
int decode_relations_put(struct decode_relations *c,
                         const struct decode_relation *relation,
                         const struct decode_relation **out);
const struct decode_relation *decode_relations_get(const struct decode_relations *c,
                                                   uint32_t oid);
void decode_relations_clear(struct decode_relations *c);

#endif
