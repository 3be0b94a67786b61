/* The copy stream: frames in, standby statuses out.
 *
 *   server ─▶ 'w' u64 start, u64 end, i64 time, payload        (XLogData)
 *             'k' u64 end, i64 time, u8 reply                   (keepalive)
 *   we     ─▶ 'r' u64 write, u64 flush, u64 apply, i64 time, u8 reply
 *
 * What may be acknowledged: only what the sink calls flushed. `write` is what was handed
 * on; it releases no WAL, but it spares us the keepalives with which an idle server asks
 * for it. An answer is asked for when nothing came since the status before: a server that
 * has nothing to say is told from one that is gone. `flush` and `apply` never go back, and are 0, which the server ignores, as long
 * as they would say nothing new: some versions let a slot move backwards.
 *
 * Fairness: a burst of at most BURST_FRAMES or BURST_US is handed on, then the status and
 * the wakes get their turn; so a stream that never pauses is published and acknowledged,
 * and a sink that takes long for each frame keeps the connection alive. Rejected: a
 * thread of its own for statuses (a second owner of the connection).
 *
 * Postgres sends each change on its own, so that a reader that is faster is woken for each: two
 * system calls of ours and a wake-up of its. While much comes we look only every BUSY_PAUSE_US. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "server/replica/internal.h"

#define BURST_FRAMES    256
#define BURST_US        2000
#define BUSY_FRAMES     8
#define BUSY_PAUSE_US   100
#define BUSY_READ_BYTES 16384 /* what libpq reads at a time */
#define REPORT_PAUSE_MS 100
#define STEADY_MS       30000 /* of streaming end the backoff */
#define FAREWELL_MS     300
#define XLOGDATA_HEADER 25
#define KEEPALIVE_BYTES 18
#define STATUS_BYTES    34
#define EPOCH_2000_US   INT64_C(946684800000000)

static uint64_t get_u64(const char *bytes)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v = v << 8 | (unsigned char)bytes[i];
    return v;
}

static void put_u64(char *bytes, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        bytes[i] = (char)(unsigned char)(v & 0xff);
}

static void advance(uint64_t *lsn, uint64_t to)
{
    if (to > *lsn)
        *lsn = to;
}

/* --- Statuses --- */

static int send_status(struct replica *r, struct err *err)
{
    char status[STATUS_BYTES] = {'r'};
    uint64_t flushed = r->sink.flushed_lsn(r->sink.ctx);
    uint64_t told;
    int sent;

    advance(&r->reported_lsn, flushed);
    told = r->reported_lsn > r->attached.confirmed_lsn ? r->reported_lsn : 0;
    put_u64(status + 1, r->received_lsn > told ? r->received_lsn : told);
    put_u64(status + 9, told);
    put_u64(status + 17, told);
    put_u64(status + 25, (uint64_t)(clock_wall_us() - EPOCH_2000_US));
    status[33] = r->heard ? 0 : 1;
    r->heard = false;
    sent = PQputCopyData(r->conn, status, sizeof(status));
    if (sent < 0)
        return pg_fail(err, r->conn, NULL, "Writing to Postgres");
    r->status_ms = clock_mono_ms();
    r->report_soon = sent == 0; /* the server does not read: again in a while */
    r->reply_requested = false;
    return link_flush(r, err) < 0 ? ERR_RETRY : 0;
}

static int64_t next_status_ms(const struct replica *r)
{
    int64_t pause_ms =
        r->interval_ms < REPORT_PAUSE_MS ? r->interval_ms : REPORT_PAUSE_MS;

    if (r->reply_requested)
        return r->status_ms;
    return r->status_ms + (r->report_soon ? pause_ms : r->interval_ms);
}

/* --- Frames --- */

static int fail_protocol(struct replica *r, struct err *err, const char *what, int len)
{
    r->reason = OBS_STREAM_PROTOCOL;
    return err_set(err, ERR_RETRY, "The replication stream sent %s of %d bytes", what,
                   len);
}

