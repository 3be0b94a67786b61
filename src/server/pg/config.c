/* The connection string: checked, completed, and told without its password.
 *
 * Problem: libpq parses URLs well, but its complaints quote the URL, password and all,
 * and a password with a raw '@' or '/' silently ends up in the host's name, from where it
 * reaches later messages ("could not translate host name …"). Approach: the shape of the
 * URL is checked here first, in words that quote nothing of it but the name of an option;
 * then libpq parses it, and its message is dropped. Rejected: a parser of our own, which
 * would have to follow libpq's many forms (several hosts, sockets, options). */
#include "server/pg/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"

#define URL_MAX_BYTES      8192
#define DESCRIBE_MAX_BYTES 4096

static const char *const ssl_modes[] = {"disable", "allow", "prefer", "require"};

static int refuse(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "The database URL %s", what);
}

/* The part behind "postgres://", or NULL. */
static const char *behind_scheme(const char *url)
{
    static const char *const schemes[] = {"postgresql://", "postgres://"};
    for (size_t i = 0; i < 2; i++) {
        size_t len = strlen(schemes[i]);
        if (strncmp(url, schemes[i], len) == 0)
            return url + len;
    }
    return NULL;
}

static bool percents_valid(const char *p)
{
    for (; (p = strchr(p, '%')); p += 3) {
        if (!isxdigit((unsigned char)p[1]) || !isxdigit((unsigned char)p[2]))
            return false;
        if (p[1] == '0' && p[2] == '0')
            return false;
    }
    return true;
}

static int check_shape(const char *url, struct err *err)
{
    if (strlen(url) > URL_MAX_BYTES)
        return refuse(err, "is longer than 8192 bytes");
    const char *rest = behind_scheme(url);
    if (!rest)
        return refuse(err, "must begin with postgresql:// or postgres://");
    for (const char *p = rest; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f)
            return refuse(err, "holds a blank or a control character: write it as %20 or "
                               "the like");
    if (!percents_valid(rest))
        return refuse(err,
                      "holds a '%' that is not followed by two hexadecimal digits of a "
                      "character other than NUL: write a percent sign as %25");
    const char *at = strchr(rest, '@');
    const char *slash = strchr(rest, '/');
    if (at && ((slash && slash < at) || strchr(at + 1, '@')))
        return refuse(err, "holds an '@' or '/' that is part of the user, password or an "
                           "option: write them as %40 and %2F");
    return 0;
}

/* The options behind '?' must be known to libpq; `replication` is ours to set. */
static int check_options(const char *url, PQconninfoOption *known, struct err *err)
{
    const char *at = strchr(url, '@');
    const char *p = strchr(at ? at : url, '?');
    while (p && *p) {
        p++;
        size_t len = strcspn(p, "&");
        size_t name_len = strcspn(p, "=&");
        if (name_len == len || name_len == 0)
            return refuse(err, "has an option without a name or a value behind the '?'");
        struct slice name = slice_make(p, name_len);
        if (slice_eq(name, SLICE_LIT("replication")))
            return refuse(err, "must not have the option \"replication\"");
        /* libpq takes this spelling from JDBC. */
        bool found = slice_eq(name, SLICE_LIT("ssl"));
        for (PQconninfoOption *o = known; o->keyword && !found; o++)
            found = slice_eq(name, slice_of(o->keyword));
        if (!found && name_len <= 63)
            return err_set(err, ERR_INVALID,
                           "The database URL has the unknown option \"%.*s\"",
                           (int)name_len, p);
        if (!found)
            return refuse(err, "has an unknown option");
        p += len;
    }
    return 0;
}

static const char *option_value(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *o = options; o->keyword; o++)
        if (strcmp(o->keyword, keyword) == 0)
            return o->val && *o->val ? o->val : NULL;
    return NULL;
}

static int check_ssl(const struct pg_options *options, const char *mode, struct err *err)
{
    bool known = false;
    for (size_t i = 0; i < sizeof(ssl_modes) / sizeof(ssl_modes[0]); i++)
        known = known || (mode && strcmp(mode, ssl_modes[i]) == 0);
    if (mode && strncmp(mode, "verify-", 7) == 0)
        return refuse(err,
                      "has an sslmode of the verify kind, which is not supported: use "
                      "require together with a CA certificate file");
    if (mode && !known)
        return refuse(err,
                      "has an unknown sslmode: use disable, allow, prefer or require");
    if (!options->ca_file)
        return 0;
    if (mode && strcmp(mode, "disable") == 0)
        return refuse(err,
                      "has sslmode=disable although a CA certificate file is set: drop "
                      "one of the two");
    if (access(options->ca_file, R_OK) != 0)
        return err_errno(err, ERR_INVALID, errno,
                         "The CA certificate file %s can't be read", options->ca_file);
    return 0;
}

/* One port, or one per host. */
static bool ports_valid(const char *ports)
{
    for (const char *p = ports; p;) {
        size_t len = strcspn(p, ",");
        uint64_t port = 0;
        if (len &&
            (!slice_to_u64(slice_make(p, len), &port) || port == 0 || port > 65535))
            return false;
        p = p[len] ? p + len + 1 : NULL;
    }
    return true;
}

static int check_values(const struct pg_options *options, const PQconninfoOption *parsed,
                        struct err *err)
{
    if (!option_value(parsed, "user"))
        return refuse(err, "names no user");
    if (!ports_valid(option_value(parsed, "port")))
        return refuse(err, "has a port that is not a number from 1 to 65535");
    if (option_value(parsed, "service"))
        return refuse(err, "must not name a service: write out the connection");
    return check_ssl(options, option_value(parsed, "sslmode"), err);
}

