/*
 * A fetch. The I/O thread parses what arrives; what it has for the owner lies under the mutex, and a
 * post tells of it. The last post, `over`, is one of its own: when the owner gets it, the I/O thread
 * will not touch the fetch again, and whoever is last frees it.
 *
 * Of a log answer nothing is given out before its end. Events are given out group by group, each up to
 * an up-to-date, and while too much of them is not taken the transfer pauses.
 */

#include "client/stream/fetch.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HELD_FACTOR 4

/* --- The I/O thread ------------------------------------------------------------------------------------ */

static char *copy_header(struct fetch *f, const struct net_head *head, const char *name,
                         bool *failed)
{
    struct slice value = net_head_get(head, name);
    char *copy;

    if (!value.ptr)
        return NULL;
    copy = heap_shared(f->heap, NULL, value.len + 1);
    if (!copy) {
        *failed = true;
        return NULL;
    }
    memcpy(copy, value.ptr, value.len);
    copy[value.len] = '\0';
    return copy;
}

static bool contains(struct slice type, const char *word)
{
    size_t n = strlen(word);

    for (size_t i = 0; i + n <= type.len; i++) {
        if (strncasecmp(type.ptr + i, word, n) == 0)
            return true;
    }
    return false;
}

static bool read_head(struct fetch *f, const struct net_head *head, struct answer *a)
{
    struct slice type = net_head_get(head, "content-type");
    bool failed = false;

    *a = (struct answer){.status = net_head_status(head)};
    a->handle = copy_header(f, head, "electric-handle", &failed);
    a->offset = copy_header(f, head, "electric-offset", &failed);
    a->cursor = copy_header(f, head, "electric-cursor", &failed);
    a->retry_after = copy_header(f, head, "retry-after", &failed);
    a->has_schema = net_head_get(head, "electric-schema").ptr != NULL;
    a->up_to_date = net_head_get(head, "electric-up-to-date").ptr != NULL;
    a->json = type.len == 0 || contains(type, "json");
    a->events = contains(type, "text/event-stream");
    return !failed;
}

static bool is_data(const struct fetch *f, const struct answer *a)
{
    if (a->status < 200 || a->status > 299 || a->status == 201 || a->status == 204 ||
        a->status == 205 || fetch_is_stale(f, a))
        return false;
    return f->frame == READER_EVENTS ? a->events : a->json;
}

/* The schema that rows are read by: the known one, or else the header's. */
static int read_schema(struct fetch *f, const struct net_head *head, struct answer *a)
{
    const char *why;

    a->schema = schema_retain(f->schema);
    if (a->schema || !a->has_schema)
        return COULOMB_OK;
    a->schema =
        schema_parse(f->heap, net_head_get(head, "electric-schema"), f->typed, &why);
    if (a->schema)
        return COULOMB_OK;
    if (!why)
        return COULOMB_E_MEMORY;
    snprintf(f->why, sizeof(f->why), "%s", why);
    return COULOMB_E_PROTOCOL;
}

static void answer_free(struct heap *h, struct answer *a)
{
    heap_shared_free(h, a->handle);
    heap_shared_free(h, a->offset);
    heap_shared_free(h, a->cursor);
    heap_shared_free(h, a->retry_after);
    schema_release(a->schema);
    *a = (struct answer){0};
}

static enum net_verdict on_head(const struct net_head *head, void *arg)
{
    struct fetch *f = arg;
    struct answer a;
    bool ok = read_head(f, head, &a);
    int code = ok ? COULOMB_OK : COULOMB_E_MEMORY;

    if (ok && is_data(f, &a)) {
        code = read_schema(f, head, &a);
        if (code == COULOMB_OK) {
            reader_init(&f->reader, f->heap, f->frame, a.schema ? a.schema : f->typed,
                        f->bytes_max);
            f->reads = true;
        }
    }
    pthread_mutex_lock(&f->mutex);
    f->code = code;
    f->head = a;
    f->has_head = ok;
    pthread_mutex_unlock(&f->mutex);
    if (!ok)
        answer_free(f->heap, &f->head);
    else
        client_post(f->client, &f->progress);
    if (code == COULOMB_E_MEMORY)
        return NET_FAIL;
    return code == COULOMB_OK ? NET_GO_ON : NET_REFUSE;
}

