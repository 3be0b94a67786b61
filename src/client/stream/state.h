/* Where a stream stands in its shape's log, and how it got there: the states of the official client,
 * without what is about pausing and errors. Internal. No I/O, no time but what is given.
 *
 *   initial ─answer─▶ syncing ─up to date─▶ live
 *      │                 │ ▲                 │
 *      └──stale answer──▶ stale retry ◀──────┘     replaying: syncing what a cache may repeat
 *   any ──refetch──▶ initial                                                                    */
#ifndef COULOMB_CLIENT_STREAM_STATE_H
#define COULOMB_CLIENT_STREAM_STATE_H

#include "client/stream/fetch.h"
#include "client/stream/schema.h"

enum sync_mode {
    SYNC_INITIAL,
    SYNC_SYNCING,
    SYNC_REPLAYING,
    SYNC_STALE_RETRY,
    SYNC_LIVE
};

struct sync_state {
    struct heap *heap;
    enum sync_mode mode;
    struct blob handle; /* ptr NULL: none */
    struct blob offset;
    struct blob cursor;        /* of live requests */
    struct blob replay_cursor; /* of mode replaying: what was seen last */
    struct schema *schema;     /* NULL: not told yet */
    int64_t last_synced_us;
    bool has_lsn;
    uint64_t lsn;
    unsigned stale_tries;
    unsigned short_events;  /* connections of events that ended soon, in a row */
    unsigned silent_events; /* those that fell silent, since events came */
    bool no_events;         /* for good: long polling */
    /* Events tell the transaction but not the position in it, so that its last changes may come
     * again: what was delivered last. */
    bool loose; /* the offset is such a one */
    uint64_t last_lsn;
    uint64_t last_op;
};

int state_init(struct sync_state *st, struct heap *h, const char *offset,
               const char *handle, const char *cursor);
void state_fini(struct sync_state *st);
/* Everything comes again. All of these: COULOMB_E_MEMORY, and then nothing happened. */
int state_refetch(struct sync_state *st, struct slice handle);
/* An answer's head was taken for good. events: its offset is that of the connection's beginning and
 * says nothing of what was delivered. */
int state_accept(struct sync_state *st, const struct answer *a, bool events);
/* An up-to-date was reached, by an event that named this LSN when events is set. */
int state_up_to_date(struct sync_state *st, bool events, bool has_lsn, uint64_t lsn,
                     int64_t now_us);
/* Whether an up-to-date only repeats one of before (a cache's answer), cursor being the same. */
bool state_is_replay(const struct sync_state *st, const struct answer *a, bool events);
/* Whether this change was delivered before; remembers it if not. */
bool state_seen(struct sync_state *st, const struct stream_message *m);
/* A connection of events was silent for too long, though servers send a sign of life; whether that was
 * once too often: something may buffer it. */
bool state_events_silent(struct sync_state *st);
/* A connection of events ended after so long: whether that was too soon. */
bool state_events_closed(struct sync_state *st, int64_t lasted_ms);

#endif
