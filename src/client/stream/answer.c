/*
 * What an answer means (protocol section 9.1): rows, nothing new, another shape, a cache's stale copy,
 * something that passes, something that does not.
 *
 * Whatever it is, it is looked at when it has ended: an answer counts whole or not at all. Events are
 * the exception; of them each group counts.
 */

#include <stdio.h>
#include <string.h>

#include "client/stream/internal.h"

#define EVENTS_BACKOFF_MS     100
#define EVENTS_BACKOFF_MAX_MS 5000
#define BODY_SHOWN_BYTES      300

static const struct slice no_body = {NULL, 0};

static struct slice key_of(const struct shape_stream *s)
{
    return slice_make(s->key.ptr, s->key.len);
}

static struct slice text_of(const struct fetch *f)
{
    return slice_make(f->text, f->text_len);
}

/* The current request is done with. */
static void drop_current(struct shape_stream *s)
{
    fetch_drop(LIST_ENTRY(s->fetches.next, struct fetch, link));
    s->work++;
}

static bool is_success(int status)
{
    return status >= 200 && status <= 299;
}

bool answer_is_transient(int status)
{
    return status == 408 || status == 425 || status == 429 || status >= 500;
}

int64_t answer_retry_after(struct shape_stream *s, const struct answer *a)
{
    return net_retry_after_ms(slice_of(a->retry_after), stream_now_us(s));
}

void answer_describe(const struct shape_stream *s, const struct fetch *f,
                     const struct answer *a, char *out, size_t cap)
{
    size_t n = f->text_len < BODY_SHOWN_BYTES ? f->text_len : BODY_SHOWN_BYTES;
    bool words = a && a->json && n > 0;

    if (f->end != NET_DONE || !a)
        snprintf(out, cap, "%s: %s", s->shown_url,
                 f->why[0] ? f->why : net_end_name(f->end));
    else
        snprintf(out, cap, "%s answered with status %d%s%.*s", s->shown_url, a->status,
                 words ? ": " : "", words ? (int)n : 0, f->text);
    for (char *p = out; *p; p++) {
        if ((unsigned char)*p < ' ')
            *p = ' ';
    }
}

/* --- Failures that pass ------------------------------------------------------------------------------------- */

/* Again, later; or an error when that was tried often enough. */
static int fail_for_now(struct shape_stream *s, struct fetch *f, const struct answer *a)
{
    int status = a ? a->status : 0;
    char words[400];

    s->connected = false;
    s->attempt++;
    if (s->attempts_max > 0 && s->attempt >= s->attempts_max) {
        s->attempt = 0;
        answer_describe(s, f, a, words, sizeof(words));
        stream_error_found(s, status > 0 ? COULOMB_E_FETCH : COULOMB_E_NETWORK, status,
                           text_of(f), true, "%s (tried %u times)", words,
                           s->attempts_max);
        return COULOMB_OK;
    }
    stream_back_off(s, a ? answer_retry_after(s, a) : 0);
    drop_current(s);
    return COULOMB_OK;
}

/* What came is not what a server would say: something in between said it, or half of it. */
static int malformed(struct shape_stream *s, int status, const char *why)
{
    if (++s->malformed > MALFORMED_TRIES) {
        s->malformed = 0;
        stream_error_found(s, COULOMB_E_PROTOCOL, status, no_body, true,
                           "%s: %s; is it a shape endpoint, and does a proxy change its "
                           "answers?",
                           s->shown_url, why);
        return COULOMB_OK;
    }
    /* Not why: that may quote a row. */
    client_log(s->client, COULOMB_LOG_WARNING, "event=stream.malformed url=%s status=%d",
               s->shown_url, status);
    s->connected = false;
    stream_make_buster(s, s->buster);
    s->attempt++;
    stream_back_off(s, 0);
    drop_current(s);
    return COULOMB_OK;
}

static int fall_back(struct shape_stream *s, const char *why)
{
    s->state.no_events = true;
    client_log(s->client, COULOMB_LOG_WARNING,
               "event=stream.sse_fallback url=%s why=\"%s\"", s->shown_url, why);
    drop_current(s);
    return COULOMB_OK;
}

static int fail_without_answer(struct shape_stream *s, struct fetch *f,
                               const struct answer *a)
{
    bool live = f->live;

    switch (f->end) {
    case NET_SLEPT:
    case NET_CANCELLED:
        s->no_wait = true;
        s->connected = false;
        drop_current(s);
        return COULOMB_OK;
    case NET_TIMEOUT:
        if (!live)
            return fail_for_now(s, f, NULL);
        /* A live request that is silent for so long hangs somewhere. */
        if (f->sse && state_events_silent(&s->state))
            return fall_back(s, "no event came in time: a proxy may buffer them");
        s->no_wait = true;
        s->connected = false;
        drop_current(s);
        return COULOMB_OK;
    case NET_TOO_LARGE:
        stream_error_found(s, COULOMB_E_LIMIT, 0, no_body, false,
                           "%s: %s; answer_bytes_max is %zu", s->shown_url, f->why,
                           s->answer_bytes_max);
        return COULOMB_OK;
    case NET_REFUSED:
        if (f->code == COULOMB_E_PROTOCOL)
            return malformed(s, a ? a->status : 0, f->why);
        stream_error_found(s, COULOMB_E_LIMIT, 0, no_body, false,
                           "%s: a message is over answer_bytes_max, %zu", s->shown_url,
                           s->answer_bytes_max);
        return COULOMB_OK;
    case NET_DONE:
    case NET_UNREACHABLE:
    case NET_BROKEN:
    case NET_NO_MEMORY:
        break;
    }
    return fail_for_now(s, f, NULL);
}