static void keep_text(struct fetch *f, struct slice bytes)
{
    size_t room = FETCH_TEXT_BYTES - f->text_len;
    size_t n = bytes.len < room ? bytes.len : room;

    memcpy(f->text + f->text_len, bytes.ptr, n);
    f->text_len += n;
    f->text[f->text_len] = '\0';
}

static size_t bytes_of(const struct segment *list)
{
    size_t n = 0;

    for (; list; list = list->next)
        n += list->bytes;
    return n;
}

static void give(struct fetch *f, struct segment *list)
{
    if (!list)
        return;
    pthread_mutex_lock(&f->mutex);
    *f->ready_end = list;
    while (*f->ready_end)
        f->ready_end = &(*f->ready_end)->next;
    f->ready_bytes += bytes_of(list);
    pthread_mutex_unlock(&f->mutex);
}

/* Whether the owner has more than enough; then it is told to have the transfer resumed. */
static bool hold_back(struct fetch *f)
{
    bool hold;

    if (f->frame != READER_EVENTS)
        return false;
    pthread_mutex_lock(&f->mutex);
    hold = f->ready_bytes >= f->buffered_max;
    f->paused = hold;
    pthread_mutex_unlock(&f->mutex);
    return hold;
}

/* What the messages of an answer, or of a group of events, may take before it is whole. */
static size_t held_max(const struct fetch *f)
{
    size_t base = f->frame == READER_EVENTS ? f->buffered_max : f->bytes_max;

    return base < SIZE_MAX / HELD_FACTOR ? base * HELD_FACTOR : SIZE_MAX;
}

static enum net_verdict on_body(struct slice bytes, void *arg)
{
    struct fetch *f = arg;
    struct segment *groups;
    int code;

    if (!f->reads) {
        keep_text(f, bytes);
        return NET_GO_ON;
    }
    if (hold_back(f))
        return NET_PAUSE;
    code = reader_feed(&f->reader, bytes);
    groups = reader_take_groups(&f->reader);
    give(f, groups);
    if (code == COULOMB_OK && f->reader.bytes > held_max(f))
        code = COULOMB_E_LIMIT;
    f->code = code;
    if (groups)
        client_post(f->client, &f->progress);
    if (code == COULOMB_E_MEMORY)
        return NET_FAIL;
    return code == COULOMB_OK ? NET_GO_ON : NET_REFUSE;
}

static void on_end(enum net_end end, const char *detail, void *arg)
{
    struct fetch *f = arg;

    if (f->reads && end == NET_DONE) {
        f->code = reader_end(&f->reader);
        if (f->code == COULOMB_OK && f->frame != READER_EVENTS)
            give(f, reader_take(&f->reader));
    }
    if (f->reads) {
        f->ends_up_to_date = f->reader.ends_up_to_date;
        f->skipped = f->reader.skipped;
        if (f->code == COULOMB_E_PROTOCOL)
            snprintf(f->why, sizeof(f->why), "%s", f->reader.why);
        reader_fini(&f->reader);
    }
    if (f->why[0] == '\0')
        snprintf(f->why, sizeof(f->why), "%s", detail);
    f->end = end;
    client_post(f->client, &f->over); /* nothing of f is touched after this */
}

/* --- The owner -------------------------------------------------------------------------------------------- */

static void fetch_free(struct fetch *f)
{
    segments_free(f->ready);
    answer_free(f->heap, &f->head);
    schema_release(f->schema);
    schema_release(f->typed);
    net_request_release(f->request);
    heap_shared_free(f->heap, f->expired);
    heap_free_str(f->heap, f->url);
    pthread_mutex_destroy(&f->mutex);
    heap_free(f->heap, f, sizeof(*f));
}

static void tell_progress(coulomb_client *c, void *arg)
{
    struct fetch *f = arg;

    if (c && f->changed)
        f->changed(f, f->arg);
}

static void tell_over(coulomb_client *c, void *arg)
{
    struct fetch *f = arg;

    f->ended = true;
    if (!f->changed)
        fetch_free(f);
    else if (c)
        f->changed(f, f->arg);
}

void fetch_drop(struct fetch *f)
{
    if (!f)
        return;
    list_remove(&f->link);
    f->changed = NULL;
    if (f->ended)
        fetch_free(f);
    else if (!f->client->closed)
        net_cancel(f->request);
}

