#include "client/electric/resume.h"

#include <string.h>

#include "base/err.h"
#include "base/offset.h"
#include "json/json.h"

void resume_fini(struct heap *h, struct resume *r)
{
    blob_fini(h, &r->offset);
    blob_fini(h, &r->handle);
    blob_fini(h, &r->cursor);
    blob_fini(h, &r->shape);
    r->known = r->reset = false;
    r->updated_ms = 0;
}

int resume_copy(struct heap *h, struct resume *to, const struct resume *from)
{
    struct resume copy = {
        .known = from->known, .reset = from->reset, .updated_ms = from->updated_ms};

    if (blob_set(h, &copy.offset, from->offset.ptr, from->offset.len) != COULOMB_OK ||
        blob_set(h, &copy.handle, from->handle.ptr, from->handle.len) != COULOMB_OK ||
        blob_set(h, &copy.cursor, from->cursor.ptr, from->cursor.len) != COULOMB_OK ||
        blob_set(h, &copy.shape, from->shape.ptr, from->shape.len) != COULOMB_OK) {
        resume_fini(h, &copy);
        return COULOMB_E_MEMORY;
    }
    resume_fini(h, to);
    *to = copy;
    return COULOMB_OK;
}

/* --- Writing ------------------------------------------------------------------------------------- */

static void put_member(struct buf *out, const char *name, const struct blob *value)
{
    buf_printf(out, "\"%s\":", name);
    json_put_untrusted(out, slice_make(value->ptr, value->len));
    buf_putc(out, ',');
}

void resume_print(const struct resume *r, struct buf *out)
{
    if (r->reset) {
        buf_puts(out, "{\"kind\":\"reset\",");
    } else {
        buf_puts(out, "{\"kind\":\"resume\",");
        put_member(out, "offset", &r->offset);
        put_member(out, "handle", &r->handle);
        put_member(out, "cursor", &r->cursor);
        put_member(out, "shapeId", &r->shape);
    }
    buf_puts(out, "\"updatedAt\":");
    buf_put_i64(out, r->updated_ms);
    buf_putc(out, '}');
}

int export_print(const struct resume *r, const struct seen *seen, struct buf *out)
{
    uint32_t *txids;
    size_t count;
    int code = seen_list(seen, &txids, &count);

    if (code != COULOMB_OK)
        return code;
    buf_puts(out, "{\"version\":1");
    if (r->known) {
        buf_puts(out, ",\"resume\":");
        resume_print(r, out);
    }
    buf_puts(out, ",\"seenTxids\":[");
    for (size_t i = 0; i < count; i++) {
        buf_puts(out, i > 0 ? "," : "");
        buf_put_u64(out, txids[i]);
    }
    buf_puts(out, "]}");
    heap_free(seen->heap, txids, seen_count(seen) * sizeof(*txids));
    return out->failed ? COULOMB_E_MEMORY : COULOMB_OK;
}

/* --- Reading ------------------------------------------------------------------------------------- */

static bool is(const struct json_reader *r, const char *name)
{
    return slice_eq(r->text, slice_of(name));
}

static struct blob *text_member(struct resume *r, struct slice name)
{
    if (slice_eq(name, SLICE_LIT("offset")))
        return &r->offset;
    if (slice_eq(name, SLICE_LIT("handle")))
        return &r->handle;
    if (slice_eq(name, SLICE_LIT("cursor")))
        return &r->cursor;
    if (slice_eq(name, SLICE_LIT("shapeId")))
        return &r->shape;
    return NULL;
}

/* One member whose name is the reader's text. */
static int read_member(struct heap *h, struct json_reader *j, struct resume *r,
                       bool *has_kind)
{
    struct blob *text = text_member(r, j->text);
    bool kind = is(j, "kind");
    bool updated = is(j, "updatedAt");
    enum json_event ev = json_next(j);

    if (text && ev == JSON_STRING)
        return blob_set(h, text, j->text.ptr ? j->text.ptr : "", j->text.len);
    if (kind && ev == JSON_STRING) {
        r->reset = is(j, "reset");
        *has_kind = r->reset || is(j, "resume");
        return COULOMB_OK;
    }
    if (updated && ev == JSON_NUMBER)
        return slice_to_i64(j->text, &r->updated_ms) ? COULOMB_OK : COULOMB_E_ARGUMENT;
    return json_skip(j, ev) ? COULOMB_OK : COULOMB_E_ARGUMENT;
}

