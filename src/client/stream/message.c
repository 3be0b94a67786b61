/*
 * One message of its JSON (protocol section 4). The members may come in any order, and those that are
 * not known are passed over, as are messages of kinds that are not known: a newer server may send them.
 */

#include <string.h>

#include "client/stream/reader.h"

#define KNOWN_BYTES_MAX 512 /* of headers that are remembered as text */

/* What headers are while they are read. */
struct draft {
    struct stream_headers h;
    struct stream_snapshot snapshot;
    bool has_xmin;
    bool has_xmax;
    enum stream_kind kind;
    bool has_kind;
    bool unknown; /* a kind that we don't know */
};

static int refuse_json(struct reader *r, const struct json_reader *j)
{
    if (j->error && strcmp(j->error, "out of memory") == 0)
        return COULOMB_E_MEMORY;
    return reader_refuse(r, "a message is malformed: %s at its byte %zu",
                         j->error ? j->error : "unexpected value", j->error_pos);
}

static int copy_slice(struct reader *r, struct slice s, coulomb_str *out)
{
    char *copy = reader_alloc(r, s.len);

    if (!copy)
        return COULOMB_E_MEMORY;
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    *out = (coulomb_str){copy, s.len};
    return COULOMB_OK;
}

/* --- Lists in headers -------------------------------------------------------------------------------- */

/* Room for one item more of a list in the segment. The old ones are moved; what they took is lost
 * until the segment goes, which is at most as much again. */
static void *list_room(struct reader *r, void *items, size_t count, size_t item_bytes)
{
    size_t cap = count;
    void *grown;

    if (count == 0)
        cap = 2;
    else if (count >= 2 && (count & (count - 1)) == 0)
        cap = count * 2;
    else
        return items; /* the capacity is the next power of two */
    grown = reader_alloc(r, cap * item_bytes);
    if (grown && count > 0)
        memcpy(grown, items, count * item_bytes);
    return grown;
}

/* An xid or LSN: a decimal string, or a number. */
static bool is_u64(const struct json_reader *j, enum json_event e, uint64_t *out)
{
    return (e == JSON_STRING || e == JSON_NUMBER) && slice_to_u64(j->text, out);
}

static int read_numbers(struct reader *r, struct json_reader *j, const uint64_t **items,
                        size_t *count)
{
    uint64_t *list = NULL;
    size_t n = 0;
    enum json_event e = json_next(j);

    if (e != JSON_ARRAY_BEGIN)
        return json_skip(j, e) ? COULOMB_OK : refuse_json(r, j);
    while ((e = json_next(j)) != JSON_ARRAY_END) {
        uint64_t v;

        if (!is_u64(j, e, &v))
            return e == JSON_ERROR ? refuse_json(r, j)
                                   : reader_refuse(r, "an xid is not a number");
        list = list_room(r, list, n, sizeof(*list));
        if (!list)
            return COULOMB_E_MEMORY;
        list[n++] = v;
    }
    *items = list;
    *count = n;
    return COULOMB_OK;
}

static int read_strings(struct reader *r, struct json_reader *j,
                        const coulomb_str **items, size_t *count, bool *has)
{
    coulomb_str *list = NULL;
    size_t n = 0;
    enum json_event e = json_next(j);

    if (e != JSON_ARRAY_BEGIN)
        return json_skip(j, e) ? COULOMB_OK : refuse_json(r, j);
    while ((e = json_next(j)) == JSON_STRING) {
        list = list_room(r, list, n, sizeof(*list));
        if (!list || copy_slice(r, j->text, &list[n]) != COULOMB_OK)
            return COULOMB_E_MEMORY;
        n++;
    }
    if (e != JSON_ARRAY_END)
        return e == JSON_ERROR ? refuse_json(r, j)
                               : reader_refuse(r, "a tag is not a string");
    *items = list;
    *count = n;
    *has = true;
    return COULOMB_OK;
}