static int take_xlogdata(struct replica *r, const char *bytes, int len, struct err *err)
{
    struct slice payload;
    int rc;

    if (len < XLOGDATA_HEADER)
        return fail_protocol(r, err, "a data message", len);
    payload = slice_make(bytes + XLOGDATA_HEADER, (size_t)(len - XLOGDATA_HEADER));
    obs_count(r->config.obs, OBS_WAL_BYTES, payload.len);
    r->fresh = true;
    rc = r->sink.frame(r->sink.ctx, payload, err);
    if (rc != 0) {
        if (rc == ERR_CORRUPT)
            r->reason = OBS_STREAM_PROTOCOL;
        return rc;
    }
    advance(&r->received_lsn, get_u64(bytes + 1));
    if (payload.len > 0 && payload.ptr[0] == 'C')
        r->commit_lsn = r->received_lsn;
    return 0;
}

static int take_keepalive(struct replica *r, const char *bytes, int len, struct err *err)
{
    uint64_t end_lsn;

    if (len < KEEPALIVE_BYTES)
        return fail_protocol(r, err, "a keepalive", len);
    end_lsn = get_u64(bytes + 1);
    advance(&r->received_lsn, end_lsn);
    if (bytes[17] != 0)
        r->reply_requested = true;
    r->fresh = true;
    r->sink.wal_end(r->sink.ctx, end_lsn);
    return 0;
}

static int take_message(struct replica *r, const char *bytes, int len, struct err *err)
{
    r->heard = true;
    if (len > 0 && bytes[0] == 'w')
        return take_xlogdata(r, bytes, len, err);
    if (len > 0 && bytes[0] == 'k')
        return take_keepalive(r, bytes, len, err);
    return fail_protocol(r, err, "a message of unknown type", len);
}

/* --- The end of the stream --- */

/* Notes why Postgres ended a stream, or would not begin it. */
static void judge_end(struct replica *r, const struct err *err)
{
    if (strcmp(err->sqlstate, "55000") == 0)
        r->reason = OBS_STREAM_SLOT;
    if (strcmp(err->sqlstate, "42704") != 0)
        return;
    /* Slot or publication is gone. A publication made after the slot's position never
     * helps. */
    r->reason = OBS_STREAM_SLOT;
    r->slot_useless = strstr(err->message, r->config.publication) != NULL;
}

static int fail_ended(struct replica *r, struct err *err)
{
    PGresult *result = PQgetResult(r->conn);
    int rc;

    if (result && PQresultStatus(result) == PGRES_FATAL_ERROR) {
        rc = pg_fail(err, r->conn, result, "The replication stream ended");
        judge_end(r, err);
    } else {
        rc = err_set(err, ERR_RETRY, "Postgres ended the replication stream");
    }
    PQclear(result);
    r->streaming = false;
    return rc == ERR_FATAL ? rc : ERR_RETRY;
}

/* Hands on what libpq holds. 1 when there may be more, 0 when it holds nothing, negative.
 */
static int hand_on(struct replica *r, struct err *err)
{
    int64_t until_us = clock_mono_us() + BURST_US;

    for (int frames = 0; frames < BURST_FRAMES; frames++) {
        char *bytes = NULL;
        int len = PQgetCopyData(r->conn, &bytes, 1);
        int rc;

        if (len == 0)
            return 0;
        if (len < 0)
            return fail_ended(r, err);
        rc = take_message(r, bytes, len, err);
        PQfreemem(bytes);
        r->turn_frames++;
        if (rc != 0)
            return rc;
        if (r->stop || r->reconnect || clock_mono_us() >= until_us)
            return 1;
    }
    return 1;
}

/* One burst: what is here, then what the socket holds. */
static int receive(struct replica *r, struct err *err)
{
    int more = hand_on(r, err);

    if (more != 0)
        return more;
    if (!PQconsumeInput(r->conn))
        return pg_fail(err, r->conn, NULL, "Reading from Postgres");
    return hand_on(r, err);
}

/* The sink is done with what it was given. */
static void note_progress(struct replica *r)
{
    bool steady = clock_mono_ms() - r->streaming_ms >= STEADY_MS;

    if (r->commit_lsn > r->progress_lsn || steady)
        r->backoff_ms = 0;
    advance(&r->progress_lsn, r->commit_lsn);
}

