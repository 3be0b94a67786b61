/* `coulomb put`, `patch` and `delete`: one row written as an app would, optimistically, and each state
 * that it goes through printed as it comes.
 *
 *   learn the columns (a stream, until its first answer) ─▶ a collection of the table, on demand
 *     ─▶ the row is loaded ─▶ mutation: local ─▶ sent ─▶ acknowledged ─▶ observed, or rejected
 *
 * All columns are text here, but for JSON: the server takes any type's text, and what is typed is
 * what is sent. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/remote.h"
#include "client/stream/stream.h"

#define COLUMNS_MAX 1600
#define KEY_MAX     32

enum write_op { PUT, PATCH, DELETE };

struct column {
    char *name;
    bool json;
    int pk_index;
};

struct field {
    char *column;
    const char *text; /* NULL: null */
};

struct writing {
    const struct remote *remote;
    enum write_op op;
    coulomb_client *client;
    coulomb_server *server;
    coulomb_collection *coll;
    coulomb_sub *sub;
    coulomb_tx *tx;
    struct column columns[COLUMNS_MAX];
    size_t column_count;
    const char *key[KEY_MAX]; /* columns of the primary key */
    size_t key_count;
    struct field fields[REMOTE_PARAMS_MAX];
    size_t field_count;
    int64_t began_us;
    coulomb_mutation_state printed;
    bool learned;
    bool loaded;
    bool done;
    int code;
};

static int fail_client(struct writing *w, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s", coulomb_last_error(w->client)->message);
}

/* --- Fields ------------------------------------------------------------------------------------------ */

/* NAME=TEXT, or NAME:=JSON, of which null is the one that text can't say. */
static int read_field(struct writing *w, const char *word, struct err *err)
{
    struct field *f = &w->fields[w->field_count];
    const char *sign = strchr(word, '=');
    bool json = sign[-1] == ':';
    size_t len = (size_t)(sign - word) - json;

    f->column = strndup(word, len);
    if (!f->column)
        return err_set(err, ERR_MEMORY, "no memory");
    w->field_count++;
    f->text = json && strcmp(sign + 1, "null") == 0 ? NULL : sign + 1;
    return len > 0 ? 0
                   : err_set(err, ERR_INVALID, "%.40s: COLUMN=VALUE is expected", word);
}

static int read_fields(struct writing *w, struct err *err)
{
    const struct remote *r = w->remote;

    for (size_t i = 0; i < r->field_count; i++)
        if (read_field(w, r->fields[i], err) != 0)
            return err->code;
    return w->field_count > 0
               ? 0
               : err_set(err, ERR_INVALID,
                         "which row? Say its key, COLUMN=VALUE; `coulomb help %s` shows "
                         "examples",
                         r->command);
}

static const struct field *field_of(const struct writing *w, const char *column)
{
    for (size_t i = 0; i < w->field_count; i++)
        if (strcmp(w->fields[i].column, column) == 0)
            return &w->fields[i];
    return NULL;
}

static const struct column *column_of(const struct writing *w, const char *name)
{
    for (size_t i = 0; i < w->column_count; i++)
        if (strcmp(w->columns[i].name, name) == 0)
            return &w->columns[i];
    return NULL;
}

static bool is_key(const struct writing *w, const char *column)
{
    for (size_t i = 0; i < w->key_count; i++)
        if (strcmp(w->key[i], column) == 0)
            return true;
    return false;
}

static coulomb_value value_of(const struct writing *w, const struct field *f)
{
    const struct column *c = column_of(w, f->column);

    if (!f->text)
        return coulomb_null();
    return c && c->json ? coulomb_json(f->text) : coulomb_text(f->text);
}

/* Now that the columns are known. */
static int check_fields(struct writing *w, struct err *err)
{
    for (size_t i = 0; i < w->field_count; i++)
        if (!column_of(w, w->fields[i].column))
            return err_set(err, ERR_INVALID, "%.60s has no column \"%.60s\"",
                           w->remote->table, w->fields[i].column);
    for (size_t i = 0; i < w->key_count; i++) {
        const struct field *f = field_of(w, w->key[i]);

        if (!f || !f->text)
            return err_set(
                err, ERR_INVALID,
                "\"%.60s\" belongs to the key of %.60s: say which, %.60s=VALUE",
                w->key[i], w->remote->table, w->key[i]);
    }
    if (w->op == PATCH && w->field_count == w->key_count)
        return err_set(err, ERR_INVALID,
                       "what is to change? COLUMN=VALUE behind the key");
    if (w->op == DELETE && w->field_count > w->key_count)
        return err_set(err, ERR_INVALID, "a delete takes the key alone");
    return 0;
}