static int read_bools(struct reader *r, struct json_reader *j, struct stream_headers *h)
{
    bool *list = NULL;
    size_t n = 0;
    enum json_event e = json_next(j);

    if (e != JSON_ARRAY_BEGIN)
        return json_skip(j, e) ? COULOMB_OK : refuse_json(r, j);
    while ((e = json_next(j)) == JSON_TRUE || e == JSON_FALSE) {
        list = list_room(r, list, n, sizeof(*list));
        if (!list)
            return COULOMB_E_MEMORY;
        list[n++] = e == JSON_TRUE;
    }
    if (e != JSON_ARRAY_END)
        return e == JSON_ERROR ? refuse_json(r, j)
                               : reader_refuse(r, "a condition is not a boolean");
    h->conditions = list;
    h->condition_count = n;
    h->has_conditions = true;
    return COULOMB_OK;
}

/* {"pos":0,"value":"hash"}, the reader being behind its "{". */
static int read_pattern(struct reader *r, struct json_reader *j, struct stream_pattern *p)
{
    enum json_event e;
    uint64_t pos = 0;

    *p = (struct stream_pattern){0};
    while ((e = json_next(j)) == JSON_NAME) {
        bool is_pos = slice_eq(j->text, SLICE_LIT("pos"));
        bool is_value = slice_eq(j->text, SLICE_LIT("value"));

        e = json_next(j);
        if (is_pos && is_u64(j, e, &pos)) {
            p->pos = (size_t)pos;
        } else if (is_value && e == JSON_STRING) {
            if (copy_slice(r, j->text, &p->value) != COULOMB_OK)
                return COULOMB_E_MEMORY;
        } else if (!json_skip(j, e)) {
            return refuse_json(r, j);
        }
    }
    return e == JSON_OBJECT_END ? COULOMB_OK : refuse_json(r, j);
}

static int read_patterns(struct reader *r, struct json_reader *j,
                         struct stream_headers *h)
{
    struct stream_pattern *list = NULL;
    size_t n = 0;
    enum json_event e = json_next(j);

    if (e != JSON_ARRAY_BEGIN)
        return json_skip(j, e) ? COULOMB_OK : refuse_json(r, j);
    while ((e = json_next(j)) == JSON_OBJECT_BEGIN) {
        int code;

        list = list_room(r, list, n, sizeof(*list));
        if (!list)
            return COULOMB_E_MEMORY;
        code = read_pattern(r, j, &list[n]);
        if (code != COULOMB_OK)
            return code;
        n++;
    }
    if (e != JSON_ARRAY_END)
        return e == JSON_ERROR ? refuse_json(r, j)
                               : reader_refuse(r, "a pattern is not an object");
    h->patterns = list;
    h->pattern_count = n;
    return COULOMB_OK;
}

static int read_relation(struct reader *r, struct json_reader *j,
                         struct stream_headers *h)
{
    const coulomb_str *names = NULL;
    size_t count = 0;
    bool has = false;
    int code = read_strings(r, j, &names, &count, &has);

    if (code == COULOMB_OK && count == 2) {
        h->schema = names[0];
        h->table = names[1];
    }
    return code;
}

/* --- Headers ------------------------------------------------------------------------------------------- */

enum member {
    M_OPERATION,
    M_CONTROL,
    M_EVENT,
    M_RELATION,
    M_TXIDS,
    M_LSN,
    M_GLOBAL_LSN,
    M_OP_POSITION,
    M_LAST,
    M_MOVE_IN,
    M_TAGS,
    M_REMOVED_TAGS,
    M_CONDITIONS,
    M_KEY_FROM,
    M_KEY_TO,
    M_PATTERNS,
    M_XMIN,
    M_XMAX,
    M_XIP,
    M_MARK,
    M_DATABASE_LSN,
    M_NONE
};

static enum member member_of(struct slice name)
{
    static const char *const names[M_NONE] = {"operation",
                                              "control",
                                              "event",
                                              "relation",
                                              "txids",
                                              "lsn",
                                              "global_last_seen_lsn",
                                              "op_position",
                                              "last",
                                              "is_move_in",
                                              "tags",
                                              "removed_tags",
                                              "active_conditions",
                                              "key_change_from",
                                              "key_change_to",
                                              "patterns",
                                              "xmin",
                                              "xmax",
                                              "xip_list",
                                              "snapshot_mark",
                                              "database_lsn"};

    for (int i = 0; i < M_NONE; i++) {
        if (slice_eq(name, slice_of(names[i])))
            return (enum member)i;
    }
    return M_NONE;
}