/* Whether the next read would be a small one. */
static bool is_trickle(const struct replica *r)
{
    int waiting = 0;

    return ioctl(PQsocket(r->conn), FIONREAD, &waiting) == 0 && waiting < BUSY_READ_BYTES;
}

static int turn(struct replica *r, struct err *err)
{
    int more;
    int left;
    int rc = 0;

    r->turn_frames = 0;
    more = receive(r, err);
    if (more < 0)
        return more;
    if (r->fresh) {
        r->fresh = false;
        rc = r->sink.drained(r->sink.ctx, err);
        if (rc == 0)
            note_progress(r);
    }
    if (rc == 0 && clock_mono_ms() >= next_status_ms(r))
        rc = send_status(r, err);
    if (rc != 0)
        return rc;
    left = link_flush(r, err);
    if (left < 0)
        return left;
    if (!more && r->turn_frames >= BUSY_FRAMES && is_trickle(r))
        clock_sleep_us(BUSY_PAUSE_US);
    rc = link_poll(r, PQsocket(r->conn), left > 0 ? POLLIN | POLLOUT : POLLIN,
                   more ? 0 : next_status_ms(r), err);
    return rc < 0 ? rc : 0;
}

/* Tells the last position and ends the copy in order, so that the slot is free at once
 * for whoever comes next. What still arrives is dropped: it will be sent again. */
static void say_farewell(struct replica *r)
{
    int64_t until_ms = clock_mono_ms() + FAREWELL_MS;
    int len = 0;

    if (send_status(r, NULL) != 0 || PQputCopyEnd(r->conn, NULL) < 0)
        return;
    while (len >= 0 && clock_mono_ms() < until_ms) {
        char *bytes = NULL;

        len = PQgetCopyData(r->conn, &bytes, 1);
        PQfreemem(bytes);
        if (len == 0) {
            int left = PQflush(r->conn);
            struct pollfd fd = {.fd = PQsocket(r->conn),
                                .events = left > 0 ? POLLIN | POLLOUT : POLLIN};

            poll(&fd, 1, 20);
            if (left < 0 || !PQconsumeInput(r->conn))
                return;
        }
    }
}

/* --- The beginning --- */

static int start(struct replica *r, struct err *err)
{
    int64_t until_ms = clock_mono_ms() + REPLICA_SLOT_BUSY_MS;

    for (;;) {
        int rc = link_query(r, "Starting the replication stream", NULL, err,
                            "START_REPLICATION SLOT %s LOGICAL 0/0 (proto_version '1', "
                            "publication_names %s)",
                            r->slot_ident, r->publication_option);

        if (rc == 0)
            return 0;
        judge_end(r, err);
        if (strcmp(err->sqlstate, "55006") != 0 || clock_mono_ms() >= until_ms)
            return rc;
        replica_set_state(r, REPLICA_PREPARING, err->message);
        rc = link_sleep(r, REPLICA_SLOT_RETRY_MS, err);
        if (rc != 0)
            return rc;
    }
}

static void begin(struct replica *r)
{
    r->streaming = true;
    r->report_soon = false;
    r->reply_requested = false;
    r->heard = true;
    r->fresh = false;
    r->received_lsn = r->attached.confirmed_lsn;
    r->reported_lsn = 0;
    r->streaming_ms = clock_mono_ms();
    r->status_ms = r->streaming_ms;
    obs_count(r->config.obs, OBS_REPLICA_CONNECTS, 1);
    log_event(r->config.log, LOG_INFO, "replica.streaming",
              LOG_TEXT("slot", r->config.slot),
              LOG_U64("from_lsn", r->attached.confirmed_lsn));
    replica_set_state(r, REPLICA_STREAMING, "");
}

int replica_stream_run(struct replica *r, struct err *err)
{
    int rc = start(r, err);

    if (rc != 0)
        return rc;
    begin(r);
    while (rc == 0)
        rc = turn(r, err);
    if (r->streaming && PQstatus(r->conn) == CONNECTION_OK)
        say_farewell(r);
    r->streaming = false;
    return rc;
}
