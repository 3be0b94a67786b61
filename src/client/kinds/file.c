/*
 * Local collections in a file. The file is one JSON object:
 *
 *   { "<n|s>:<key>": {"versionKey": "<32 hex digits>", "data": {"<column>": <value>, …}}, … }
 *
 * A bool, int64 and finite double is a JSON literal, json is itself, null is null, an absent column
 * is not there, and everything else is a string in Postgres's text form. The file is written whole
 * beside the old one and renamed over it, before the rows are seen as synced; so it is never half
 * written, and a change that could not be kept fails.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/kinds/kinds.h"
#include "json/json.h"

#define FILE_MAX_BYTES (1u << 30)

struct file_kind {
    struct local_kind local;
    char *path;
    char *temp;
};

static int io_fail(struct coulomb_collection *coll, const char *what, const char *path)
{
    char text[128];

    return client_fail(coll->client, COULOMB_E_IO, "%s: %s %s: %s", coll->id, what, path,
                       strerror_r(errno, text, sizeof(text)));
}

/* --- Writing ---------------------------------------------------------------------------------- */

static void put_row(struct buf *b, const struct coulomb_row *row,
                    const struct blob *version, struct arena *arena)
{
    coulomb_key key = row_key(row);
    char name[COULOMB_KEY_MAX + 3];
    bool first = true;
    int n;

    n = key.type == COULOMB_KEY_INT64
            ? snprintf(name, sizeof(name), "n:%lld", (long long)key.i)
            : snprintf(name, sizeof(name), "s:%.*s", (int)key.text.len,
                       key.text.len > 0 ? key.text.ptr : "");
    buf_puts(b, b->len > 1 ? ",\n" : "\n");
    json_put_string(b, slice_make(name, n > 0 ? (size_t)n : 0));
    buf_puts(b, ":{\"versionKey\":");
    json_put_string(b,
                    slice_make(version ? version->ptr : "", version ? version->len : 0));
    buf_puts(b, ",\"data\":{");
    for (size_t i = 0; i < row->layout->count; i++) {
        coulomb_value v = row_at(row, i);

        if (v.type == COULOMB_ABSENT)
            continue;
        if (!first)
            buf_putc(b, ',');
        first = false;
        json_put_string(b, slice_of(row->layout->columns[i].name));
        buf_putc(b, ':');
        arena_reset(arena);
        value_put_json(b, &v, arena);
    }
    buf_puts(b, "}}");
}

static void put_all(struct coulomb_collection *coll, const struct sync_tx *s,
                    struct buf *b)
{
    struct arena *arena = &coll->client->scratch;
    struct kent *ent;
    size_t it = 0;

    buf_putc(b, '{');
    while ((ent = ktab_next(&coll->synced, &it)) != NULL) {
        coulomb_key key = row_key(ent->item);
        const struct row_meta *m = ktab_get(&coll->metas, key, ent->hash);

        if (!sync_names_key(coll, key, ent->hash))
            put_row(b, ent->item, m ? &m->value : NULL, arena);
    }
    for (size_t i = 0; i < s->count; i++) {
        const struct sync_op *op = &s->ops[i];

        if (op->row)
            put_row(b, op->row, op->extra > 0 ? &s->extras[op->extra - 1]->value : NULL,
                    arena);
    }
    buf_puts(b, "\n}\n");
}

static int write_whole(int fd, const struct buf *b)
{
    size_t done = 0;

    while (done < b->len) {
        ssize_t n = write(fd, b->ptr + done, b->len - done);

        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0)
            done += (size_t)n;
    }
    return fsync(fd);
}