static void set_kind(struct draft *d, enum member m, struct slice name)
{
    static const struct {
        enum member member;
        const char *name;
        enum stream_kind kind;
    } kinds[] = {{M_OPERATION, "insert", STREAM_INSERT},
                 {M_OPERATION, "update", STREAM_UPDATE},
                 {M_OPERATION, "delete", STREAM_DELETE},
                 {M_EVENT, "move-in", STREAM_MOVE_IN},
                 {M_EVENT, "move-out", STREAM_MOVE_OUT},
                 {M_CONTROL, "up-to-date", STREAM_UP_TO_DATE},
                 {M_CONTROL, "snapshot-end", STREAM_SNAPSHOT_END},
                 {M_CONTROL, "must-refetch", STREAM_MUST_REFETCH}};

    d->unknown = true;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kinds[i].member == m && slice_eq(name, slice_of(kinds[i].name))) {
            d->kind = kinds[i].kind;
            d->has_kind = true;
            d->unknown = false;
            return;
        }
    }
}

/* Members whose value is a list. M_NONE stands for one that is no list. */
static int read_list(struct reader *r, struct json_reader *j, enum member m,
                     struct draft *d, bool *was_list)
{
    struct stream_headers *h = &d->h;

    *was_list = true;
    switch ((int)m) {
    case M_RELATION:
        return read_relation(r, j, h);
    case M_TXIDS:
        return read_numbers(r, j, &h->txids, &h->txid_count);
    case M_XIP:
        return read_numbers(r, j, &d->snapshot.xip, &d->snapshot.xip_count);
    case M_TAGS:
        return read_strings(r, j, &h->tags, &h->tag_count, &h->has_tags);
    case M_REMOVED_TAGS:
        return read_strings(r, j, &h->removed_tags, &h->removed_tag_count,
                            &h->has_removed_tags);
    case M_CONDITIONS:
        return read_bools(r, j, h);
    case M_PATTERNS:
        return read_patterns(r, j, h);
    default:
        *was_list = false;
        return COULOMB_OK;
    }
}

/* A number where it belongs; anything else is as if it were not there. */
static bool take_number(struct draft *d, enum member m, uint64_t v)
{
    switch ((int)m) {
    case M_LSN:
    case M_GLOBAL_LSN:
        d->h.lsn = v;
        d->h.has_lsn = true;
        return true;
    case M_OP_POSITION:
        d->h.op_position = v;
        d->h.has_position = true;
        return true;
    case M_XMIN:
        d->snapshot.xmin = v;
        d->has_xmin = true;
        return true;
    case M_XMAX:
        d->snapshot.xmax = v;
        d->has_xmax = true;
        return true;
    case M_MARK:
        d->snapshot.mark = v;
        d->snapshot.has_mark = true;
        return true;
    case M_DATABASE_LSN:
        d->snapshot.database_lsn = v;
        d->snapshot.has_lsn = true;
        return true;
    default:
        return false;
    }
}

static int read_member(struct reader *r, struct json_reader *j, struct draft *d)
{
    enum member m = member_of(j->text);
    enum json_event e;
    uint64_t v;
    bool was_list;
    int code = read_list(r, j, m, d, &was_list);

    if (was_list)
        return code;
    e = json_next(j);
    if (e == JSON_STRING && (m == M_OPERATION || m == M_EVENT || m == M_CONTROL)) {
        set_kind(d, m, j->text);
        return COULOMB_OK;
    }
    if (e == JSON_STRING && m == M_KEY_FROM)
        return copy_slice(r, j->text, &d->h.key_change_from);
    if (e == JSON_STRING && m == M_KEY_TO)
        return copy_slice(r, j->text, &d->h.key_change_to);
    if (e == JSON_TRUE && m == M_LAST)
        d->h.last = true;
    if (e == JSON_TRUE && m == M_MOVE_IN)
        d->h.move_in = true;
    if (is_u64(j, e, &v) && take_number(d, m, v))
        return COULOMB_OK;
    return json_skip(j, e) ? COULOMB_OK : refuse_json(r, j);
}

static int copy_snapshot(struct reader *r, const struct draft *d,
                         struct stream_message *m)
{
    struct stream_snapshot *copy;