static char *copy_text(struct heap *h, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = heap_shared(h, NULL, n);

    if (copy)
        memcpy(copy, text, n);
    return copy;
}

static struct fetch *fetch_new(coulomb_client *c, const struct fetch_request *r)
{
    struct fetch *f = heap_zalloc(c->heap, sizeof(*f));

    if (!f)
        return NULL;
    f->client = c;
    f->heap = c->heap;
    f->frame = r->frame;
    f->bytes_max = r->bytes_max;
    f->buffered_max = r->buffered_max;
    f->ready_end = &f->ready;
    f->progress = (struct post){.fn = tell_progress, .arg = f};
    f->over = (struct post){.fn = tell_over, .arg = f};
    list_init(&f->link);
    pthread_mutex_init(&f->mutex, NULL);
    f->schema = schema_retain(r->schema);
    f->typed = schema_retain(r->typed);
    f->url = heap_strdup(c->heap, r->url);
    if (r->expired)
        f->expired = copy_text(c->heap, r->expired);
    if (!f->url || (r->expired && !f->expired)) {
        fetch_free(f);
        return NULL;
    }
    return f;
}

/* All headers of the request in one array of the caller's. */
static size_t gather_headers(const struct fetch_request *r, struct net_header *all)
{
    size_t n = 0;

    if (r->frame == READER_EVENTS)
        all[n++] = (struct net_header){"accept", "text/event-stream"};
    if (r->body && r->body->ptr)
        all[n++] = (struct net_header){"content-type", "application/json"};
    for (size_t i = 0; i < r->header_count; i++)
        all[n++] = r->headers[i];
    for (size_t i = 0; i < r->more_count; i++)
        all[n++] = r->more[i];
    return n;
}

int fetch_start(coulomb_client *c, const struct fetch_request *r,
                void (*changed)(struct fetch *f, void *arg), void *arg,
                struct fetch **out, const char **detail)
{
    static const struct net_callbacks callbacks = {on_head, on_body, on_end};
    size_t header_bytes =
        (r->header_count + r->more_count + 2) * sizeof(struct net_header);
    struct net_header *headers = heap_alloc(c->heap, header_bytes);
    struct fetch *f = headers ? fetch_new(c, r) : NULL;
    struct net *n = NULL;
    int code = COULOMB_E_MEMORY;

    *detail = NULL;
    if (f)
        code = client_net(c, &n);
    if (code == COULOMB_OK) {
        bool post = r->body && r->body->ptr;
        struct net_options o = {.method = post ? NET_POST : NET_GET,
                                .url = r->url,
                                .headers = headers,
                                .header_count = gather_headers(r, headers),
                                .body = post ? r->body->ptr : NULL,
                                .body_bytes = post ? r->body->len : 0,
                                .head_timeout_ms = r->silence_ms,
                                .idle_timeout_ms = r->silence_ms,
                                .body_bytes_max =
                                    r->frame == READER_EVENTS ? SIZE_MAX : r->bytes_max,
                                .uncompressed = r->frame == READER_EVENTS,
                                .ca_file = r->ca_file};

        f->changed = changed;
        f->arg = arg;
        code = net_start(n, &o, &callbacks, f, &f->request, detail);
    }
    heap_free(c->heap, headers, header_bytes);
    if (code != COULOMB_OK) {
        if (f)
            fetch_free(f);
        return code;
    }
    *out = f;
    return COULOMB_OK;
}

bool fetch_head(struct fetch *f, struct answer *out)
{
    bool has;

    pthread_mutex_lock(&f->mutex);
    has = f->has_head;
    if (has)
        *out = f->head;
    pthread_mutex_unlock(&f->mutex);
    return has;
}

struct segment *fetch_take(struct fetch *f)
{
    struct segment *list;
    bool resume;

    pthread_mutex_lock(&f->mutex);
    list = f->ready;
    f->ready = NULL;
    f->ready_end = &f->ready;
    f->ready_bytes = 0;
    resume = f->paused;
    f->paused = false;
    pthread_mutex_unlock(&f->mutex);
    if (resume && !f->client->closed)
        net_resume(f->request);
    return list;
}

bool fetch_is_stale(const struct fetch *f, const struct answer *head)
{
    return f->expired && head->handle && strcmp(f->expired, head->handle) == 0;
}