/* --- Columns ----------------------------------------------------------------------------------------- */

static int keep_column(struct writing *w, const struct stream_column *c)
{
    struct column *kept = &w->columns[w->column_count];

    if (w->column_count == COLUMNS_MAX)
        return COULOMB_E_LIMIT;
    kept->name = strdup(c->name);
    if (!kept->name)
        return COULOMB_E_MEMORY;
    kept->json = c->type == COULOMB_JSON;
    kept->pk_index = c->pk_index;
    w->column_count++;
    if (c->pk_index >= 0 && c->pk_index < KEY_MAX) {
        w->key[c->pk_index] = kept->name;
        w->key_count++;
    }
    return COULOMB_OK;
}

static void on_state(struct shape_stream *s, void *arg)
{
    struct writing *w = arg;
    struct stream_state state;

    shape_stream_state(s, &state);
    if (w->learned || state.column_count == 0)
        return;
    for (size_t i = 0; i < state.column_count; i++)
        if (keep_column(w, &state.columns[i]) != COULOMB_OK)
            return;
    w->learned = true;
    shape_stream_stop(s);
}

static int ignore_messages(struct shape_stream *s, const struct stream_batch *b,
                           void *arg)
{
    (void)b;
    on_state(s, arg);
    return COULOMB_OK;
}

static enum stream_decision on_error(struct shape_stream *s, const struct stream_error *e,
                                     void *arg)
{
    struct writing *w = arg;

    (void)s;
    fprintf(stderr, "coulomb: %s\n", e->message);
    w->code = CLI_FAIL;
    w->learned = true;
    return STREAM_GIVE_UP;
}

static int learn_columns(struct writing *w, struct err *err)
{
    const struct remote *r = w->remote;
    const struct stream_param secret = {"secret", r->secret};
    struct shape_stream *s = NULL;
    char url[8192];
    const struct stream_options o = {.url = url,
                                     .table = r->table,
                                     .log = STREAM_LOG_CHANGES_ONLY,
                                     .from_now = true,
                                     .once = true,
                                     .backoff = {250, 2000, 2},
                                     .attempts_max = 6,
                                     .extra = &secret,
                                     .extra_count = r->secret != NULL,
                                     .callbacks = {ignore_messages, on_error, on_state},
                                     .arg = w};

    snprintf(url, sizeof(url), "%s/v1/shape", r->url);
    if (shape_stream_new(w->client, &o, &s) != COULOMB_OK)
        return fail_client(w, err);
    shape_stream_start(s);
    remote_loop(w->client, &w->learned);
    shape_stream_release(s);
    if (w->code != CLI_OK)
        return ERR_IO; /* told */
    return w->key_count > 0
               ? 0
               : err_set(err, ERR_INVALID,
                         "%.60s has no primary key: rows can't be named", r->table);
}

/* --- The collection ---------------------------------------------------------------------------------- */

static int open_collection(struct writing *w, struct err *err)
{
    coulomb_column *columns = calloc(w->column_count, sizeof(*columns));
    coulomb_server_options so;
    coulomb_electric_options o;

    if (!columns)
        return err_set(err, ERR_MEMORY, "no memory");
    for (size_t i = 0; i < w->column_count; i++)
        columns[i] = (coulomb_column){w->columns[i].name,
                                      w->columns[i].json ? COULOMB_JSON : COULOMB_TEXT,
                                      COULOMB_ABSENT};
    coulomb_options_init(&so, sizeof(so));
    so.url = w->remote->url;
    so.auth_token = w->remote->token;
    so.secret = w->remote->secret;
    so.retry_ms = 10000;
    coulomb_options_init(&o, sizeof(o));
    o.collection.size = sizeof(o.collection);
    o.collection.id = w->remote->table;
    o.collection.columns = columns;
    o.collection.column_count = w->column_count;
    o.mode = COULOMB_ON_DEMAND;
    o.table = w->remote->table;
    if (w->key_count == 1) {
        o.collection.key_column = w->key[0];
    } else {
        o.key_columns = w->key;
        o.key_column_count = w->key_count;
    }
    int code = coulomb_server_new(w->client, &so, &w->server);
    if (code == COULOMB_OK)
        code = coulomb_server_collection_open(w->server, &o, NULL, 0, &w->coll);
    free(columns);
    return code == COULOMB_OK ? 0 : fail_client(w, err);
}

