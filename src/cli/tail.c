/* `coulomb tail`: a shape, live, a line for each message.
 *
 *   + {"id":1,"title":"oats"}        a row, of the beginning or inserted
 *   ~ {"id":1,"done":true}           what an update changed, behind the key
 *   - {"id":1}                       deleted
 *   = up to date                     at the end of the beginning
 *   ! begins anew                    the shape was replaced: all rows come again */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/remote.h"
#include "client/stream/stream.h"
#include "client/value/value.h"
#include "json/json.h"

#define LINE_BYTES_MAX (64u << 20)
#define URL_BYTES_MAX  8192
#define COLUMNS_MAX    1600

struct tail {
    const struct remote *remote;
    coulomb_client *client;
    coulomb_server *server; /* of a gatekeeper; else NULL */
    struct credentials *credentials;
    struct shape_stream *stream;
    struct arena scratch;
    struct buf line;
    bool was_up_to_date;
    bool done;
    int code;
};

/* --- Printing ------------------------------------------------------------------------------------- */

static void put_values(struct tail *t, const struct stream_batch *b,
                       const struct stream_message *m)
{
    bool first = true;

    buf_putc(&t->line, '{');
    for (size_t i = 0; m->values && i < b->column_count; i++) {
        if (m->values[i].type == COULOMB_ABSENT)
            continue;
        if (!first)
            buf_putc(&t->line, ',');
        first = false;
        json_put_string(&t->line, slice_of(b->columns[i].name));
        buf_putc(&t->line, ':');
        arena_reset(&t->scratch);
        value_put_json(&t->line, &m->values[i], &t->scratch);
    }
    buf_putc(&t->line, '}');
}

static const char *sign_of(enum stream_kind kind)
{
    return kind == STREAM_INSERT ? "+" : kind == STREAM_UPDATE ? "~" : "-";
}

static const char *word_of(enum stream_kind kind)
{
    return kind == STREAM_INSERT ? "insert" : kind == STREAM_UPDATE ? "update" : "delete";
}

static void put_change(struct tail *t, const struct stream_batch *b,
                       const struct stream_message *m)
{
    const struct stream_headers *h = m->headers;

    if (!t->remote->json) {
        buf_printf(&t->line, "%s ", sign_of(m->kind));
        put_values(t, b, m);
        return;
    }
    buf_printf(&t->line, "{\"operation\":\"%s\",\"key\":", word_of(m->kind));
    json_put_string(&t->line, slice_make(m->key.ptr, m->key.len));
    buf_puts(&t->line, ",\"value\":");
    put_values(t, b, m);
    for (size_t i = 0; i < h->txid_count; i++)
        buf_printf(&t->line, "%s%llu", i ? "," : ",\"txids\":[",
                   (unsigned long long)h->txids[i]);
    buf_puts(&t->line, h->txid_count ? "]" : "");
    if (h->has_lsn)
        buf_printf(&t->line, ",\"lsn\":\"%llu\"", (unsigned long long)h->lsn);
    buf_putc(&t->line, '}');
}

/* False: nothing is said of it. */
static bool put_message(struct tail *t, const struct stream_batch *b,
                        const struct stream_message *m)
{
    if (stream_is_change(m)) {
        put_change(t, b, m);
        return true;
    }
    if (m->kind == STREAM_UP_TO_DATE && !t->was_up_to_date) {
        t->was_up_to_date = true;
        buf_puts(&t->line,
                 t->remote->json ? "{\"control\":\"up-to-date\"}" : "= up to date");
        return true;
    }
    if (m->kind == STREAM_MUST_REFETCH) {
        t->was_up_to_date = false;
        buf_puts(&t->line,
                 t->remote->json ? "{\"control\":\"must-refetch\"}" : "! begins anew");
        return true;
    }
    return false;
}

static void end(struct tail *t, int code)
{
    t->code = code;
    t->done = true;
}

static int on_messages(struct shape_stream *s, const struct stream_batch *b, void *arg)
{
    struct tail *t = arg;

    (void)s;
    for (size_t i = 0; i < b->count; i++) {
        buf_reset(&t->line, LINE_BYTES_MAX / 64);
        if (!put_message(t, b, &b->messages[i]))
            continue;
        buf_putc(&t->line, '\n');
        if (t->line.failed) {
            fprintf(stderr, "coulomb: a row is larger than %u MiB\n",
                    LINE_BYTES_MAX >> 20);
            end(t, CLI_FAIL);
            return COULOMB_OK;
        }
        fwrite(t->line.ptr, 1, t->line.len, stdout);
    }
    if (fflush(stdout) != 0) /* whoever read has gone */
        end(t, CLI_FAIL);
    return COULOMB_OK;
}

static enum stream_decision on_error(struct shape_stream *s, const struct stream_error *e,
                                     void *arg)
{
    (void)s;
    fprintf(stderr, "coulomb: %s\n", e->message);
    end(arg, CLI_FAIL);
    return STREAM_GIVE_UP;
}

