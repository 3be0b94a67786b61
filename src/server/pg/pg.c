/* Connecting to Postgres, and what its failures mean.
 *
 * Problem: a caller must know whether to try again, and libpq says so only in prose: a
 * failed connection has no SQLSTATE in its interface. Approach: while connecting, error
 * texts are verbose, so that the server's SQLSTATE stands in them ("FATAL:  28P01:
 * password …"), whatever language the server speaks; it is cut out of what people see.
 * One table says what each SQLSTATE means. Failures that libpq itself makes (names,
 * certificates) are told by its untranslated words. Invariant: no text of here holds the
 * password. libpq's messages name host, address, port, user and database only, and
 * config.c refuses URLs whose password would be read as a host. */
#include "server/pg/pg.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "server/pg/config.h"
#include "server/pg/internal.h"

#define DISPLAY(set)                                                                     \
    set " bytea_output = 'hex'; " set " DateStyle = 'ISO, DMY'; " set                    \
        " TimeZone = 'UTC'; " set " extra_float_digits = 1; " set                        \
        " IntervalStyle = 'iso_8601'"

const char *const pg_display_settings = DISPLAY("SET");
const char *const pg_display_settings_local = DISPLAY("SET LOCAL");

/* --- What a failure means --- */

/* The longest matching prefix wins. `running`: a command of an established session
 * failed; `connecting`: the session could not be established. */
static const struct pg_class {
    const char *prefix;
    int running;
    int connecting;
} classes[] = {
    {"", ERR_DB, ERR_RETRY},
    {"08", ERR_RETRY, ERR_RETRY},    /* connection exceptions */
    {"0A", ERR_DB, ERR_FATAL},       /* protocol or feature not supported */
    {"22", ERR_DB, ERR_FATAL},       /* bad value of a startup parameter */
    {"28", ERR_FATAL, ERR_FATAL},    /* password, pg_hba.conf, unknown role */
    {"3D", ERR_FATAL, ERR_FATAL},    /* unknown database */
    {"40001", ERR_RETRY, ERR_RETRY}, /* serialisation failure */
    {"40P01", ERR_RETRY, ERR_RETRY}, /* deadlock */
    {"42", ERR_DB, ERR_FATAL},       /* no CONNECT privilege, unknown parameter */
    {"53", ERR_RETRY, ERR_RETRY},    /* disk, memory or connections used up */
    {"53400", ERR_FATAL, ERR_FATAL}, /* a configured limit: replication slots, WAL senders
                                      */
    {"55000", ERR_DB, ERR_FATAL},    /* database not accepting connections */
    {"55006", ERR_RETRY, ERR_RETRY}, /* object in use: the slot has another reader */
    {"55P03", ERR_RETRY, ERR_RETRY}, /* lock timeout */
    {"57P", ERR_RETRY, ERR_RETRY},   /* starting, stopping, crashed, idle timeout */
    {"57P04", ERR_FATAL, ERR_FATAL}, /* the database was dropped */
};

/* What libpq itself says when only a person can help. */
static const char *const fatal_texts[] = {
    "server does not support SSL",
    "certificate verify failed",
    "does not match host name",
    "root certificate file",
    "no password supplied",
    "Name or service not known",
    "No address associated with hostname",
    "nodename nor servname",
    "authentication method",
    "channel binding required",
};

static const struct pg_class *find_class(const char *sqlstate)
{
    const struct pg_class *best = &classes[0];
    size_t best_len = 0;
    for (size_t i = 1; i < sizeof(classes) / sizeof(classes[0]); i++) {
        size_t len = strlen(classes[i].prefix);
        if (len > best_len && strncmp(sqlstate, classes[i].prefix, len) == 0) {
            best = &classes[i];
            best_len = len;
        }
    }
    return best;
}

int pg_classify(const char *sqlstate)
{
    return find_class(sqlstate)->running;
}

/* Where "XXXXX: " (a SQLSTATE) begins behind a severity's ":  ", or NULL. */
static const char *find_sqlstate(const char *text)
{
    for (const char *p = text; (p = strstr(p, ":  ")); p++) {
        const char *code = p + 3;
        size_t len = strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (len == 5 && code[5] == ':' && code[6] == ' ')
            return code;
    }
    return NULL;
}

/* One line of libpq's text: lines joined by "; ", SQLSTATEs and source locations left
 * out. */
