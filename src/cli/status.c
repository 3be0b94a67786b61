/* `coulomb status`: /v1/health, and /metrics where it is said, for people. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/fetch.h"
#include "server/obs/obs.h"

#define EXIT_NOT_ACTIVE  1
#define EXIT_UNREACHABLE 2
#define TIMEOUT_MS       5000
#define HEALTH_MAX       65536
#define METRICS_MAX      1048576
#define DEFAULT_URL      "http://127.0.0.1:3000"

struct question {
    const char *url;
    const char *metrics_url; /* NULL: not asked */
};

static int read_args(struct question *q, int count, char **args, struct err *err)
{
    *q = (struct question){.url = DEFAULT_URL};
    for (int i = 0; i < count; i++) {
        const char **into = NULL;
        const char *name = args[i];
        size_t len = strcspn(name, "=");
        if (len == 5 && strncmp(name, "--url", len) == 0)
            into = &q->url;
        else if (len == 13 && strncmp(name, "--metrics-url", len) == 0)
            into = &q->metrics_url;
        if (!into)
            return err_set(err, ERR_INVALID,
                           "%.80s: `coulomb status` knows only --url and --metrics-url",
                           name);
        *into = name[len] == '=' ? name + len + 1 : i + 1 < count ? args[++i] : "";
        if (**into == '\0')
            return err_set(err, ERR_INVALID, "%.*s: it needs a URL", (int)len, name);
    }
    return 0;
}

/* The word in {"status":"active"}, checked to be a plain one; false when there is none.
 */
static bool status_word(const struct buf *body, char *out, size_t room)
{
    static const char key[] = "\"status\":\"";
    const char *at =
        body->len ? memmem(body->ptr, body->len, key, sizeof(key) - 1) : NULL;
    if (!at)
        return false;
    at += sizeof(key) - 1;
    size_t left = body->len - (size_t)(at - body->ptr);
    size_t n = 0;
    while (n < left && n + 1 < room && at[n] >= 'a' && at[n] <= 'z') {
        out[n] = at[n];
        n++;
    }
    out[n] = '\0';
    return n > 0;
}

static int ask_health(const char *url, struct err *err)
{
    static const struct meaning {
        const char *word;
        const char *text;
    } meanings[] = {
        {"active", "it streams from Postgres and serves all requests"},
        {"waiting", "another instance holds the database's lock, or Postgres can't be "
                    "reached; what it has stored is served"},
        {"starting", "it is not yet up; its log says what it waits for"},
    };
    struct buf body;
    int status = 0;
    char word[32];
    buf_init(&body, HEALTH_MAX);
    int rc = fetch_get(url, "/v1/health", TIMEOUT_MS, &status, &body, err);
    bool known = rc == 0 && status_word(&body, word, sizeof(word));
    buf_fini(&body);
    if (rc == 0 && (!known || (status != 200 && status != 202)))
        rc = err_set(err, ERR_IO,
                     "%s answers %d and not like a server of this kind: is it the right "
                     "port?",
                     url, status);
    if (rc)
        return cli_fail(EXIT_UNREACHABLE, err);
    const char *text = "";
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
        if (strcmp(word, meanings[i].word) == 0)
            text = meanings[i].text;
    printf("%s is %s%s%s\n", url, word, *text ? ": " : "", text);
    return strcmp(word, "active") == 0 ? CLI_OK : EXIT_NOT_ACTIVE;
}

/* Prints the plain samples of the table's metrics, and reasons that happened. */
static void print_metric(struct slice line)
{
    static const struct known {
        const char *name;
        const char *help;
    } table[] = {
#define X(id, name, help) {name, help},
        OBS_GAUGES(X) OBS_COUNTERS(X)
#undef X
    };
    const char *blank = memchr(line.ptr, ' ', line.len);
    if (!blank)
        return;
    struct slice name = slice_make(line.ptr, (size_t)(blank - line.ptr));
    struct slice number =
        slice_trim(slice_make(blank, line.len - (size_t)(blank - line.ptr)));
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (slice_eq(name, slice_of(table[i].name)))
            printf("  %-56s %.*s\n", table[i].help, (int)number.len, number.ptr);
    if (memchr(name.ptr, '{', name.len) && memmem(name.ptr, name.len, "reason=", 7) &&
        !slice_eq(number, SLICE_LIT("0")))
        printf("  %-56.*s %.*s\n", (int)name.len, name.ptr, (int)number.len, number.ptr);
}

static int ask_metrics(const char *url, struct err *err)
{
    struct buf body;
    int status = 0;
    buf_init(&body, METRICS_MAX);
    size_t len = strlen(url);
    bool whole = len > 8 && strcmp(url + len - 8, "/metrics") == 0;
    int rc = fetch_get(url, whole ? "" : "/metrics", TIMEOUT_MS, &status, &body, err);
    if (rc == 0 && status != 200)
        rc = err_set(err, ERR_IO, "%s answers %d to /metrics: is it the metrics' port?",
                     url, status);
    for (size_t at = 0; rc == 0 && at < body.len;) {
        const char *end = memchr(body.ptr + at, '\n', body.len - at);
        size_t stop = end ? (size_t)(end - body.ptr) : body.len;
        struct slice line = slice_make(body.ptr + at, stop - at);
        if (line.len > 0 && line.ptr[0] != '#')
            print_metric(line);
        at = stop + 1;
    }
    buf_fini(&body);
    return rc ? cli_fail(EXIT_UNREACHABLE, err) : CLI_OK;
}

int cli_status(int count, char **args, char **env)
{
    (void)env;
    if (cli_wants_help(count, args))
        return cli_print_help("status");
    struct err err = {0};
    struct question q;
    if (read_args(&q, count, args, &err) < 0)
        return cli_fail(CLI_USAGE, &err);
    int code = ask_health(q.url, &err);
    if (code != EXIT_UNREACHABLE && q.metrics_url) {
        int metrics = ask_metrics(q.metrics_url, &err);
        code = metrics != CLI_OK ? metrics : code;
    }
    return code;
}