    if (!d->has_xmin || !d->has_xmax)
        return reader_refuse(r, "a snapshot-end without xmin and xmax");
    copy = reader_alloc(r, sizeof(*copy));
    if (!copy)
        return COULOMB_E_MEMORY;
    *copy = d->snapshot;
    m->snapshot = copy;
    return COULOMB_OK;
}

/* Remembers headers as text, if that of the next message may well be the same: those of rows of a
 * snapshot are, those of changes have positions. No memory for that is no failure. */
static void remember(struct reader *r, struct slice text, const struct draft *d,
                     const struct stream_message *m)
{
    r->known_headers = NULL;
    if (d->h.has_lsn || d->unknown || m->snapshot || text.len > KNOWN_BYTES_MAX)
        return;
    if (text.len > r->known_cap) {
        char *grown = heap_shared(r->heap, r->known, text.len);

        if (!grown)
            return;
        r->known = grown;
        r->known_cap = text.len;
    }
    memcpy(r->known, text.ptr, text.len);
    r->known_len = text.len;
    r->known_headers = m->headers;
    r->known_kind = m->kind;
}

/* Behind the name "headers". *unknown: to be passed over. */
static int read_headers(struct reader *r, struct json_reader *j, struct stream_message *m,
                        bool *unknown)
{
    struct slice rest = json_rest(j);
    struct draft d = {0};
    struct stream_headers *copy;
    enum json_event e;
    int code = COULOMB_OK;

    if (r->known_headers && json_pass(j, slice_make(r->known, r->known_len))) {
        m->headers = r->known_headers;
        m->kind = r->known_kind;
        return COULOMB_OK;
    }
    if ((e = json_next(j)) != JSON_OBJECT_BEGIN)
        return e == JSON_ERROR ? refuse_json(r, j)
                               : reader_refuse(r, "a message's headers are no object");
    while (code == COULOMB_OK && (e = json_next(j)) == JSON_NAME)
        code = read_member(r, j, &d);
    if (code != COULOMB_OK)
        return code;
    if (e != JSON_OBJECT_END)
        return refuse_json(r, j);
    if (!d.has_kind && !d.unknown)
        return reader_refuse(r, "a message without operation, control and event");
    copy = reader_alloc(r, sizeof(*copy));
    if (!copy)
        return COULOMB_E_MEMORY;
    *copy = d.h;
    m->headers = copy;
    m->kind = d.kind;
    *unknown = d.unknown;
    if (d.kind == STREAM_SNAPSHOT_END)
        code = copy_snapshot(r, &d, m);
    remember(r, slice_make(rest.ptr, rest.len - json_rest(j).len), &d, m);
    return code;
}

/* --- Rows ------------------------------------------------------------------------------------------------ */

static int read_cell(struct reader *r, struct json_reader *j,
                     const struct stream_column *column, coulomb_value *out)
{
    enum json_event e = json_next(j);

    switch ((int)e) {
    case JSON_STRING:
    case JSON_NUMBER:
        return cell_read(r, column, j->text, out);
    case JSON_TRUE:
        return cell_read(r, column, SLICE_LIT("true"), out);
    case JSON_FALSE:
        return cell_read(r, column, SLICE_LIT("false"), out);
    case JSON_NULL:
        *out = coulomb_null();
        return COULOMB_OK;
    case JSON_ERROR:
        return refuse_json(r, j);
    default:
        return reader_refuse(r, "column %.60s is a JSON %s where text or null belongs",
                             column->name, e == JSON_OBJECT_BEGIN ? "object" : "array");
    }
}

/* Rows have their columns in the same order, so each is looked for where it was the last time. */
static size_t find_column(struct reader *r, struct slice name, size_t place)
{
    size_t guess = place < READER_ORDER ? r->order[place] : place;
    size_t at = schema_find(r->schema, name, guess);

    if (place < READER_ORDER && at != SIZE_MAX)
        r->order[place] = (uint16_t)at;
    return at;
}

/* The columns of a row, each into dense, or without it into the reader's cells; the reader being behind
 * its "{". */
