/* From settings to the server's configuration: what each means, and which contradict. */
#include "cli/config.h"

#include <stdio.h>
#include <unistd.h>

#include "server/pg/pg.h"

/* 63 characters of a name in Postgres, less "electric_publication_" and, for the slot,
 * its prefix and a random suffix. */
#define STREAM_ID_MAX      40
#define HTTP_THREADS_LEAST 2
#define HTTP_THREADS_MOST  4

static const struct setting_value *value(const struct settings *s, enum setting_id id)
{
    return &s->values[id];
}

static bool is_on(const struct settings *s, enum setting_id id)
{
    return s->values[id].v.flag;
}

static int check_auth(const struct settings *s, struct err *err)
{
    const struct setting_value *secret = value(s, SETTING_SECRET);
    bool insecure = is_on(s, SETTING_INSECURE);
    if (!secret->text && !insecure)
        return err_set(
            err, ERR_INVALID,
            "ELECTRIC_SECRET: it is not set, so nobody would be let in. Set it "
            "(or --secret), or ELECTRIC_INSECURE=true (--insecure) to serve "
            "everyone who can reach the port");
    if (secret->text && insecure)
        return err_set(err, ERR_INVALID,
                       "%s and %s contradict each other: a secret is required, or it is "
                       "not. Drop one of the two",
                       secret->name, value(s, SETTING_INSECURE)->name);
    return 0;
}

/* Whoever gets past the gatekeeper by the door beside it needs no token. */
static int check_gate(const struct settings *s, struct err *err)
{
    const struct setting_value *insecure = value(s, SETTING_INSECURE);
    const enum setting_id keys[] = {SETTING_AUTH_SECRET, SETTING_AUTH_KEY_FILE,
                                    SETTING_AUTH_JWKS_URL};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (value(s, keys[i])->text && insecure->v.flag)
            return err_set(
                err, ERR_INVALID,
                "%s and %s contradict each other: with the gatekeeper on, /v1/shape must "
                "not be open to everyone. Set ELECTRIC_SECRET (--secret) in place of the "
                "latter",
                value(s, keys[i])->name, insecure->name);
    const struct setting_value *routes = value(s, SETTING_ROUTES_FILE);
    if (routes->text && access(routes->text, R_OK) != 0)
        return err_set(err, ERR_INVALID, "%s: the file %s can't be read", routes->name,
                       routes->text);
    return 0;
}

static int check_slot(const struct settings *s, struct err *err)
{
    const struct setting_value *id = value(s, SETTING_STREAM_ID);
    size_t len = strlen(id->text);
    if (len > STREAM_ID_MAX ||
        strspn(id->text, "abcdefghijklmnopqrstuvwxyz0123456789_") != len)
        return err_set(
            err, ERR_INVALID,
            "%s=%.80s: it becomes part of a slot's name, so it must be 1 to %d "
            "of the characters a-z, 0-9 and _",
            id->name, id->text, STREAM_ID_MAX);
    const struct setting_value *random = value(s, SETTING_TEMPORARY_SLOT_RANDOM_NAME);
    if (random->v.flag && !is_on(s, SETTING_TEMPORARY_SLOT))
        return err_set(err, ERR_INVALID,
                       "%s: it needs a temporary slot. Set "
                       "CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN=true "
                       "(--cleanup-replication-slots-on-shutdown) too, or drop it: a "
                       "permanent slot of another name at each start would fill the disk "
                       "of Postgres",
                       random->name);
    return 0;
}

static int check_storage(const struct settings *s, struct err *err)
{
    const struct setting_value *state = value(s, SETTING_PERSISTENT_STATE);
    bool memory = strcmp(value(s, SETTING_STORAGE)->text, "MEMORY") == 0;
    if (strcmp(state->text, "MEMORY") == 0 && !memory)
        return err_set(err, ERR_INVALID,
                       "%s: MEMORY would forget which slot the shapes on disk belong to. "
                       "Set ELECTRIC_STORAGE=MEMORY (--storage) too, or drop it",
                       state->name);
    return 0;
}

static int check_listen(const struct settings *s, struct err *err)
{
    const struct setting_value *listen = value(s, SETTING_LISTEN);
    const struct setting_value *v6 = value(s, SETTING_LISTEN_ON_IPV6);
    if (v6->v.flag && listen->text && !strchr(listen->text, ':'))
        return err_set(err, ERR_INVALID,
                       "%s and %s contradict each other: %s is not an IPv6 address. Drop "
                       "one of the two",
                       v6->name, listen->name, listen->text);
    const struct setting_value *port = value(s, SETTING_PORT);
    const struct setting_value *metrics = value(s, SETTING_PROMETHEUS_PORT);
    if (metrics->text && metrics->v.number != 0 && metrics->v.number == port->v.number)
        return err_set(err, ERR_INVALID,
                       "%s and %s are both %s: metrics have a port of their own",
                       metrics->name, port->name, port->text);
    return 0;
}