/* --- Answers that are no data ---------------------------------------------------------------------------------- */

static int refetch(struct shape_stream *s, const struct answer *a)
{
    struct blob used = s->state.handle;
    struct blob fresh = {NULL, 0};
    int code;

    if (used.ptr)
        shapes_mark_expired(s->client, key_of(s), slice_make(used.ptr, used.len));
    /* The same handle again would be refused as stale. */
    if (a->handle && (!used.ptr || strcmp(a->handle, used.ptr) != 0))
        fresh = (struct blob){a->handle, strlen(a->handle)};
    if (!a->handle)
        client_log(s->client, COULOMB_LOG_WARNING,
                   "event=stream.refetch_without_handle url=%s hint=\"a proxy may take "
                   "electric-handle out of answers\"",
                   s->shown_url);
    code = stream_refetch(s, &fresh);
    if (code == COULOMB_OK)
        stream_make_buster(s, s->buster);
    return code;
}

/* A cache's answer, of a shape that is known to be gone. */
static int stale(struct shape_stream *s)
{
    struct sync_state *st = &s->state;
    int code;

    if (st->stale_tries < STALE_TRIES) {
        st->stale_tries++;
        st->mode = SYNC_STALE_RETRY;
        stream_make_buster(s, s->buster);
        client_log(s->client, COULOMB_LOG_WARNING,
                   "event=stream.stale url=%s attempt=%u hint=\"a cache in between may "
                   "leave handle and offset out of its key\"",
                   s->shown_url, st->stale_tries);
        drop_current(s);
        return COULOMB_OK;
    }
    if (s->healed) {
        s->healed = false;
        stream_error_found(s, COULOMB_E_STUCK, 0, no_body, true,
                           "%s: a cache goes on answering with a shape that is gone, %d "
                           "times; its key has to have all parameters",
                           s->shown_url, STALE_TRIES);
        return COULOMB_OK;
    }
    code = stream_refetch(s, NULL);
    if (code != COULOMB_OK)
        return code;
    /* Once without the knowledge that it is gone: who knows. */
    shapes_forget(s->client, key_of(s));
    s->healed = true;
    return COULOMB_OK;
}

static int refused(struct shape_stream *s, struct fetch *f, const struct answer *a)
{
    char words[400];

    if (a->status == 409)
        return refetch(s, a);
    if ((a->status == 401 || a->status == 403) && s->credentials &&
        credentials_refused(s->credentials, f->generation, &s->refusals)) {
        s->connected = false;
        /* Those that were made ahead have the same. */
        stream_drop_fetches(s);
        s->work++;
        return COULOMB_OK;
    }
    if (a->status == 304)
        stream_make_buster(s, s->buster);
    if (a->status == 304 || answer_is_transient(a->status))
        return fail_for_now(s, f, a);
    answer_describe(s, f, a, words, sizeof(words));
    stream_error_found(s, COULOMB_E_FETCH, a->status, text_of(f), true, "%s", words);
    return COULOMB_OK;
}

/* --- Answers that are ------------------------------------------------------------------------------------------- */

static void answered_well(struct shape_stream *s, const struct fetch *f)
{
    s->connected = true;
    s->attempt = s->malformed = s->refusals = 0;
    if (s->credentials)
        credentials_worked(s->credentials, f->generation);
    if (f->ended && f->skipped > 0)
        client_log(s->client, COULOMB_LOG_WARNING,
                   "event=stream.unknown_messages url=%s count=%zu", s->shown_url,
                   f->skipped);
}

/* The headers that are not there, in words; false: all are. */
static bool missing_headers(const struct shape_stream *s, const struct fetch *f,
                            const struct answer *a, char *out, size_t cap)
{
    bool schema = !f->live && !a->has_schema && !s->typed;

    snprintf(out, cap, "%s%s%s%s", a->offset ? "" : " electric-offset",
             a->handle ? "" : " electric-handle",
             f->live && !a->cursor ? " electric-cursor" : "",
             schema ? " electric-schema" : "");
    return out[0] != '\0';
}

static int lacks_headers(struct shape_stream *s, const struct answer *a,
                         const char *missing)
{
    stream_error_found(s, COULOMB_E_MISSING_HEADERS, a->status, no_body, false,
                       "%s: the answer lacks the headers%s; a proxy may take them out",
                       s->shown_url, missing);
    return COULOMB_OK;
}