static void on_loading(coulomb_sub *sub, int loading, void *arg)
{
    (void)sub;
    if (!loading)
        ((struct writing *)arg)->loaded = true;
}

static void on_changes(coulomb_collection *coll, const coulomb_change *changes,
                       size_t count, void *arg)
{
    (void)coll;
    (void)changes;
    (void)count;
    (void)arg;
}

static void on_status(coulomb_collection *coll, const coulomb_event *event, void *arg)
{
    struct writing *w = arg;

    if (event->status != COULOMB_ERROR)
        return;
    fprintf(stderr, "coulomb: %s\n", coulomb_collection_error(coll)->message);
    w->code = CLI_FAIL;
    w->loaded = w->done = true;
}

static int load_row(struct writing *w, struct err *err)
{
    coulomb_sub_options o;
    coulomb_token token;
    coulomb_expr *where = NULL;

    for (size_t i = 0; i < w->key_count; i++) {
        coulomb_expr *part = coulomb_where(w->coll, w->key[i], COULOMB_EQ,
                                           value_of(w, field_of(w, w->key[i])));

        where = i == 0 ? part : coulomb_and(where, part);
    }
    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    o.where = where;
    o.on_loading = on_loading;
    int code =
        where ? coulomb_collection_on(w->coll, COULOMB_EVENT_STATUS, on_status, w, &token)
              : COULOMB_E_MEMORY;
    if (code == COULOMB_OK)
        code = coulomb_subscribe(w->coll, &o, on_changes, w, &w->sub);
    coulomb_expr_free(where);
    if (code != COULOMB_OK)
        return fail_client(w, err);
    remote_loop(w->client, &w->loaded);
    return w->code == CLI_OK ? 0 : ERR_IO;
}

/* --- The mutation ------------------------------------------------------------------------------------- */

static const char *word_of(coulomb_mutation_state state)
{
    switch (state) {
    case COULOMB_MUTATION_LOCAL:
        return "local: seen here, not yet sent";
    case COULOMB_MUTATION_SENT:
        return "sent";
    case COULOMB_MUTATION_ACKNOWLEDGED:
        return "acknowledged: in the database";
    case COULOMB_MUTATION_OBSERVED:
        return "observed: came back by the shape";
    case COULOMB_MUTATION_REJECTED:
        return "rejected, and taken back";
    }
    return "";
}

static void print_state(struct writing *w, const char *word)
{
    printf("%8.1f ms  %s\n", (double)(clock_mono_us() - w->began_us) / 1000, word);
    fflush(stdout);
}

static void on_progress(coulomb_tx *tx, void *arg)
{
    struct writing *w = arg;
    coulomb_mutation m;

    if (coulomb_tx_count(tx) == 0 || coulomb_tx_mutation(tx, 0, &m) != COULOMB_OK ||
        m.state == w->printed)
        return;
    w->printed = m.state;
    print_state(w, word_of(m.state));
    if (m.state == COULOMB_MUTATION_OBSERVED)
        w->done = true;
}

static void on_settled(coulomb_tx *tx, const coulomb_error *error, void *arg)
{
    struct writing *w = arg;

    on_progress(tx, w);
    if (coulomb_tx_status(tx) == COULOMB_TX_COMPLETED)
        w->done = w->done || w->printed != COULOMB_MUTATION_SENT;
    if (coulomb_tx_status(tx) != COULOMB_TX_FAILED)
        return;
    fprintf(stderr, "coulomb: %s\n", error->message);
    w->code = CLI_FAIL;
    w->done = true;
}