static int check_url(const struct settings *s, enum setting_id id, struct err *err)
{
    const struct setting_value *url = value(s, id);
    struct pg_options options = {.url = url->text,
                                 .ca_file = value(s, SETTING_DATABASE_CA_FILE)->text,
                                 .ipv6 = is_on(s, SETTING_DATABASE_USE_IPV6)};
    struct pg_config *pg;
    int rc = pg_config_new(&options, &pg, err);
    if (rc == 0)
        pg_config_free(pg);
    else if (err)
        err_set(err, rc, "%s: %s", url->name, err->message);
    return rc;
}

static int check_database(const struct settings *s, struct err *err)
{
    const struct setting_value *ca = value(s, SETTING_DATABASE_CA_FILE);
    if (!value(s, SETTING_DATABASE_URL)->text)
        return err_set(err, ERR_INVALID,
                       "DATABASE_URL: it is not set. Set it (or --database-url) to "
                       "postgresql://user:password@host:port/database");
    if (ca->text && access(ca->text, R_OK) != 0)
        return err_set(err, ERR_INVALID,
                       "%s: the file %s can't be read. It must hold certificates in PEM "
                       "form",
                       ca->name, ca->text);
    int rc = check_url(s, SETTING_DATABASE_URL, err);
    if (rc == 0 && value(s, SETTING_POOLED_DATABASE_URL)->text)
        rc = check_url(s, SETTING_POOLED_DATABASE_URL, err);
    return rc;
}

static unsigned http_threads(const struct settings *s)
{
    const struct setting_value *given = value(s, SETTING_HTTP_THREADS);
    if (given->text)
        return (unsigned)given->v.number;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < HTTP_THREADS_LEAST)
        return HTTP_THREADS_LEAST;
    return cores > HTTP_THREADS_MOST ? HTTP_THREADS_MOST : (unsigned)cores;
}

static const char *listen_address(const struct settings *s)
{
    const char *given = value(s, SETTING_LISTEN)->text;
    if (given)
        return given;
    return is_on(s, SETTING_LISTEN_ON_IPV6) ? "::" : "0.0.0.0";
}

static void fill_postgres(const struct settings *s, struct server_config *c)
{
    c->database_url = value(s, SETTING_DATABASE_URL)->text;
    c->pooled_database_url = value(s, SETTING_POOLED_DATABASE_URL)->text;
    c->ca_file = value(s, SETTING_DATABASE_CA_FILE)->text;
    c->ipv6 = is_on(s, SETTING_DATABASE_USE_IPV6);
    c->stream_id = value(s, SETTING_STREAM_ID)->text;
    c->temporary_slot = is_on(s, SETTING_TEMPORARY_SLOT);
    c->temporary_slot_random_name = is_on(s, SETTING_TEMPORARY_SLOT_RANDOM_NAME);
    c->manual_publishing = is_on(s, SETTING_MANUAL_PUBLISHING);
    c->pool_size = (unsigned)value(s, SETTING_DB_POOL_SIZE)->v.number;
    int64_t publication = value(s, SETTING_PUBLICATION_REFRESH_PERIOD)->v.ms;
    int64_t schema = value(s, SETTING_SCHEMA_RECONCILER_PERIOD)->v.ms;
    c->reconcile_period_ms = publication < schema ? publication : schema;
}

static void fill_storage(const struct settings *s, struct server_config *c)
{
    c->storage_dir = value(s, SETTING_STORAGE_DIR)->text;
    c->storage_in_memory = strcmp(value(s, SETTING_STORAGE)->text, "MEMORY") == 0;
    c->chunk_bytes = value(s, SETTING_CHUNK_BYTES)->v.number;
    c->max_shapes = (unsigned)value(s, SETTING_MAX_SHAPES)->v.number;
}

