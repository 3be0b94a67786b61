/* How the server's timeline came about.
 *
 * Problem: after a failover or a restored backup the server is on a new timeline. What was
 * read from the old one may be part of the new one's past, or may never have happened
 * there. Approach: the history of the new timeline says where each earlier one ended; the
 * sink compares that with what it has shown. The file's grammar (timelinefile.c of
 * Postgres), a line each:
 *
 *   timeline blank+ hex "/" hex [blank+ reason]      oldest first
 *   "#" anything | blank*
 *
 * It is read strictly: a history that is misread could keep rows that are gone. */
#include <stdlib.h>

#include "server/replica/internal.h"

#define HISTORY_MAX 4096 /* lines; each is a failover */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct slice skip_blanks(struct slice s)
{
    while (s.len > 0 && is_blank(s.ptr[0]))
        s = slice_make(s.ptr + 1, s.len - 1);
    return s;
}

/* Up to eight hexadecimal digits; what follows stays in *s. */
static bool take_hex(struct slice *s, uint32_t *out)
{
    size_t n = 0;
    uint32_t v = 0;

    for (; n < s->len && n < 9; n++) {
        char c = s->ptr[n];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                : 16;

        if (digit == 16)
            break;
        v = v << 4 | digit;
    }
    *s = slice_make(s->ptr + n, s->len - n);
    *out = v;
    return n > 0 && n < 9;
}

static bool take_timeline(struct slice *s, uint32_t *out)
{
    size_t n = 0;
    uint64_t v = 0;

    while (n < s->len && s->ptr[n] >= '0' && s->ptr[n] <= '9')
        n++;
    if (!slice_to_u64(slice_make(s->ptr, n), &v) || v == 0 || v > UINT32_MAX)
        return false;
    *s = slice_make(s->ptr + n, s->len - n);
    *out = (uint32_t)v;
    return true;
}

static bool parse_line(struct slice line, struct replica_switch *out)
{
    uint32_t high;
    uint32_t low;

    if (!take_timeline(&line, &out->timeline) || line.len == 0 || !is_blank(line.ptr[0]))
        return false;
    line = skip_blanks(line);
    if (!take_hex(&line, &high) || line.len == 0 || line.ptr[0] != '/')
        return false;
    line = slice_make(line.ptr + 1, line.len - 1);
    if (!take_hex(&line, &low) || (line.len > 0 && !is_blank(line.ptr[0])))
        return false;
    out->lsn = (uint64_t)high << 32 | low;
    return true;
}

/* Timelines and positions only grow, and end below the one whose history it is. */
static bool follows(const struct replica_switch *list, size_t count,
                    const struct replica_switch *next, uint32_t timeline)
{
    if (next->timeline >= timeline)
        return false;
    return count == 0 || (list[count - 1].timeline < next->timeline &&
                          list[count - 1].lsn <= next->lsn);
}

static struct slice take_line(struct slice *content)
{
    const char *end = memchr(content->ptr, '\n', content->len);
    size_t len = end ? (size_t)(end - content->ptr) : content->len;
    struct slice line = slice_make(content->ptr, len);

    len += end ? 1 : 0;
    *content = slice_make(content->ptr + len, content->len - len);
    return skip_blanks(line);
}

int history_parse(struct slice content, uint32_t timeline, struct replica_switch **out,
                  size_t *count, struct err *err)
{
    size_t lines = 1;
    size_t n = 0;
    struct replica_switch *list;

    *out = NULL;
    *count = 0;
    for (size_t i = 0; i < content.len; i++)
        lines += content.ptr[i] == '\n';
    if (lines > HISTORY_MAX)
        return err_set(err, ERR_LIMIT, "the timeline's history has more than %d lines",
                       HISTORY_MAX);
    list = calloc(lines, sizeof(*list));
    if (!list)
        return err_set(err, ERR_MEMORY, "no memory for the timeline's history");
    while (content.len > 0) {
        struct slice line = take_line(&content);

        if (line.len == 0 || line.ptr[0] == '#')
            continue;
        if (!parse_line(line, &list[n]) || !follows(list, n, &list[n], timeline)) {
            free(list);
            return err_set(err, ERR_CORRUPT,
                           "line %zu of the timeline's history makes no sense", n + 1);
        }
        n++;
    }
    if (n == 0) {
        free(list);
        return err_set(err, ERR_CORRUPT, "the timeline's history is empty");
    }
    *out = list;
    *count = n;
    return 0;
}

static int take_answer(struct replica *r, const PGresult *result, struct err *err)
{
    struct replica_attached *a = &r->attached;

    if (PQntuples(result) != 1 || PQnfields(result) < 2)
        return err_set(err, ERR_CORRUPT, "Postgres sent no history of its timeline");
    return history_parse(
        slice_make(PQgetvalue(result, 0, 1), (size_t)PQgetlength(result, 0, 1)),
        a->timeline, &r->switches, &a->switch_count, err);
}

int history_read(struct replica *r, struct err *err)
{
    struct replica_attached *a = &r->attached;
    PGresult *result = NULL;
    struct err why = {.code = 0};
    int rc;

    free(r->switches);
    r->switches = NULL;
    a->switches = NULL;
    a->switch_count = 0;
    if (a->timeline <= 1)
        return 0;
    rc = link_query(r, "Reading the timeline's history", &result, &why,
                    "TIMELINE_HISTORY %u", a->timeline);
    if (rc == 0)
        rc = take_answer(r, result, &why);
    PQclear(result);
    a->switches = r->switches;
    if (rc == ERR_DB || rc == ERR_CORRUPT || rc == ERR_LIMIT) {
        log_event(r->config.log, LOG_WARNING, "replica.history_unknown",
                  LOG_U64("timeline", a->timeline), LOG_TEXT("reason", why.message));
        return 0;
    }
    if (rc != 0 && err)
        *err = why;
    return rc;
}