/* The new name is on the disk, too. */
static int sync_folder(const struct file_kind *kind)
{
    char *slash = strrchr(kind->path, '/');
    size_t len = slash ? (size_t)(slash - kind->path) : 0;
    int fd;
    int failed;

    if (len > 0)
        *slash = '\0';
    fd = open(len > 0 ? kind->path
              : slash ? "/"
                      : ".",
              O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (len > 0)
        *slash = '/';
    if (fd < 0)
        return -1;
    failed = fsync(fd);
    close(fd);
    return failed;
}

static int replace_file(struct coulomb_collection *coll, const struct buf *b)
{
    const struct file_kind *kind = coll->kind;
    int fd = open(kind->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int code = COULOMB_OK;

    if (fd < 0)
        return io_fail(coll, "can't write", kind->temp);
    if (write_whole(fd, b) != 0)
        code = io_fail(coll, "can't write", kind->temp);
    if (close(fd) != 0 && code == COULOMB_OK)
        code = io_fail(coll, "can't write", kind->temp);
    if (code == COULOMB_OK && rename(kind->temp, kind->path) != 0)
        code = io_fail(coll, "can't replace", kind->path);
    if (code != COULOMB_OK)
        unlink(kind->temp);
    else if (sync_folder(kind) != 0)
        code = io_fail(coll, "can't sync the folder of", kind->path);
    return code;
}

static int file_save(struct coulomb_collection *coll, const coulomb_tx *tx)
{
    const struct sync_tx *s = sync_open(coll);
    struct buf b;
    int code = COULOMB_OK;

    (void)tx;
    if (!s || sync_index_pending(coll) != COULOMB_OK)
        return client_no_memory(coll->client);
    buf_init_from(&b, FILE_MAX_BYTES, &coll->heap->mem);
    put_all(coll, s, &b);
    if (b.failed == ERR_LIMIT)
        code =
            client_fail(coll->client, COULOMB_E_SERIALIZATION,
                        "%s: its rows are more than %u bytes", coll->id, FILE_MAX_BYTES);
    else if (b.failed != 0)
        code = client_no_memory(coll->client);
    else
        code = replace_file(coll, &b);
    buf_fini(&b);
    return code;
}

/* --- Reading ----------------------------------------------------------------------------------- */

struct loading {
    struct coulomb_collection *coll;
    struct json_reader reader;
};

/* The text of the member's value, whole. */
static bool raw_value(struct json_reader *r, struct slice *raw)
{
    size_t from = r->pos;

    if (!json_skip(r, JSON_NAME))
        return false;
    *raw = slice_make(r->input.ptr + from, r->pos - from);
    while (raw->len > 0 && strchr(": \t\r\n", raw->ptr[0])) {
        raw->ptr++;
        raw->len--;
    }
    return true;
}

/* One column; 0, or a code. A column that the collection does not have is passed over. */
static int read_column(struct loading *l, struct coulomb_draft *d)
{
    struct json_reader *r = &l->reader;
    int column = -1;
    enum json_event event;
    const char *name;
    struct slice raw;

    for (size_t i = 0; i < d->layout->count; i++) {
        if (slice_eq(slice_of(d->layout->columns[i].name), r->text))
            column = (int)i;
    }
    if (column < 0)
        return json_skip(r, JSON_NAME) ? COULOMB_OK : COULOMB_E_INVALID_TEXT;
    name = d->layout->columns[column].name;
    if (d->layout->columns[column].type == COULOMB_JSON) {
        if (!raw_value(r, &raw))
            return COULOMB_E_INVALID_TEXT;
        return coulomb_draft_set_input(d, name, raw.ptr, raw.len);
    }
    event = json_next(r);
    switch (event) {
    case JSON_NULL:
        return coulomb_draft_set(d, name, coulomb_null());
    case JSON_TRUE:
        return coulomb_draft_set_input(d, name, "true", 4);
    case JSON_FALSE:
        return coulomb_draft_set_input(d, name, "false", 5);
    case JSON_STRING:
    case JSON_NUMBER:
        return coulomb_draft_set_input(d, name, r->text.ptr, r->text.len);
    case JSON_END:
    case JSON_ERROR:
    case JSON_OBJECT_BEGIN:
    case JSON_OBJECT_END:
    case JSON_ARRAY_BEGIN:
    case JSON_ARRAY_END:
    case JSON_NAME:
        break;
    }
    return COULOMB_E_INVALID_TEXT;
}

static int read_data(struct loading *l, struct coulomb_draft *d)
{
    int code = COULOMB_OK;

    if (json_next(&l->reader) != JSON_OBJECT_BEGIN)
        return COULOMB_E_INVALID_TEXT;
    while (code == COULOMB_OK) {
        enum json_event event = json_next(&l->reader);

        if (event == JSON_OBJECT_END)
            break;
        code = event == JSON_NAME ? read_column(l, d) : COULOMB_E_INVALID_TEXT;
    }
    return code;
}

static int read_members(struct loading *l, struct coulomb_draft *d)
{
    char version[64] = "";
    size_t version_len = 0;
    int code = COULOMB_OK;

    if (json_next(&l->reader) != JSON_OBJECT_BEGIN)
        return COULOMB_E_INVALID_TEXT;
    while (code == COULOMB_OK) {
        enum json_event event = json_next(&l->reader);

        if (event == JSON_OBJECT_END)
            break;
        if (event != JSON_NAME)
            return COULOMB_E_INVALID_TEXT;
        if (slice_eq(l->reader.text, SLICE_LIT("versionKey"))) {
            if (json_next(&l->reader) != JSON_STRING ||
                l->reader.text.len >= sizeof(version))
                return COULOMB_E_INVALID_TEXT;
            version_len = l->reader.text.len;
            memcpy(version, l->reader.text.ptr, version_len);
        } else if (slice_eq(l->reader.text, SLICE_LIT("data"))) {
            code = read_data(l, d);
        } else if (!json_skip(&l->reader, JSON_NAME)) {
            return COULOMB_E_INVALID_TEXT;
        }
    }
    if (code == COULOMB_OK)
        code = coulomb_sync_update(l->coll->session, d->values, version, version_len);
    return code;
}

static int read_rows(struct loading *l)
{
    int code = COULOMB_OK;

    if (json_next(&l->reader) != JSON_OBJECT_BEGIN)
        return COULOMB_E_INVALID_TEXT;
    while (code == COULOMB_OK) {
        enum json_event event = json_next(&l->reader);
        struct coulomb_draft d;

        if (event == JSON_OBJECT_END)
            break;
        if (event != JSON_NAME)
            return COULOMB_E_INVALID_TEXT;
        code = draft_init(&d, l->coll->client, l->coll->layout, NULL);
        if (code == COULOMB_OK) {
            code = read_members(l, &d);
            draft_fini(&d);
        }
    }
    if (code == COULOMB_OK && json_next(&l->reader) != JSON_END)
        code = COULOMB_E_INVALID_TEXT;
    return code;
}

/* Rows that the file does not have go. */
static int delete_others(struct coulomb_collection *coll)
{
    struct kent *ent;
    size_t it = 0;
    int code = sync_index_pending(coll);

    while (code == COULOMB_OK && (ent = ktab_next(&coll->synced, &it)) != NULL) {
        coulomb_key key = row_key(ent->item);

        if (!sync_names_key(coll, key, ent->hash))
            code = coulomb_sync_delete(coll->session, key);
    }
    return code;
}

static int read_file(struct coulomb_collection *coll, struct buf *b)
{
    const struct file_kind *kind = coll->kind;
    int fd = open(kind->path, O_RDONLY | O_CLOEXEC);
    ssize_t n = 1;

    if (fd < 0)
        return errno == ENOENT ? COULOMB_OK : io_fail(coll, "can't read", kind->path);
    while (n > 0) {
        char *room = buf_reserve(b, 65536);

        n = room ? read(fd, room, 65536) : 0;
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            b->len += (size_t)n;
    }
    close(fd);
    if (n < 0)
        return io_fail(coll, "can't read", kind->path);
    return b->failed ? client_no_memory(coll->client) : COULOMB_OK;
}

static int load_text(struct coulomb_collection *coll, struct slice text)
{
    struct loading l = {.coll = coll};
    int code = coulomb_sync_begin(coll->session, COULOMB_SYNC_IMMEDIATE);

    if (code != COULOMB_OK)
        return code;
    if (text.len > 0) {
        json_reader_init_from(&l.reader, text, &coll->heap->mem);
        code = read_rows(&l);
        if (l.reader.scratch.failed == ERR_MEMORY)
            code = client_no_memory(coll->client); /* and not a corrupt file */
        json_reader_fini(&l.reader);
    }
    if (code == COULOMB_OK)
        code = delete_others(coll);
    if (code == COULOMB_OK)
        code = coulomb_sync_commit(coll->session);
    if (code != COULOMB_OK)
        sync_abort(coll);
    return code;
}

static int load(struct coulomb_collection *coll)
{
    struct buf b;
    int code;

    buf_init_from(&b, FILE_MAX_BYTES, &coll->heap->mem);
    code = read_file(coll, &b);
    if (code == COULOMB_OK)
        code = load_text(coll, buf_slice(&b));
    buf_fini(&b);
    return code;
}

/* --- The API ------------------------------------------------------------------------------------- */

static void file_free(struct coulomb_collection *coll)
{
    struct file_kind *kind = coll->kind;

    heap_free_str(coll->heap, kind->path);
    heap_free_str(coll->heap, kind->temp);
}

static int file_init(struct coulomb_collection *coll, const char *path)
{
    struct file_kind *kind = coll->kind;
    size_t len;
    int code;

    kind->local.save = file_save;
    kind->local.free_extra = file_free;
    kind->path = heap_strdup(coll->heap, path);
    if (!kind->path)
        return client_no_memory(coll->client);
    len = strlen(path);
    kind->temp = heap_alloc(coll->heap, len + sizeof(".new"));
    if (!kind->temp)
        return client_no_memory(coll->client);
    memcpy(kind->temp, path, len);
    memcpy(kind->temp + len, ".new", sizeof(".new"));
    code = load(coll);
    if (code == COULOMB_E_MEMORY || code == COULOMB_OK)
        return code;
    client_log(coll->client, COULOMB_LOG_WARNING,
               "event=file.corrupt collection=\"%s\" code=%d reason=\"%s\"", coll->id,
               code, coulomb_error_text(code));
    return COULOMB_OK;
}

int coulomb_local_file_new(coulomb_client *c, const coulomb_collection_options *options,
                           const char *path, coulomb_collection **out)
{
    coulomb_collection_options o;
    coulomb_collection *coll;
    char id[256];
    int code = client_enter(c);

    if (code != COULOMB_OK)
        return code;
    if (!options)
        return client_fail(c, COULOMB_E_COLLECTION_REQUIRES_CONFIG,
                           "a collection needs options");
    if (!path || path[0] == '\0')
        return client_fail(c, COULOMB_E_STORAGE_KEY_REQUIRED,
                           "a local collection in a file needs the file's path");
    code = options_read(c, &o, sizeof(o), options, "coulomb_local_file_new");
    if (code != COULOMB_OK)
        return code;
    snprintf(id, sizeof(id), "local-collection:%s", path);
    if (!o.id)
        o.id = id;
    code = local_make(c, &o, sizeof(struct file_kind), &coll);
    if (code != COULOMB_OK)
        return code;
    code = file_init(coll, path);
    if (code != COULOMB_OK) {
        coulomb_collection_release(coll);
        return code;
    }
    *out = coll;
    return COULOMB_OK;
}

static int file_enter(coulomb_collection *coll)
{
    const struct local_kind *kind = coll->kind;
    int code = client_enter(coll->client);

    if (code == COULOMB_OK && (!kind || !coll->local_only || kind->save != file_save))
        code = client_fail(coll->client, COULOMB_E_COLLECTION_OPERATION,
                           "%s is in no file", coll->id);
    return code;
}

int coulomb_local_file_reload(coulomb_collection *coll)
{
    int code = file_enter(coll);

    if (code == COULOMB_OK)
        code = load(coll);
    if (code == COULOMB_E_INVALID_TEXT)
        client_fail(coll->client, code, "%s: the file is no collection", coll->id);
    return code;
}

int coulomb_local_file_clear(coulomb_collection *coll)
{
    const struct file_kind *kind = coll->kind;
    int code = file_enter(coll);

    if (code == COULOMB_OK && unlink(kind->path) != 0 && errno != ENOENT)
        code = io_fail(coll, "can't remove", kind->path);
    return code;
}

int coulomb_local_file_size(coulomb_collection *coll, size_t *bytes)
{
    const struct file_kind *kind = coll->kind;
    struct stat st;
    int code = file_enter(coll);

    *bytes = 0;
    if (code != COULOMB_OK)
        return code;
    if (stat(kind->path, &st) == 0)
        *bytes = (size_t)st.st_size;
    else if (errno != ENOENT)
        code = io_fail(coll, "can't read", kind->path);
    return code;
}