static void fill_http(const struct settings *s, struct server_config *c)
{
    c->listen_address = listen_address(s);
    c->port = (uint16_t)value(s, SETTING_PORT)->v.number;
    c->metrics_enabled = value(s, SETTING_PROMETHEUS_PORT)->text != NULL;
    c->metrics_port = (uint16_t)value(s, SETTING_PROMETHEUS_PORT)->v.number;
    c->http_threads = http_threads(s);
    c->secret = value(s, SETTING_SECRET)->text;
    c->allow_delete = is_on(s, SETTING_INTEGRATION_TESTING);
    c->long_poll_timeout_ms = value(s, SETTING_LONG_POLL_TIMEOUT)->v.ms;
    c->cache_max_age_s = (unsigned)value(s, SETTING_CACHE_MAX_AGE)->v.number;
    c->cache_stale_age_s = (unsigned)value(s, SETTING_CACHE_STALE_AGE)->v.number;
    c->max_initial_requests = value(s, SETTING_MAX_CONCURRENT_REQUESTS)->v.limits.initial;
    c->max_existing_requests =
        value(s, SETTING_MAX_CONCURRENT_REQUESTS)->v.limits.existing;
    c->send_timeout_ms = value(s, SETTING_TCP_SEND_TIMEOUT)->v.ms;
    c->read_timeout_ms = value(s, SETTING_TCP_READ_TIMEOUT)->v.ms;
}

static void fill_gate(const struct settings *s, struct server_config *c)
{
    c->gate = (struct gate_config){
        .secret = value(s, SETTING_AUTH_SECRET)->text,
        .key_file = value(s, SETTING_AUTH_KEY_FILE)->text,
        .jwks_url = value(s, SETTING_AUTH_JWKS_URL)->text,
        .algorithms = value(s, SETTING_AUTH_ALGORITHMS)->text,
        .issuer = value(s, SETTING_AUTH_ISSUER)->text,
        .audience = value(s, SETTING_AUTH_AUDIENCE)->text,
        .subject_claim = value(s, SETTING_AUTH_SUBJECT)->text,
        .skew_ms = value(s, SETTING_AUTH_SKEW)->v.ms,
        .shape_secret = value(s, SETTING_SHAPE_SECRET)->text,
        .shape_lifetime_ms = value(s, SETTING_SHAPE_TOKEN_LIFETIME)->v.ms,
        .function = value(s, SETTING_GATE_FUNCTION)->text,
        .policy_file = value(s, SETTING_GATE_POLICY_FILE)->text,
        .roles = value(s, SETTING_WRITE_ROLES)->text,
        .anonymous_role = value(s, SETTING_ANONYMOUS_ROLE)->text,
        .timeout_ms = value(s, SETTING_GATE_TIMEOUT)->v.ms,
        .rate_per_s = (unsigned)value(s, SETTING_GATE_RATE)->v.number,
    };
    c->gate_pool_size = (unsigned)value(s, SETTING_GATE_POOL_SIZE)->v.number;
    c->public_url = value(s, SETTING_PUBLIC_URL)->text;
}

static void fill_write(const struct settings *s, struct server_config *c)
{
    c->routes_file = value(s, SETTING_ROUTES_FILE)->text;
    c->rpc_schema = value(s, SETTING_RPC_SCHEMA)->text;
    c->write_schemas = value(s, SETTING_WRITE_SCHEMAS)->text;
    c->write_pool_size = (unsigned)value(s, SETTING_WRITE_POOL_SIZE)->v.number;
    c->write_timeout_ms = value(s, SETTING_WRITE_TIMEOUT)->v.ms;
    c->write_max_bytes = value(s, SETTING_WRITE_MAX_BODY)->v.number;
    c->write_max_mutations = value(s, SETTING_WRITE_MAX_MUTATIONS)->v.number;
    c->write_max_queued = value(s, SETTING_WRITE_MAX_QUEUED)->v.number;
    c->write_max_queued_bytes = value(s, SETTING_WRITE_MAX_QUEUED_BYTES)->v.number;
    c->write_keep_ids_ms = value(s, SETTING_WRITE_KEEP_IDS)->v.ms;
}

int config_build(const struct settings *s, struct server_config *out, struct err *err)
{
    *out = (struct server_config){.version = CONFIG_PROTOCOL_VERSION};
    int rc = check_auth(s, err);
    rc = rc ? rc : check_gate(s, err);
    rc = rc ? rc : check_slot(s, err);
    rc = rc ? rc : check_storage(s, err);
    rc = rc ? rc : check_listen(s, err);
    rc = rc ? rc : check_database(s, err);
    if (rc < 0)
        return rc;
    fill_postgres(s, out);
    fill_storage(s, out);
    fill_http(s, out);
    fill_gate(s, out);
    fill_write(s, out);
    return 0;
}
