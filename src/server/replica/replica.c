/* The life of the replication connection.
 *
 *                    ┌────────────── backoff, lost ◀──────────────┐
 *                    ▼                                            │
 *   CONNECTING ─▶ WAITING (lock held elsewhere) ─▶ PREPARING ─▶ STREAMING
 *        └──────────────────▶ STOPPED ◀────────── replica_stop, ERR_FATAL
 *
 * One attempt is open, attach, stream; whatever ends it comes up here as one negative
 * code, and only here is decided what follows: ERR_CANCELLED after replica_stop returns
 * 0, ERR_FATAL stops, everything else is tried again, after a pause that doubles from 100
 * ms to 10 s, half of it by chance. A first received commit or 30 s of streaming ends the
 * backoff. */
#include "server/replica/replica.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "server/replica/internal.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 10000

static bool quote(char out[REPLICA_NAME_QUOTED], char mark, const char *text)
{
    size_t len = 0;

    out[len++] = mark;
    for (; *text; text++) {
        if (len + 4 > REPLICA_NAME_QUOTED || *text == '\\')
            return false;
        if (*text == mark)
            out[len++] = mark;
        out[len++] = *text;
    }
    out[len++] = mark;
    out[len] = '\0';
    return true;
}

struct replica *replica_new(const struct replica_config *config,
                            const struct replica_sink *sink)
{
    struct replica *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->config = *config;
    r->sink = *sink;
    r->state = REPLICA_CONNECTING;
    if (!quote(r->slot_ident, '"', config->slot) ||
        !quote(r->slot_literal, '\'', config->slot) ||
        !quote(r->publication_ident, '"', config->publication) ||
        !quote(r->publication_literal, '\'', config->publication) ||
        !quote(r->publication_option, '\'', r->publication_ident)) {
        free(r);
        return NULL;
    }
    return r;
}

void replica_free(struct replica *r)
{
    if (!r)
        return;
    link_close(r);
    free(r->switches);
    free(r);
}

void replica_stop(struct replica *r)
{
    r->stop = true;
}

void replica_reconnect(struct replica *r)
{
    r->reconnect = true;
}

void replica_report_soon(struct replica *r)
{
    r->report_soon = true;
}

void replica_set_state(struct replica *r, enum replica_state state, const char *detail)
{
    r->state = state;
    r->sink.state(r->sink.ctx, state, detail);
}

static int attempt(struct replica *r, struct err *err)
{
    int rc;

    r->reconnect = false;
    r->reason = OBS_STREAM_CONNECTION;
    rc = link_open(r, err);
    if (rc == 0) /* which tells when it waits for the lock, and when it has it */
        rc = attach_run(r, err);
    if (rc == 0)
        rc = replica_stream_run(r, err);
    link_close(r);
    return rc;
}

static void tell_lost(struct replica *r, const struct err *err)
{
    obs_stream_lost(r->config.obs, r->reason);
    log_event(r->config.log, r->reason == OBS_STREAM_STOPPED ? LOG_INFO : LOG_WARNING,
              "replica.lost", LOG_TEXT("reason", obs_stream_reason_name(r->reason)),
              LOG_TEXT("slot", r->config.slot), LOG_TEXT("detail", err->message));
    r->sink.lost(r->sink.ctx, r->reason, err);
}

static int64_t next_backoff(struct replica *r)
{
    int64_t half;

    r->backoff_ms = r->backoff_ms == 0 ? BACKOFF_MIN_MS : r->backoff_ms * 2;
    if (r->backoff_ms > BACKOFF_MAX_MS)
        r->backoff_ms = BACKOFF_MAX_MS;
    half = r->backoff_ms / 2;
    return half + clock_mono_us() % (half + 1);
}

/* What an attempt's end means: 0 to try again, else what to stop with. */
static int conclude(struct replica *r, int rc, struct err *err)
{
    if (r->stop) {
        r->reason = OBS_STREAM_STOPPED;
        tell_lost(r, err);
        return ERR_CANCELLED;
    }
    if (rc == ERR_FATAL)
        r->reason = OBS_STREAM_FATAL;
    tell_lost(r, err);
    if (rc == ERR_FATAL)
        return ERR_FATAL;
    replica_set_state(r, REPLICA_CONNECTING, err->message);
    if (r->reconnect)
        return 0;
    rc = link_sleep(r, next_backoff(r), err);
    if (r->stop)
        return ERR_CANCELLED;
    if (rc != 0 && rc != ERR_FATAL && !r->reconnect)
        clock_sleep_ms(BACKOFF_MIN_MS); /* the sink itself fails: not in a tight loop */
    return rc == ERR_FATAL ? ERR_FATAL : 0;
}

int replica_run(struct replica *r, struct err *err)
{
    struct err why;
    int rc = 0;

    replica_set_state(r, REPLICA_CONNECTING, "");
    while (rc == 0) {
        err_clear(&why);
        rc = attempt(r, &why);
        rc = conclude(r, rc, &why);
    }
    if (rc == ERR_CANCELLED) {
        replica_set_state(r, REPLICA_STOPPED, "");
        return 0;
    }
    replica_set_state(r, REPLICA_STOPPED, why.message);
    if (err)
        *err = why;
    return ERR_FATAL;
}