static int read_cells(struct reader *r, struct json_reader *j, coulomb_value *dense)
{
    enum json_event e;

    r->cell_count = 0;
    for (size_t place = 0; (e = json_next(j)) == JSON_NAME; place++) {
        size_t at = find_column(r, j->text, place);
        coulomb_value *out;
        int code = COULOMB_OK;

        if (at == SIZE_MAX) {
            code = json_skip(j, JSON_NAME) ? COULOMB_OK : refuse_json(r, j);
        } else {
            out = dense ? &dense[at] : reader_cell(r, at);
            code = out ? read_cell(r, j, &r->schema->columns[at], out) : COULOMB_E_MEMORY;
        }
        if (code != COULOMB_OK)
            return code;
    }
    return e == JSON_OBJECT_END ? COULOMB_OK : refuse_json(r, j);
}

/* One value for each column, all absent. NULL: no memory. */
static coulomb_value *absent_row(struct reader *r)
{
    size_t bytes = (r->schema ? r->schema->count : 0) * sizeof(coulomb_value);
    coulomb_value *values = reader_alloc(r, bytes);

    if (values)
        memset(values, 0, bytes);
    return values;
}

/* The reader's cells as they are. */
static int pack_row(struct reader *r, const coulomb_value **out, bool *packed)
{
    size_t bytes = r->cell_count * sizeof(r->cells[0]);
    struct packed_row *row = reader_alloc(r, sizeof(*row) + bytes);

    if (!row)
        return COULOMB_E_MEMORY;
    row->count = r->cell_count;
    if (bytes > 0)
        memcpy(row->cells, r->cells, bytes);
    *out = (const void *)row;
    *packed = true;
    return COULOMB_OK;
}

static bool is_wide(const struct reader *r)
{
    return r->schema && r->schema->count >= READER_WIDE;
}

static int read_row(struct reader *r, struct json_reader *j, const coulomb_value **out,
                    bool *packed)
{
    enum json_event e = json_next(j);
    coulomb_value *values = NULL;
    int code;

    if (e == JSON_NULL)
        return COULOMB_OK;
    if (e != JSON_OBJECT_BEGIN)
        return e == JSON_ERROR ? refuse_json(r, j)
                               : reader_refuse(r, "a message's value is no object");
    if (!r->schema)
        return reader_refuse(r, "a row came before the shape's columns were told");
    if (!is_wide(r)) {
        values = absent_row(r);
        if (!values)
            return COULOMB_E_MEMORY;
    }
    code = read_cells(r, j, values);
    if (code != COULOMB_OK)
        return code;
    *packed = false; /* of a member that is there twice the last one counts */
    if (!values)
        return pack_row(r, out, packed);
    *out = values;
    return COULOMB_OK;
}

static int read_key(struct reader *r, struct json_reader *j, struct stream_message *m)
{
    enum json_event e = json_next(j);

    if (e != JSON_STRING)
        return e == JSON_ERROR ? refuse_json(r, j)
                               : reader_refuse(r, "a message's key is no string");
    return copy_slice(r, j->text, &m->key);
}

/* A change has a key and a row, absent columns and all. */
static int complete(struct reader *r, struct stream_message *m)
{
    if (!m->headers)
        return reader_refuse(r, "a message without headers");
    if (!stream_is_change(m)) {
        m->values = m->old_values = NULL;
        m->packed = m->old_packed = false;
        m->key = (coulomb_str){NULL, 0};
        return COULOMB_OK;
    }
    if (!m->key.ptr)
        return reader_refuse(r, "a change without a key");
    if (m->values)
        return COULOMB_OK;
    r->cell_count = 0;
    if (is_wide(r))
        return pack_row(r, &m->values, &m->packed);
    m->values = absent_row(r);
    return m->values ? COULOMB_OK : COULOMB_E_MEMORY;
}

int message_read(struct reader *r, struct json_reader *j)
{
    struct stream_message *m = reader_message(r);
    bool unknown = false;
    enum json_event e;
    int code = COULOMB_OK;

    if (!m)
        return COULOMB_E_MEMORY;
    while (code == COULOMB_OK && (e = json_next(j)) == JSON_NAME) {
        if (slice_eq(j->text, SLICE_LIT("key")))
            code = read_key(r, j, m);
        else if (slice_eq(j->text, SLICE_LIT("value")))
            code = read_row(r, j, &m->values, &m->packed);
        else if (slice_eq(j->text, SLICE_LIT("old_value")))
            code = read_row(r, j, &m->old_values, &m->old_packed);
        else if (slice_eq(j->text, SLICE_LIT("headers")))
            code = read_headers(r, j, m, &unknown);
        else
            code = json_skip(j, JSON_NAME) ? COULOMB_OK : refuse_json(r, j);
    }
    if (code == COULOMB_OK && e != JSON_OBJECT_END)
        code = refuse_json(r, j);
    if (code == COULOMB_OK && !unknown)
        code = complete(r, m);
    if (code != COULOMB_OK)
        return code;
    r->skipped += unknown;
    r->ends_up_to_date = !unknown && m->kind == STREAM_UP_TO_DATE;
    r->current->count += !unknown;
    return COULOMB_OK;
}