/* An old server's way to say that there is nothing new. */
static int nothing_new(struct shape_stream *s, struct fetch *f, const struct answer *a)
{
    struct segment *told = stream_control(s, STREAM_UP_TO_DATE, 0);

    if (!told)
        return COULOMB_E_MEMORY;
    answered_well(s, f);
    s->state.no_events = true;
    list_remove(&f->link);
    s->source = f;
    s->answer = *a;
    s->deliver = told;
    s->kind = DELIVER_LOG;
    s->deliver_request = f->number;
    s->work++;
    return COULOMB_OK;
}

static int take_log(struct shape_stream *s, struct fetch *f, const struct answer *a)
{
    struct segment *list = fetch_take(f);

    if (!list) {
        int code = state_accept(&s->state, a, false);

        if (code != COULOMB_OK)
            return code;
        answered_well(s, f);
        drop_current(s);
        return COULOMB_OK;
    }
    answered_well(s, f);
    list_remove(&f->link);
    s->source = f;
    s->answer = *a;
    s->deliver = list;
    s->kind = DELIVER_LOG;
    s->deliver_request = f->number;
    s->work++;
    return COULOMB_OK;
}

static int success(struct shape_stream *s, struct fetch *f, const struct answer *a)
{
    char missing[128];
    bool lacks = missing_headers(s, f, a, missing, sizeof(missing));

    if (a->status == 204)
        return nothing_new(s, f, a);
    if (!a->json)
        return malformed(s, a->status, "the answer is no JSON");
    if (lacks)
        return lacks_headers(s, a, missing);
    if (f->code == COULOMB_E_PROTOCOL)
        return malformed(s, a->status, f->why);
    if (f->code == COULOMB_E_MEMORY)
        return fail_for_now(s, f, NULL);
    return take_log(s, f, a);
}

static int look_log(struct shape_stream *s, struct fetch *f, const struct answer *a)
{
    if (!f->ended)
        return COULOMB_OK;
    if (a && is_success(a->status) && fetch_is_stale(f, a))
        return stale(s);
    if (a && f->end == NET_DONE)
        return is_success(a->status) ? success(s, f, a) : refused(s, f, a);
    return fail_without_answer(s, f, a);
}

/* --- Events --------------------------------------------------------------------------------------------------------- */

/* The head of an answer with events. *done: there is no more to look at. */
static int open_events(struct shape_stream *s, struct fetch *f, const struct answer *a,
                       bool *done)
{
    char missing[128];
    int code;

    *done = true;
    if (!is_success(a->status) || fetch_is_stale(f, a) || a->status == 204)
        return look_log(s, f, a);
    if (!a->events)
        return fall_back(s, "the answer is no event stream");
    if (missing_headers(s, f, a, missing, sizeof(missing)))
        return lacks_headers(s, a, missing);
    code = state_accept(&s->state, a, true);
    if (code != COULOMB_OK)
        return code;
    answered_well(s, f);
    f->opened = true;
    f->opened_ms = client_now(s->client);
    *done = false;
    return COULOMB_OK;
}

static int events_closed(struct shape_stream *s, struct fetch *f, const struct answer *a)
{
    struct net_backoff b = {EVENTS_BACKOFF_MS, EVENTS_BACKOFF_MAX_MS, 2};

    if (f->code == COULOMB_E_PROTOCOL)
        return malformed(s, a->status, f->why);
    if (f->code == COULOMB_E_LIMIT || f->end == NET_TOO_LARGE) {
        /* More than may be held at once: by long answers it comes in parts. */
        s->state.mode = SYNC_SYNCING;
        drop_current(s);
        return COULOMB_OK;
    }
    if (f->end == NET_NO_MEMORY)
        return fail_for_now(s, f, NULL);
    if (f->end == NET_SLEPT || f->end == NET_TIMEOUT)
        return fail_without_answer(s, f, a);
    if (state_events_closed(&s->state, client_now(s->client) - f->opened_ms)) {
        if (s->state.no_events)
            return fall_back(s, "connections close at once: a proxy may buffer them");
        timer_set(&s->timer,
                  timer_after(s->client, net_backoff_ms(&b, s->state.short_events + 1,
                                                        stream_random(s), 0)));
    }
    drop_current(s);
    return COULOMB_OK;
}

static int look_events(struct shape_stream *s, struct fetch *f, const struct answer *a)
{
    struct segment *list;
    bool done = false;
    int code = COULOMB_OK;

    if (!a)
        return look_log(s, f, a);
    if (!f->opened)
        code = open_events(s, f, a, &done);
    if (code != COULOMB_OK || done)
        return code;
    list = fetch_take(f);
    if (list) {
        s->state.silent_events = 0;
        s->deliver = list;
        s->kind = DELIVER_EVENTS;
        s->deliver_request = f->number;
        s->work++;
        return COULOMB_OK;
    }
    return f->ended ? events_closed(s, f, a) : COULOMB_OK;
}

int answer_look(struct shape_stream *s)
{
    struct fetch *f = LIST_ENTRY(s->fetches.next, struct fetch, link);
    struct answer head;
    const struct answer *a = fetch_head(f, &head) ? &head : NULL;

    return f->sse ? look_events(s, f, a) : look_log(s, f, a);
}