static void tidy(const char *text, char *out, size_t size)
{
    size_t len = 0;
    const char *code = find_sqlstate(text);
    for (const char *p = text; *p && len + 3 < size;) {
        if (p == code) {
            p += 7;
            code = find_sqlstate(p);
            continue;
        }
        if (strncmp(p, "LOCATION:", 9) == 0) {
            p += strcspn(p, "\n");
            continue;
        }
        if (*p != '\n') {
            out[len++] = *p == '\t' ? ' ' : *p;
            p++;
            continue;
        }
        p += strspn(p, "\n\t ");
        if (*p && strncmp(p, "LOCATION:", 9) != 0 && len) {
            out[len++] = ';';
            out[len++] = ' ';
        }
    }
    while (len && (out[len - 1] == ' ' || out[len - 1] == ';'))
        len--;
    out[len] = '\0';
}

static bool any_fatal_text(const char *text)
{
    for (size_t i = 0; i < sizeof(fatal_texts) / sizeof(fatal_texts[0]); i++)
        if (strstr(text, fatal_texts[i]))
            return true;
    return false;
}

/* With several addresses each attempt has left its words; one that may work later
 * decides. */
static int judge_connect(const char *text, char sqlstate[6])
{
    int verdict = any_fatal_text(text) ? ERR_FATAL : 0;
    bool retry = strstr(text, "Connection refused") || strstr(text, "timeout expired");
    for (const char *p = text; (p = find_sqlstate(p)); p += 5) {
        memcpy(sqlstate, p, 5);
        sqlstate[5] = '\0';
        verdict = find_class(sqlstate)->connecting;
        retry = retry || verdict == ERR_RETRY;
    }
    /* A refused first address (::1) says nothing against the answer of the second. */
    if (sqlstate[0])
        return verdict;
    return verdict == ERR_FATAL && !retry ? ERR_FATAL : ERR_RETRY;
}

static int fail_connection(struct err *err, const PGconn *conn, const char *doing)
{
    char text[640];
    char sqlstate[6] = "";
    const char *raw = PQerrorMessage(conn);
    tidy(raw, text, sizeof(text));
    int code = judge_connect(raw, sqlstate);
    err_set(err, code, "%s: %s", doing, *text ? text : "no reason given");
    if (err)
        memcpy(err->sqlstate, sqlstate, sizeof(sqlstate));
    return code;
}

int pg_fail_connect(struct err *err, const PGconn *conn)
{
    int code = fail_connection(err, conn, "Postgres can't be reached");
    pg_add_cure(err, conn);
    return code;
}

int pg_fail(struct err *err, PGconn *conn, const PGresult *result, const char *doing)
{
    if (!result && PQstatus(conn) == CONNECTION_BAD)
        return fail_connection(err, conn, doing);
    const char *sqlstate = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *primary =
        result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    char text[512];
    tidy(primary ? primary : PQerrorMessage(conn), text, sizeof(text));
    int code = sqlstate ? pg_classify(sqlstate) : ERR_DB;
    if (code != ERR_FATAL && PQstatus(conn) == CONNECTION_BAD)
        code = ERR_RETRY;
    err_set(err, code, "%s: %s", doing, *text ? text : "no reason given");
    if (err && sqlstate && strlen(sqlstate) == 5)
        memcpy(err->sqlstate, sqlstate, 6);
    return code;
}

/* --- Connecting --- */

struct params {
    const char *keywords[PG_CONFIG_MAX + 4];
    const char *values[PG_CONFIG_MAX + 4];
    size_t count;
    struct buf hosts; /* what the lists below stand in, when IPv6 goes first */
    struct buf addresses;
};

static void set_param(struct params *p, const char *keyword, const char *value)
{
    size_t i = 0;
    while (i < p->count && strcmp(p->keywords[i], keyword) != 0)
        i++;
    p->keywords[i] = keyword;
    p->values[i] = value;
    if (i == p->count)
        p->count++;
}

static void put_addresses(struct params *p, const struct addrinfo *list, int family,
                          const char *host)
{
    for (const struct addrinfo *a = list; a; a = a->ai_next) {
        char text[NI_MAXHOST];
        if (a->ai_family != family || getnameinfo(a->ai_addr, a->ai_addrlen, text,
                                                  sizeof(text), NULL, 0, NI_NUMERICHOST))
            continue;
        if (p->addresses.len) {
            buf_putc(&p->addresses, ',');
            buf_putc(&p->hosts, ',');
        }
        buf_puts(&p->addresses, text);
        buf_puts(&p->hosts, host);
    }
}

/* Names each address of the host, IPv6 ones first. When that fails, libpq tries and
 * tells. */
static void prefer_ipv6(struct params *p, const struct pg_config *config)
{
    const char *host = pg_config_value(config, "host");
    if (!config->ipv6 || !host || *host == '/' || strchr(host, ',') ||
        pg_config_value(config, "hostaddr"))
        return;
    struct addrinfo *list = NULL;
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    if (getaddrinfo(host, NULL, &hints, &list) != 0)
        return;
    put_addresses(p, list, AF_INET6, host);
    put_addresses(p, list, AF_INET, host);
    freeaddrinfo(list);
    buf_putc(&p->hosts, '\0');
    buf_putc(&p->addresses, '\0');
    if (p->hosts.failed || p->addresses.failed || p->addresses.len == 1)
        return;
    set_param(p, "host", p->hosts.ptr);
    set_param(p, "hostaddr", p->addresses.ptr);
}