/* Within a log, not before it. */
static bool names_place(const struct resume *r)
{
    struct offset offset;

    return r->handle.len > 0 && r->offset.len > 0 && r->offset.ptr[0] != '-' &&
           offset_parse(slice_make(r->offset.ptr, r->offset.len), &offset);
}

/* The members of an object that has begun. */
static int read_resume(struct heap *h, struct json_reader *j, struct resume *r)
{
    bool has_kind = false;
    enum json_event ev;
    int code = COULOMB_OK;

    while (code == COULOMB_OK && (ev = json_next(j)) == JSON_NAME)
        code = read_member(h, j, r, &has_kind);
    if (code != COULOMB_OK)
        return code;
    if (ev != JSON_OBJECT_END || !has_kind)
        return COULOMB_E_ARGUMENT;
    if (!r->reset && !names_place(r))
        return COULOMB_E_ARGUMENT;
    r->known = true;
    return COULOMB_OK;
}

/* The reader's own failure: out of memory is not the text's. */
static int reader_end(struct json_reader *j, int code)
{
    bool memory = j->scratch.failed == ERR_MEMORY;

    json_reader_fini(j);
    return memory ? COULOMB_E_MEMORY : code;
}

int resume_parse(struct heap *h, struct slice text, struct resume *out)
{
    struct json_reader j;
    int code = COULOMB_E_ARGUMENT;

    memset(out, 0, sizeof(*out));
    json_reader_init_from(&j, text, &h->mem);
    if (json_next(&j) == JSON_OBJECT_BEGIN)
        code = read_resume(h, &j, out);
    if (code == COULOMB_OK && json_next(&j) != JSON_END)
        code = COULOMB_E_ARGUMENT;
    code = reader_end(&j, code);
    if (code != COULOMB_OK)
        resume_fini(h, out);
    return code;
}

const struct resume *resume_newer(const struct resume *a, const struct resume *b)
{
    if (!a->known || !b->known)
        return a->known ? a : b->known ? b : NULL;
    return b->updated_ms > a->updated_ms ? b : a;
}

/* The numbers of an array that has begun. */
static int read_txids(struct json_reader *j, struct seen *seen)
{
    enum json_event ev;
    uint64_t txid;

    while ((ev = json_next(j)) == JSON_NUMBER) {
        if (!slice_to_u64(j->text, &txid) || txid > UINT32_MAX)
            return COULOMB_E_ARGUMENT;
        if (seen_stage(seen, &txid, 1) != COULOMB_OK)
            return COULOMB_E_MEMORY;
    }
    return ev == JSON_ARRAY_END ? COULOMB_OK : COULOMB_E_ARGUMENT;
}

static int read_export(struct heap *h, struct json_reader *j, struct resume *out,
                       struct seen *seen)
{
    bool version = false;
    enum json_event ev;
    int code = COULOMB_OK;

    while (code == COULOMB_OK && (ev = json_next(j)) == JSON_NAME) {
        bool is_version = is(j, "version");
        bool is_resume = is(j, "resume") && !out->known;
        bool is_seen = is(j, "seenTxids");

        ev = json_next(j);
        if (is_version)
            version = ev == JSON_NUMBER && is(j, "1");
        if (is_resume && ev == JSON_OBJECT_BEGIN)
            code = read_resume(h, j, out);
        else if (is_seen)
            code = ev == JSON_ARRAY_BEGIN ? read_txids(j, seen) : COULOMB_E_ARGUMENT;
        else if (!json_skip(j, ev))
            code = COULOMB_E_ARGUMENT;
    }
    if (code == COULOMB_OK && (ev != JSON_OBJECT_END || !version))
        code = COULOMB_E_ARGUMENT;
    return code;
}

int export_parse(struct heap *h, struct slice text, struct resume *out, struct seen *seen)
{
    struct json_reader j;
    struct seen fresh;
    int code = COULOMB_E_ARGUMENT;

    memset(out, 0, sizeof(*out));
    seen_init(&fresh, h);
    json_reader_init_from(&j, text, &h->mem);
    if (json_next(&j) == JSON_OBJECT_BEGIN)
        code = read_export(h, &j, out, &fresh);
    if (code == COULOMB_OK && json_next(&j) != JSON_END)
        code = COULOMB_E_ARGUMENT;
    code = reader_end(&j, code);
    if (code == COULOMB_OK)
        code = seen_add(seen, &fresh);
    seen_fini(&fresh);
    if (code != COULOMB_OK)
        resume_fini(h, out);
    return code;
}