static int change(coulomb_draft *d, size_t index, void *arg)
{
    const struct writing *w = arg;
    int code = COULOMB_OK;

    (void)index;
    for (size_t i = 0; code == COULOMB_OK && i < w->field_count; i++)
        if (!is_key(w, w->fields[i].column))
            code = coulomb_draft_set(d, w->fields[i].column, value_of(w, &w->fields[i]));
    return code;
}

static int key_of(const struct writing *w, char *text, size_t cap, coulomb_key *key)
{
    coulomb_value values[KEY_MAX];
    size_t len = 0;

    for (size_t i = 0; i < w->key_count; i++)
        values[i] = value_of(w, field_of(w, w->key[i]));
    if (w->key_count == 1) {
        *key = coulomb_key_textn(values[0].v.s.ptr, values[0].v.s.len);
        return COULOMB_OK;
    }
    int code = coulomb_electric_key(values, w->key_count, text, cap, &len);
    *key = coulomb_key_textn(text, len);
    return code == COULOMB_OK && len >= cap ? COULOMB_E_LIMIT : code;
}

static int mutate(struct writing *w, struct err *err)
{
    coulomb_field fields[REMOTE_PARAMS_MAX];
    char text[COULOMB_KEY_MAX + 1];
    coulomb_key key;
    coulomb_token token;
    int code = key_of(w, text, sizeof(text), &key);

    w->began_us = clock_mono_us();
    for (size_t i = 0; i < w->field_count; i++)
        fields[i] = (coulomb_field){w->fields[i].column, value_of(w, &w->fields[i])};
    if (code == COULOMB_OK)
        code = w->op == PUT
                   ? coulomb_insert(w->coll, fields, w->field_count, NULL, &w->tx)
               : w->op == PATCH ? coulomb_update(w->coll, key, change, w, NULL, &w->tx)
                                : coulomb_delete(w->coll, key, NULL, &w->tx);
    if (code == COULOMB_OK && coulomb_tx_count(w->tx) == 0) {
        print_state(w, "nothing to do: the row is like that already");
        return 0;
    }
    if (code == COULOMB_OK)
        code = coulomb_tx_on_progress(w->tx, on_progress, w, &token);
    if (code == COULOMB_OK)
        code = coulomb_tx_on_settled(w->tx, on_settled, w, &token);
    if (code != COULOMB_OK)
        return fail_client(w, err);
    w->printed = COULOMB_MUTATION_LOCAL;
    print_state(w, word_of(COULOMB_MUTATION_LOCAL));
    on_progress(w->tx, w);
    remote_loop(w->client, &w->done);
    return 0;
}

/* --- The commands -------------------------------------------------------------------------------------- */

static int run(struct writing *w, struct err *err)
{
    int rc = read_fields(w, err);

    rc = rc ? rc : remote_client(&w->client, err);
    rc = rc ? rc : learn_columns(w, err);
    rc = rc ? rc : check_fields(w, err);
    rc = rc ? rc : open_collection(w, err);
    rc = rc ? rc : load_row(w, err);
    return rc ? rc : mutate(w, err);
}

static int command(enum write_op op, const char *name, int count, char **args, char **env)
{
    struct remote r;
    struct err err = {0};
    int code;

    if (cli_wants_help(count, args))
        return cli_print_help(name);
    if (remote_read(&r, name, REMOTE_FIELDS, count, args, env, &err) != 0)
        return cli_fail(CLI_USAGE, &err);
    struct writing *w = calloc(1, sizeof(*w));
    if (!w)
        return CLI_FAIL;
    w->remote = &r;
    w->op = op;
    code = run(w, &err) == 0 || w->code != CLI_OK ? w->code : cli_fail(CLI_USAGE, &err);
    coulomb_unsubscribe(w->sub);
    coulomb_tx_release(w->tx);
    coulomb_collection_release(w->coll);
    coulomb_server_release(w->server);
    coulomb_client_close(w->client);
    for (size_t i = 0; i < w->column_count; i++)
        free(w->columns[i].name);
    for (size_t i = 0; i < w->field_count; i++)
        free(w->fields[i].column);
    free(w);
    return code;
}

int cli_put(int count, char **args, char **env)
{
    return command(PUT, "put", count, args, env);
}

int cli_patch(int count, char **args, char **env)
{
    return command(PATCH, "patch", count, args, env);
}

int cli_delete(int count, char **args, char **env)
{
    return command(DELETE, "delete", count, args, env);
}