static void on_changed(struct shape_stream *s, void *arg)
{
    struct stream_state state;

    shape_stream_state(s, &state);
    if (state.phase == STREAM_DONE)
        end(arg, CLI_OK);
    else if (state.phase == STREAM_FAILED)
        end(arg, CLI_FAIL);
}

/* --- Who asks ------------------------------------------------------------------------------------- */

static void on_token(coulomb_server *server, int code, const char *token,
                     const char *message, void *arg)
{
    struct tail *t = arg;
    struct buf value;

    (void)server;
    buf_init(&value, 65536);
    if (code == COULOMB_OK) {
        buf_printf(&value, "Bearer %s", token);
        buf_putc(&value, '\0');
        code = value.failed
                   ? COULOMB_E_MEMORY
                   : credentials_add_header(t->credentials, "authorization", value.ptr);
    }
    buf_fini(&value);
    credentials_answer(t->credentials, code, message);
}

static int renew(struct credentials *cr, bool refused, void *arg)
{
    struct tail *t = arg;
    const struct remote *r = t->remote;

    (void)cr;
    (void)refused;
    int code = coulomb_server_shape_token(t->server, r->table, r->params, r->param_count,
                                          on_token, t);
    return code == COULOMB_OK ? COULOMB_PENDING : code;
}

static int sign_in(struct tail *t)
{
    const struct credentials_options credentials = {.renew = renew, .arg = t};
    coulomb_server_options o;

    coulomb_options_init(&o, sizeof(o));
    o.url = t->remote->url;
    o.auth_token = t->remote->token;
    o.gatekeeper = 1;
    int code = coulomb_server_new(t->client, &o, &t->server);
    return code == COULOMB_OK ? credentials_new(t->client, &credentials, &t->credentials)
                              : code;
}

/* --- The stream ------------------------------------------------------------------------------------ */

/* Cuts the list at its commas. */
static size_t split_columns(char *text, const char **out)
{
    size_t count = 0;

    while (*text && count < COLUMNS_MAX) {
        char *comma = strchr(text, ',');

        out[count++] = text;
        if (!comma)
            break;
        *comma = '\0';
        text = comma + 1;
    }
    return count;
}

static int open_stream(struct tail *t, struct err *err)
{
    const struct remote *r = t->remote;
    const struct stream_param secret = {"secret", r->secret};
    const char *params[REMOTE_PARAMS_MAX];
    const char *columns[COLUMNS_MAX];
    char *names = r->columns ? strdup(r->columns) : NULL;
    char url[URL_BYTES_MAX];
    struct stream_options o = {.url = url,
                               .once = r->once,
                               .callbacks = {on_messages, on_error, on_changed},
                               .arg = t,
                               .credentials = t->credentials};

    snprintf(url, sizeof(url), "%s%s", r->url, r->gatekeeper ? "/shape" : "/v1/shape");
    if (!r->gatekeeper) {
        o.table = r->table;
        o.where = r->where;
        o.params = params;
        if (remote_clause_params(r, params, &o.param_count, err) != 0) {
            free(names);
            return err->code;
        }
        o.columns = columns;
        o.column_count = names ? split_columns(names, columns) : 0;
        o.extra = &secret;
        o.extra_count = r->secret != NULL;
    }
    int code = shape_stream_new(t->client, &o, &t->stream);
    free(names);
    return code == COULOMB_OK
               ? 0
               : err_set(err, ERR_INVALID, "%s", coulomb_last_error(t->client)->message);
}

static int follow(struct tail *t, struct err *err)
{
    int rc = remote_client(&t->client, err);

    if (rc == 0 && t->remote->gatekeeper && sign_in(t) != COULOMB_OK)
        rc = err_set(err, ERR_INVALID, "%s", coulomb_last_error(t->client)->message);
    if (rc == 0)
        rc = open_stream(t, err);
    if (rc != 0)
        return rc;
    shape_stream_start(t->stream);
    remote_loop(t->client, &t->done);
    return 0;
}

int cli_tail(int count, char **args, char **env)
{
    struct remote r;
    struct tail t = {.remote = &r, .code = CLI_FAIL};
    struct err err = {0};

    if (cli_wants_help(count, args))
        return cli_print_help("tail");
    if (remote_read(&r, "tail", REMOTE_GATEKEEPER | REMOTE_SHAPE, count, args, env,
                    &err) != 0)
        return cli_fail(CLI_USAGE, &err);
    if (r.gatekeeper && (r.where || r.columns)) {
        err_set(
            &err, ERR_INVALID,
            "with --gatekeeper the token says which rows and columns: drop --where and "
            "--columns");
        return cli_fail(CLI_USAGE, &err);
    }
    signal(SIGPIPE, SIG_IGN);
    arena_init(&t.scratch, LINE_BYTES_MAX);
    buf_init(&t.line, LINE_BYTES_MAX);
    if (follow(&t, &err) != 0)
        t.code = cli_fail(CLI_USAGE, &err);
    shape_stream_release(t.stream);
    credentials_release(t.credentials);
    coulomb_server_release(t.server);
    coulomb_client_close(t.client);
    buf_fini(&t.line);
    arena_fini(&t.scratch);
    return t.code;
}