static int add(struct pg_config *c, const char *keyword, const char *value)
{
    if (!value)
        return 0;
    if (c->count == PG_CONFIG_MAX)
        return ERR_LIMIT;
    char *k = slice_dup(slice_of(keyword));
    char *v = slice_dup(slice_of(value));
    if (!k || !v) {
        free(k);
        free(v);
        return ERR_MEMORY;
    }
    c->params[c->count++] = (struct pg_param){k, v};
    return 0;
}

static const char *ssl_mode(const struct pg_options *options, const char *asked)
{
    /* A weaker mode would fall back to a plain connection when the verification fails. */
    if (options->ca_file)
        return "verify-full";
    return asked ? asked : "prefer";
}

/* The URL's own values, then what Coulomb adds where the URL says nothing. */
static int complete(struct pg_config *c, const struct pg_options *options,
                    const PQconninfoOption *parsed)
{
    static const char *const ours[] = {"sslmode", "sslrootcert", "client_encoding",
                                       "dbname"};
    static const struct pg_default {
        const char *keyword;
        const char *value;
    } defaults[] = {
        {"application_name", "coulomb"},
        {"keepalives", "1"},
        {"keepalives_idle", "30"},
        {"keepalives_interval", "10"},
        {"keepalives_count", "3"},
        {"tcp_user_timeout", "60000"},
        /* Else each connection first looks for Kerberos credentials, by a library that crashes
         * when memory is short. */
        {"gssencmode", "disable"}};
    int rc = 0;
    for (const PQconninfoOption *o = parsed; o->keyword && !rc; o++) {
        bool skip = false;
        for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
            skip = skip || strcmp(o->keyword, ours[i]) == 0;
        if (!skip && o->val && *o->val)
            rc = add(c, o->keyword, o->val);
    }
    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]) && !rc; i++)
        if (!option_value(parsed, defaults[i].keyword))
            rc = add(c, defaults[i].keyword, defaults[i].value);
    const char *database = option_value(parsed, "dbname");
    rc = rc ? rc : add(c, "dbname", database ? database : option_value(parsed, "user"));
    rc = rc ? rc : add(c, "client_encoding", "UTF8");
    rc = rc ? rc : add(c, "sslmode", ssl_mode(options, option_value(parsed, "sslmode")));
    const char *ca =
        options->ca_file ? options->ca_file : option_value(parsed, "sslrootcert");
    return rc ? rc : add(c, "sslrootcert", ca);
}

const char *pg_config_value(const struct pg_config *config, const char *keyword)
{
    for (size_t i = 0; i < config->count; i++)
        if (strcmp(config->params[i].keyword, keyword) == 0)
            return config->params[i].value;
    return NULL;
}

static int describe(struct pg_config *c)
{
    const char *host = pg_config_value(c, "host");
    const char *port = pg_config_value(c, "port");
    host = host ? host : pg_config_value(c, "hostaddr");
    struct buf text;
    buf_init(&text, DESCRIBE_MAX_BYTES);
    buf_puts(&text, pg_config_value(c, "user"));
    buf_putc(&text, '@');
    buf_puts(&text, host ? host : "local");
    buf_putc(&text, ':');
    buf_puts(&text, port ? port : "5432");
    buf_putc(&text, '/');
    buf_puts(&text, pg_config_value(c, "dbname"));
    int rc = text.failed;
    c->description = buf_take(&text, NULL);
    buf_fini(&text);
    return rc;
}

static int build(const struct pg_options *options, const PQconninfoOption *parsed,
                 struct pg_config **out, struct err *err)
{
    struct pg_config *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ERR_MEMORY, "No memory for the database configuration");
    c->ipv6 = options->ipv6;
    int rc = complete(c, options, parsed);
    rc = rc ? rc : describe(c);
    if (rc) {
        pg_config_free(c);
        return err_set(err, rc,
                       rc == ERR_MEMORY ? "No memory for the database configuration"
                                        : "The database URL is too long");
    }
    *out = c;
    return 0;
}

int pg_config_new(const struct pg_options *options, struct pg_config **out,
                  struct err *err)
{
    *out = NULL;
    int rc = check_shape(options->url, err);
    if (rc)
        return rc;
    PQconninfoOption *parsed = NULL;
    /* PQconndefaults looks up the user, in which glibc crashes when memory is short. */
    PQconninfoOption *known = PQconninfoParse("", NULL);
    if (!known)
        return err_set(err, ERR_MEMORY, "No memory to read the database URL");
    rc = check_options(options->url, known, err);
    if (rc)
        goto out;
    char *complaint = NULL; /* quotes the URL: never shown */
    parsed = PQconninfoParse(options->url, &complaint);
    bool no_memory = !complaint || strstr(complaint, "out of memory");
    PQfreemem(complaint);
    if (!parsed && no_memory) {
        rc = err_set(err, ERR_MEMORY, "No memory to read the database URL");
        goto out;
    }
    if (!parsed) {
        rc = refuse(err, "is malformed: it reads "
                         "postgresql://user:password@host:port/database?sslmode=require");
        goto out;
    }
    rc = check_values(options, parsed, err);
    rc = rc ? rc : build(options, parsed, out, err);
out:
    PQconninfoFree(parsed);
    PQconninfoFree(known);
    return rc;
}

void pg_config_free(struct pg_config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->count; i++) {
        free(config->params[i].keyword);
        explicit_bzero(config->params[i].value, strlen(config->params[i].value));
        free(config->params[i].value);
    }
    free(config->description);
    free(config);
}

const char *pg_config_describe(const struct pg_config *config)
{
    return config->description;
}

const char *pg_config_database(const struct pg_config *config)
{
    return pg_config_value(config, "dbname");
}