/* --- Subsets ----------------------------------------------------------------------------------------------- */

static int read_data(struct reader *r, struct json_reader *j)
{
    enum json_event e = json_next(j);
    int code = COULOMB_OK;

    if (e != JSON_ARRAY_BEGIN)
        return e == JSON_ERROR ? refuse_json(r, j)
                               : reader_refuse(r, "a subset's data is no array");
    while (code == COULOMB_OK && (e = json_next(j)) == JSON_OBJECT_BEGIN)
        code = message_read(r, j);
    if (code != COULOMB_OK)
        return code;
    if (e != JSON_ARRAY_END)
        return e == JSON_ERROR ? refuse_json(r, j)
                               : reader_refuse(r, "a row of a subset is no object");
    return COULOMB_OK;
}

static int read_metadata(struct reader *r, struct json_reader *j, struct draft *d)
{
    enum json_event e = json_next(j);
    int code = COULOMB_OK;

    if (e != JSON_OBJECT_BEGIN)
        return e == JSON_ERROR ? refuse_json(r, j)
                               : reader_refuse(r, "a subset's metadata is no object");
    /* Its list of xids has to be somewhere. */
    if (!reader_message(r))
        return COULOMB_E_MEMORY;
    while (code == COULOMB_OK && (e = json_next(j)) == JSON_NAME)
        code = read_member(r, j, d);
    if (code == COULOMB_OK && e != JSON_OBJECT_END)
        code = refuse_json(r, j);
    return code;
}

/* The view, as the last message: its list of xids may lie in an earlier segment. */
static int put_view(struct reader *r, struct draft *d)
{
    struct stream_message *m = reader_message(r);
    struct stream_headers *h;
    uint64_t *xip;
    size_t bytes = d->snapshot.xip_count * sizeof(*xip);
    int code;

    if (!m)
        return COULOMB_E_MEMORY;
    h = reader_alloc(r, sizeof(*h));
    xip = reader_alloc(r, bytes);
    if (!h || !xip)
        return COULOMB_E_MEMORY;
    memset(h, 0, sizeof(*h));
    if (bytes > 0)
        memcpy(xip, d->snapshot.xip, bytes);
    d->snapshot.xip = xip;
    m->kind = STREAM_SNAPSHOT_END;
    m->headers = h;
    code = copy_snapshot(r, d, m);
    r->current->count += code == COULOMB_OK;
    return code;
}

int subset_read(struct reader *r, struct slice text)
{
    struct draft d = {0};
    struct json_reader j;
    enum json_event e;
    bool has_data = false;
    int code = COULOMB_OK;

    json_reader_init_from(&j, text, &r->heap->shared);
    if ((e = json_next(&j)) != JSON_OBJECT_BEGIN)
        code = e == JSON_ERROR ? refuse_json(r, &j)
                               : reader_refuse(r, "a subset's answer is no JSON object");
    while (code == COULOMB_OK && (e = json_next(&j)) == JSON_NAME) {
        if (slice_eq(j.text, SLICE_LIT("data"))) {
            code = read_data(r, &j);
            has_data = true;
        } else if (slice_eq(j.text, SLICE_LIT("metadata"))) {
            code = read_metadata(r, &j, &d);
        } else {
            code = json_skip(&j, JSON_NAME) ? COULOMB_OK : refuse_json(r, &j);
        }
    }
    if (code == COULOMB_OK && (e != JSON_OBJECT_END || json_next(&j) != JSON_END))
        code = refuse_json(r, &j);
    json_reader_fini(&j);
    if (code == COULOMB_OK && !has_data)
        code = reader_refuse(r, "a subset's answer has no data");
    return code == COULOMB_OK ? put_view(r, &d) : code;
}
