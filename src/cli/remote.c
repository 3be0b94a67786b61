/* See remote.h. */
#include "cli/remote.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_URL "http://127.0.0.1:3000"

static const char *from_env(char **env, const char *name)
{
    size_t len = strlen(name);

    for (; env && *env; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=' && (*env)[len + 1])
            return *env + len + 1;
    return NULL;
}

/* NAME=VALUE, cut at the sign. */
static int add_param(struct remote *r, char *text, struct err *err)
{
    char *sign = strchr(text, '=');

    if (!sign || sign == text)
        return err_set(err, ERR_INVALID, "--param %.40s: NAME=VALUE is expected", text);
    if (r->param_count == REMOTE_PARAMS_MAX)
        return err_set(err, ERR_INVALID, "more than %d parameters", REMOTE_PARAMS_MAX);
    *sign = '\0';
    r->params[r->param_count++] = (coulomb_pair){text, sign + 1};
    return 0;
}

static const char **text_flag(struct remote *r, const char *name, unsigned flags)
{
    const struct {
        const char *name;
        const char **into;
        unsigned needs;
    } table[] = {
        {"--url", &r->url, 0},
        {"--token", &r->token, 0},
        {"--secret", &r->secret, 0},
        {"--where", &r->where, REMOTE_SHAPE},
        {"--columns", &r->columns, REMOTE_SHAPE},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(table[i].name, name) == 0 && (table[i].needs & ~flags) == 0)
            return table[i].into;
    return NULL;
}

static bool *bool_flag(struct remote *r, const char *name, unsigned flags)
{
    if (strcmp(name, "--gatekeeper") == 0 && (flags & REMOTE_GATEKEEPER))
        return &r->gatekeeper;
    if (strcmp(name, "--once") == 0 && (flags & REMOTE_SHAPE))
        return &r->once;
    if (strcmp(name, "--json") == 0 && (flags & REMOTE_SHAPE))
        return &r->json;
    return NULL;
}

/* One flag and its value, which is the next argument or stands behind a "=". *used: arguments. */
static int read_flag(struct remote *r, unsigned flags, int left, char **args, int *used,
                     struct err *err)
{
    char *equals = strchr(args[0], '=');
    char *value = equals ? equals + 1 : left > 1 ? args[1] : NULL;
    bool param;

    if (equals)
        *equals = '\0';
    param = strcmp(args[0], "--param") == 0 && (flags & REMOTE_GATEKEEPER);
    const char **text = text_flag(r, args[0], flags);
    bool *on = bool_flag(r, args[0], flags);
    *used = equals || on ? 1 : 2;
    if (on && equals)
        return err_set(err, ERR_INVALID, "%.40s takes no value", args[0]);
    if (on) {
        *on = true;
        return 0;
    }
    if (!text && !param)
        return err_set(err, ERR_INVALID,
                       "%.40s: `coulomb %s` does not know it; `coulomb help %s` lists "
                       "what it knows",
                       args[0], r->command, r->command);
    if (!value || !*value)
        return err_set(err, ERR_INVALID, "%.40s: it needs a value", args[0]);
    if (param)
        return add_param(r, value, err);
    *text = value;
    return 0;
}

static int read_word(struct remote *r, unsigned flags, const char *word, struct err *err)
{
    if (!r->table) {
        r->table = word;
        return 0;
    }
    if (!(flags & REMOTE_FIELDS))
        return err_set(err, ERR_INVALID, "%.40s: `coulomb %s` takes one table", word,
                       r->command);
    if (!strchr(word, '=') || word[0] == '=')
        return err_set(err, ERR_INVALID, "%.40s: COLUMN=VALUE is expected", word);
    if (r->field_count == REMOTE_PARAMS_MAX)
        return err_set(err, ERR_INVALID, "more than %d columns", REMOTE_PARAMS_MAX);
    r->fields[r->field_count++] = word;
    return 0;
}

int remote_read(struct remote *r, const char *command, unsigned flags, int count,
                char **args, char **env, struct err *err)
{
    int rc = 0;

    *r = (struct remote){.command = command,
                         .url = DEFAULT_URL,
                         .token = from_env(env, "COULOMB_TOKEN"),
                         .secret = from_env(env, "ELECTRIC_SECRET")};
    for (int i = 0; rc == 0 && i < count;) {
        int used = 1;

        rc = strncmp(args[i], "--", 2) == 0
                 ? read_flag(r, flags, count - i, args + i, &used, err)
                 : read_word(r, flags, args[i], err);
        i += used;
    }
    if (rc == 0 && !r->table)
        rc = err_set(err, ERR_INVALID, "which table? `coulomb help %s` shows examples",
                     command);
    return rc;
}

int remote_clause_params(const struct remote *r, const char **out, size_t *count,
                         struct err *err)
{
    *count = 0;
    for (size_t i = 0; i < r->param_count; i++) {
        char *end;
        unsigned long n = strtoul(r->params[i].name, &end, 10);

        if (*end || n < 1 || n > REMOTE_PARAMS_MAX)
            return err_set(err, ERR_INVALID,
                           "--param %.40s: of a clause they are named by their number, "
                           "1 for $1",
                           r->params[i].name);
        for (; *count < n; ++*count)
            out[*count] = NULL;
        out[n - 1] = r->params[i].value;
    }
    return 0;
}

/* Who waits is told why. */
static void on_log(int level, const char *line, void *arg)
{
    (void)level;
    (void)arg;
    if (strncmp(line, "event=stream.retry", 18) == 0 && strstr(line, " attempt=1 "))
        fprintf(stderr, "coulomb: the server can't be reached, or can't answer just now; "
                        "trying again\n");
}

int remote_client(coulomb_client **out, struct err *err)
{
    coulomb_client_options o;

    coulomb_options_init(&o, sizeof(o));
    o.log = on_log;
    return coulomb_client_open(&o, out) == COULOMB_OK
               ? 0
               : err_set(err, ERR_MEMORY, "no memory for a client");
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void remote_loop(coulomb_client *c, const bool *done)
{
    struct pollfd p = {.fd = coulomb_fd(c), .events = POLLIN};

    while (!*done && p.fd >= 0) {
        int64_t left;

        if (coulomb_poll(c) < 0 && coulomb_last_error(c)->code != COULOMB_E_MEMORY)
            return;
        if (*done || coulomb_pending(c))
            continue;
        left = coulomb_next_deadline(c);
        if (left != INT64_MAX)
            left -= now_ms();
        poll(&p, 1, left > 60000 ? 60000 : left < 0 ? 0 : (int)left);
    }
}