/* Notices may quote rows, and libpq would print them on stderr. */
static void drop_notice(void *ctx, const PGresult *result)
{
    (void)ctx;
    (void)result;
}

int pg_connect_start(const struct pg_config *config, enum pg_kind kind, PGconn **out,
                     struct err *err)
{
    struct params p = {.count = 0};
    buf_init(&p.hosts, 65536);
    buf_init(&p.addresses, 65536);
    *out = NULL;
    for (size_t i = 0; i < config->count; i++)
        set_param(&p, config->params[i].keyword, config->params[i].value);
    if (kind == PG_REPLICATION)
        set_param(&p, "replication", "database");
    prefer_ipv6(&p, config);
    PGconn *conn = PQconnectStartParams(p.keywords, p.values, 0);
    buf_fini(&p.hosts);
    buf_fini(&p.addresses);
    if (!conn)
        return err_set(err, ERR_MEMORY, "No memory for a database connection");
    PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(conn, drop_notice, NULL);
    if (PQstatus(conn) == CONNECTION_BAD) {
        int rc = pg_fail_connect(err, conn);
        PQfinish(conn);
        return rc;
    }
    *out = conn;
    return 0;
}

void pg_connected(PGconn *conn)
{
    PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
}

/* Waits until the socket is ready for what libpq wants. */
static int wait_socket(PGconn *conn, PostgresPollingStatusType wants, int64_t until_ms,
                       int cancel_fd, struct err *err)
{
    for (;;) {
        int64_t left = until_ms - clock_mono_ms();
        if (left <= 0)
            return err_set(err, ERR_RETRY,
                           "Postgres can't be reached: no answer within the time limit");
        short events = wants == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        struct pollfd fds[2] = {{.fd = PQsocket(conn), .events = events},
                                {.fd = cancel_fd, .events = POLLIN}};
        int n = poll(fds, 2, left > 60000 ? 60000 : (int)left);
        if (n < 0 && errno != EINTR)
            return err_errno(err, ERR_RETRY, errno, "Waiting for Postgres failed");
        if (n > 0 && fds[1].revents)
            return err_set(err, ERR_CANCELLED, "Connecting to Postgres was cancelled");
        if (n > 0 && fds[0].revents)
            return 0;
    }
}

static int finish_connect(PGconn *conn, int64_t until_ms, int cancel_fd, struct err *err)
{
    PostgresPollingStatusType wants = PGRES_POLLING_WRITING;
    while (wants != PGRES_POLLING_OK) {
        int rc = wait_socket(conn, wants, until_ms, cancel_fd, err);
        if (rc)
            return rc;
        wants = PQconnectPoll(conn);
        if (wants == PGRES_POLLING_FAILED)
            return pg_fail_connect(err, conn);
    }
    pg_connected(conn);
    return 0;
}

int pg_connect(const struct pg_config *config, enum pg_kind kind, int timeout_ms,
               int cancel_fd, PGconn **out, struct err *err)
{
    *out = NULL;
    PGconn *conn = NULL;
    int64_t until_ms = clock_mono_ms() + timeout_ms;
    int rc = pg_connect_start(config, kind, &conn, err);
    if (rc)
        return rc;
    rc = finish_connect(conn, until_ms, cancel_fd, err);
    if (!rc && kind == PG_REPLICATION)
        rc = pg_exec(conn, pg_display_settings, NULL, err);
    if (rc) {
        PQfinish(conn);
        return rc;
    }
    *out = conn;
    return 0;
}

/* --- Commands --- */

int pg_exec(PGconn *conn, const char *sql, PGresult **out, struct err *err)
{
    char doing[64];
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ||
        status == PGRES_COPY_BOTH || status == PGRES_EMPTY_QUERY) {
        if (out)
            *out = result;
        else
            PQclear(result);
        return 0;
    }
    if (out)
        *out = NULL;
    snprintf(doing, sizeof(doing), "%s", sql);
    int rc = pg_fail(err, conn, result, doing);
    PQclear(result);
    return rc;
}

void pg_put_ident(struct buf *out, const char *name)
{
    buf_putc(out, '"');
    for (size_t n = strcspn(name, "\""); name[n]; n = strcspn(name, "\"")) {
        buf_put(out, name, n);
        buf_puts(out, "\"\"");
        name += n + 1;
    }
    buf_puts(out, name);
    buf_putc(out, '"');
}
