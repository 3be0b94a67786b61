/* `coulomb status`: /v1/health, and /metrics where it is said, for people. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/fetch.h"
#include "server/obs/obs.h"
#include "json/json.h"

#define EXIT_NOT_ACTIVE  1
#define EXIT_UNREACHABLE 2
#define TIMEOUT_MS       5000
#define HEALTH_MAX       65536
#define PATH_MAX_BYTES   8192
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

/* What the server says of itself. */
struct health {
    char word[32];
    char detail[1024]; /* "" for none */
    char lag_ms[32];   /* digits; "" from a server that does not tell */
};

static void keep(char *out, size_t room, struct slice text)
{
    size_t n = text.len < room - 1 ? text.len : room - 1;
    for (size_t i = 0; i < n; i++) /* it goes to a terminal */
        out[i] = (unsigned char)text.ptr[i] < ' ' ? ' ' : text.ptr[i];
    out[n] = '\0';
}

/* {"status":"active","lag_ms":120,"detail":"…"}; false when it is nothing of the kind. */
static bool parse_health(const struct buf *body, struct health *h)
{
    struct json_reader r;
    enum json_event e = JSON_ERROR;
    *h = (struct health){0};
    json_reader_init(&r, buf_slice(body));
    bool fine = json_next(&r) == JSON_OBJECT_BEGIN;
    while (fine && (e = json_next(&r)) == JSON_NAME) {
        char key[16];
        keep(key, sizeof(key), r.text);
        struct slice name = slice_of(key);
        e = json_next(&r);
        if (e == JSON_STRING && slice_eq(name, SLICE_LIT("status")))
            keep(h->word, sizeof(h->word), r.text);
        else if (e == JSON_STRING && slice_eq(name, SLICE_LIT("detail")))
            keep(h->detail, sizeof(h->detail), r.text);
        else if (e == JSON_NUMBER && slice_eq(name, SLICE_LIT("lag_ms")))
            keep(h->lag_ms, sizeof(h->lag_ms), r.text);
        else
            fine = json_skip(&r, e);
    }
    json_reader_fini(&r);
    return fine && e == JSON_OBJECT_END && h->word[0] != '\0';
}

/* "/v1/health?verbose=true", with the secret where the environment has it. */
static void put_path(struct buf *out, char **env)
{
    static const char name[] = "ELECTRIC_SECRET=";
    const char *secret = NULL;
    for (char **at = env; at && *at; at++)
        if (strncmp(*at, name, sizeof(name) - 1) == 0)
            secret = *at + sizeof(name) - 1;
    buf_puts(out, "/v1/health?verbose=true");
    if (secret && *secret)
        buf_puts(out, "&secret=");
    for (; secret && *secret; secret++)
        buf_printf(out, "%%%02X", (unsigned)(unsigned char)*secret);
    buf_putc(out, '\0');
}

static const char *meaning(const char *word)
{
    static const struct meaning {
        const char *word;
        const char *text;
    } meanings[] = {
        {"active", "it follows Postgres and serves all requests"},
        {"waiting", "another instance holds the database's lock, or Postgres can't be "
                    "reached; what it has stored is served"},
        {"starting", "it does not follow Postgres; what it has stored is served"},
    };
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
        if (strcmp(word, meanings[i].word) == 0)
            return meanings[i].text;
    return "";
}

static int ask_health(const char *url, char **env, struct err *err)
{
    struct buf body;
    struct buf path;
    struct health h;
    int status = 0;
    buf_init(&body, HEALTH_MAX);
    buf_init(&path, PATH_MAX_BYTES);
    put_path(&path, env);
    int rc = path.failed ? err_set(err, ERR_LIMIT, "ELECTRIC_SECRET is too long")
                         : fetch_get(url, path.ptr, TIMEOUT_MS, &status, &body, err);
    if (rc == 0 && (!parse_health(&body, &h) || (status != 200 && status != 202)))
        rc = err_set(err, ERR_IO,
                     "%s answers %d and not like a server of this kind: is it the right "
                     "port?",
                     url, status);
    buf_fini(&path);
    buf_fini(&body);
    if (rc)
        return cli_fail(EXIT_UNREACHABLE, err);
    const char *text = meaning(h.word);
    printf("%s is %s%s%s\n", url, h.word, *text ? ": " : "", text);
    if (h.detail[0])
        printf("  why: %s\n", h.detail);
    if (h.lag_ms[0])
        printf("  what it serves was complete %.3f s ago\n",
               strtod(h.lag_ms, NULL) / 1000);
    return strcmp(h.word, "active") == 0 ? CLI_OK : EXIT_NOT_ACTIVE;
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
    if (cli_wants_help(count, args))
        return cli_print_help("status");
    struct err err = {0};
    struct question q;
    if (read_args(&q, count, args, &err) < 0)
        return cli_fail(CLI_USAGE, &err);
    int code = ask_health(q.url, env, &err);
    if (code != EXIT_UNREACHABLE && q.metrics_url) {
        int metrics = ask_metrics(q.metrics_url, &err);
        code = metrics != CLI_OK ? metrics : code;
    }
    return code;
}
