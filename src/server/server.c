/* Wiring. Follow a row: replica.frame → txn_feed → the sequencer (apply.c) → shapelog,
 * then shape_notify → the HTTP loops that wait. */
#include "server/server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/replica/replica.h"
#include "server/shape/sequencer.h"

#define ADMIN_CONNECTIONS    4
#define CONNECT_TIMEOUT_MS   5000
#define LOCK_TIMEOUT_MS      5000
#define FIRST_ROW_TIMEOUT_MS 30000
#define SUBSET_WAIT_MS       60000
#define OPEN_FILES_KEPT      4096
#define JOBS_QUEUED_MAX      100000
#define SSE_TIMEOUT_MS       60000
#define SSE_KEEPALIVE_MS     21000
#define READY_TIMEOUT_MS     5000
#define HTTP_STOP_MS         600
#define ROUTES_MAX_BYTES     (1024u * 1024)

struct server {
    struct server_config config;
    struct obs obs;
    struct pg_config *pg;        /* the direct connection */
    struct pg_config *pg_pooled; /* everything but replication */
    struct pool *admin_pool;
    struct pool *snapshot_pool;
    struct catalog *catalog;
    struct sequencer *sequencer;
    struct txn *txn;
    struct replica *replica;
    struct http *http;
    struct gate *gate; /* NULL: off; likewise */
    struct pool *gate_pool;
    struct writer *writer;
    struct routes *routes;
    char slot[80];
    char publication[80];
    char memory_dir[64]; /* "" unless storage_in_memory */
};

/* --- replica's events --- */

static int on_attached(void *ctx, const struct replica_attached *a, struct err *err)
{
    struct server *s = ctx;
    txn_reset(s->txn);
    struct sequencer_switch *switches = calloc(a->switch_count + 1, sizeof *switches);
    if (switches == NULL)
        return err_set(err, ERR_MEMORY, "no memory for the timeline's history");
    for (size_t i = 0; i < a->switch_count; i++)
        switches[i] =
            (struct sequencer_switch){a->switches[i].timeline, a->switches[i].lsn};
    struct sequencer_attach attach = {
        .system_id = a->system_id,
        .timeline = a->timeline,
        .switches = switches,
        .switch_count = a->switch_count,
        .slot_created = a->slot_created,
        .slot_idle = a->slot_idle,
        .confirmed_lsn = a->confirmed_lsn,
        .wal_flush_lsn = a->wal_flush_lsn,
        .wal_insert_lsn = a->wal_insert_lsn,
        .clock_ahead_us = a->clock_ahead_us,
    };
    int rc = sequencer_attached(s->sequencer, &attach, err);
    free(switches);
    return rc;
}

static int on_frame(void *ctx, struct slice payload, struct err *err)
{
    struct server *s = ctx;
    return txn_feed(s->txn, payload, err);
}

static void on_wal_end(void *ctx, uint64_t lsn)
{
    struct server *s = ctx;
    sequencer_wal_end(s->sequencer, lsn);
}

static int on_drained(void *ctx, struct err *err)
{
    struct server *s = ctx;
    return sequencer_drained(s->sequencer, err);
}

static int on_woken(void *ctx, struct err *err)
{
    struct server *s = ctx;
    return sequencer_woken(s->sequencer, err);
}

static int64_t on_deadline(void *ctx)
{
    struct server *s = ctx;
    return sequencer_deadline_ms(s->sequencer);
}

static uint64_t on_flushed(void *ctx)
{
    struct server *s = ctx;
    return sequencer_flushed_lsn(s->sequencer);
}

static void on_lost(void *ctx, enum obs_stream_reason reason, const struct err *err)
{
    struct server *s = ctx;
    (void)reason;
    txn_reset(s->txn);
    sequencer_lost(s->sequencer, err->message);
}

static void on_state(void *ctx, enum replica_state state, const char *detail)
{
    struct server *s = ctx;
    if (state == REPLICA_WAITING || state == REPLICA_PREPARING)
        sequencer_reached(s->sequencer);
    switch (state) {
    case REPLICA_STREAMING:
        sequencer_streaming(s->sequencer);
        break;
    case REPLICA_WAITING:
        sequencer_waiting(s->sequencer, SHAPES_WAITING, detail);
        break;
    case REPLICA_CONNECTING:
    case REPLICA_PREPARING:
    case REPLICA_STOPPED:
        sequencer_waiting(s->sequencer, SHAPES_STARTING, detail);
        break;
    }
}

/* --- What the sequencer asks of it --- */

static void ask_report(void *ctx)
{
    struct server *s = ctx;
    replica_report_soon(s->replica);
}

static void ask_reconnect(void *ctx)
{
    struct server *s = ctx;
    replica_reconnect(s->replica);
}

static void ask_stop(void *ctx)
{
    struct server *s = ctx;
    replica_stop(s->replica);
}

/* --- Making the parts --- */

static int make_names(struct server *s, struct err *err)
{
    const struct server_config *c = &s->config;
    char suffix[32] = "";
    if (c->temporary_slot && c->temporary_slot_random_name) {
        uint64_t random = 0;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
            return err_set(err, ERR_IO, "no random bytes for the slot's name");
        snprintf(suffix, sizeof suffix, "_%08" PRIx64, random & UINT32_MAX);
    }
    int slot =
        snprintf(s->slot, sizeof s->slot, "electric_slot_%s%s", c->stream_id, suffix);
    snprintf(s->publication, sizeof s->publication, "electric_publication_%s",
             c->stream_id);
    if (slot > 63)
        return err_set(
            err, ERR_INVALID,
            "the replication stream id \"%s\" is too long: the slot's name may have "
            "63 characters",
            c->stream_id);
    return 0;
}

/* Two at least, where there are three in all: a look at the catalog that takes its time
 * must not be in the way of a request's question. */
static unsigned admin_connections(unsigned pool_size)
{
    if (pool_size > ADMIN_CONNECTIONS * 2)
        return ADMIN_CONNECTIONS;
    return pool_size > 2 ? 2 : 1;
}

static int make_postgres(struct server *s, struct err *err)
{
    const struct server_config *c = &s->config;
    struct pg_options direct = {c->database_url, c->ca_file, c->ipv6};
    int rc = pg_config_new(&direct, &s->pg, err);
    struct pg_options pooled = direct;
    if (c->pooled_database_url != NULL)
        pooled.url = c->pooled_database_url;
    if (rc == 0)
        rc = pg_config_new(&pooled, &s->pg_pooled, err);
    if (rc < 0)
        return rc;
    unsigned admin = admin_connections(c->pool_size);
    struct pool_config pool = {
        .pg = s->pg_pooled,
        .log = c->log,
        .name = "admin",
        .max_connections = admin,
        .max_queued = JOBS_QUEUED_MAX,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
    };
    rc = pool_new(&pool, &s->admin_pool, err);
    if (rc < 0)
        return rc;
    pool.name = "snapshot";
    pool.max_connections = c->pool_size > admin ? c->pool_size - admin : 1;
    pool.max_aside = (pool.max_connections + 1) / 2; /* the rest is for new shapes */
    rc = pool_new(&pool, &s->snapshot_pool, err);
    if (rc == 0 && (rc = catalog_new(s->admin_pool, &s->catalog)) < 0)
        err_set(err, rc, "no memory for the catalog's cache");
    return rc;
}

static int make_memory_dir(struct server *s, struct err *err)
{
    snprintf(s->memory_dir, sizeof s->memory_dir, "%s/coulomb-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(s->memory_dir) == NULL) {
        s->memory_dir[0] = '\0';
        return err_set(err, ERR_IO, "no folder could be made for the storage in memory");
    }
    return 0;
}

static int make_sequencer(struct server *s, struct err *err)
{
    const struct server_config *c = &s->config;
    if (c->storage_in_memory) {
        int rc = make_memory_dir(s, err);
        if (rc < 0)
            return rc;
    }
    struct sequencer_config config = {
        .log = c->log,
        .obs = &s->obs,
        .admin_pool = s->admin_pool,
        .snapshot_pool = s->snapshot_pool,
        .catalog = s->catalog,
        .publication = {.name = s->publication,
                        .manual = c->manual_publishing,
                        .lock_timeout_ms = LOCK_TIMEOUT_MS},
        .shapelog = {.dir = c->storage_in_memory ? s->memory_dir : c->storage_dir,
                     .chunk_bytes = c->chunk_bytes,
                     .max_open_files = OPEN_FILES_KEPT,
                     .log = c->log,
                     .obs = &s->obs},
        .slot = s->slot,
        .database = pg_config_database(s->pg),
        .max_shapes = c->max_shapes,
        .reconcile_period_ms = (int)c->reconcile_period_ms,
        .first_row_timeout_ms = FIRST_ROW_TIMEOUT_MS,
    };
    int rc = sequencer_new(&config, &s->sequencer, err);
    if (rc < 0)
        return rc;
    struct sequencer_stream stream = {s, ask_report, ask_reconnect, ask_stop};
    sequencer_set_stream(s->sequencer, &stream);
    struct txn_sink sink = sequencer_txn_sink(s->sequencer);
    s->txn = txn_new(&sink);
    return s->txn != NULL ? 0 : err_set(err, ERR_MEMORY, "no memory for the stream");
}

static int make_replica(struct server *s, struct err *err)
{
    struct replica_config config = {
        .pg = s->pg,
        .log = s->config.log,
        .obs = &s->obs,
        .slot = s->slot,
        .publication = s->publication,
        .temporary_slot = s->config.temporary_slot,
        .manual_publishing = s->config.manual_publishing,
        .wake_fd = sequencer_wake_fd(s->sequencer),
    };
    struct replica_sink sink = {
        .ctx = s,
        .attached = on_attached,
        .frame = on_frame,
        .wal_end = on_wal_end,
        .drained = on_drained,
        .woken = on_woken,
        .wake_deadline_ms = on_deadline,
        .flushed_lsn = on_flushed,
        .lost = on_lost,
        .state = on_state,
    };
    s->replica = replica_new(&config, &sink);
    return s->replica != NULL ? 0 : err_set(err, ERR_MEMORY, "no memory for the stream");
}

static bool can_write(const struct server_config *c)
{
    return c->gate.roles != NULL || c->gate.anonymous_role != NULL;
}

static int make_routes(struct server *s, struct err *err)
{
    const struct server_config *c = &s->config;
    struct err why = {0};
    char *text;
    size_t len;
    if (c->routes_file == NULL)
        return 0;
    int rc = gate_read_file(c->routes_file, ROUTES_MAX_BYTES, &text, &len, err);
    if (rc < 0)
        return rc;
    rc = routes_new(slice_make(text, len), c->gate.anonymous_role != NULL, &s->routes,
                    &why);
    free(text);
    return rc == 0 ? 0 : err_set(err, rc, "COULOMB_ROUTES_FILE: %s", why.message);
}

static int make_writer(struct server *s, struct err *err)
{
    const struct server_config *c = &s->config;
    struct writer_config config = {
        .pg = s->pg,
        .log = c->log,
        .obs = &s->obs,
        .connections = c->write_pool_size,
        .max_queued = c->write_max_queued,
        .max_queued_bytes = c->write_max_queued_bytes,
        .timeout_ms = c->write_timeout_ms,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .schemas = c->write_schemas,
        .keep_ids_ms = c->write_keep_ids_ms,
    };
    return can_write(c) ? writer_new(&config, &s->writer, err) : 0;
}

static int make_gate(struct server *s, struct err *err)
{
    const struct server_config *c = &s->config;
    struct gate_config config = c->gate;
    config.log = c->log;
    if (!gate_is_on(&config) && !can_write(c) && c->routes_file == NULL)
        return 0;
    int rc = gate_new(&config, &s->gate, err);
    struct pool_config pool = {
        .pg = s->pg_pooled,
        .log = c->log,
        .name = "gate",
        .max_connections = c->gate_pool_size,
        .max_queued = JOBS_QUEUED_MAX,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
    };
    rc = rc < 0 ? rc : pool_new(&pool, &s->gate_pool, err);
    rc = rc < 0 ? rc : make_routes(s, err);
    return rc < 0 ? rc : make_writer(s, err);
}

static int make_http(struct server *s, struct err *err)
{
    const struct server_config *c = &s->config;
    if (c->extra != NULL)
        c->extra->pool = s->admin_pool;
    struct http_config config = {
        .log = c->log,
        .obs = &s->obs,
        .shapes = sequencer_shapes(s->sequencer),
        .catalog = s->catalog,
        .snapshot_pool = s->snapshot_pool,
        .first_row_timeout_ms = FIRST_ROW_TIMEOUT_MS,
        .subset_wait_ms = SUBSET_WAIT_MS,
        .listen_address = c->listen_address,
        .port = c->port,
        .metrics_port = c->metrics_port,
        .metrics_enabled = c->metrics_enabled,
        .threads = c->http_threads,
        .secret = c->secret,
        .allow_delete = c->allow_delete,
        .long_poll_timeout_ms = c->long_poll_timeout_ms,
        .sse_timeout_ms = SSE_TIMEOUT_MS,
        .sse_keepalive_ms = SSE_KEEPALIVE_MS,
        .ready_timeout_ms = READY_TIMEOUT_MS,
        .cache_max_age_s = c->cache_max_age_s,
        .cache_stale_age_s = c->cache_stale_age_s,
        .max_initial_requests = c->max_initial_requests,
        .max_existing_requests = c->max_existing_requests,
        .send_timeout_ms = c->send_timeout_ms,
        .read_timeout_ms = c->read_timeout_ms,
        .version = c->version,
        .gate = s->gate,
        .gate_pool = s->gate_pool,
        .writer = s->writer,
        .routes = s->routes,
        .rpc_schema = c->rpc_schema,
        .public_url = c->public_url,
        .gate_issues = gate_is_on(&c->gate),
        .write_max_bytes = c->write_max_bytes,
        .write_max_mutations = c->write_max_mutations,
        .extra = c->extra,
    };
    return http_start(&config, &s->http, err);
}

int server_new(const struct server_config *config, struct server **out, struct err *err)
{
    *out = NULL;
    struct server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_MEMORY, "no memory for the server");
    s->config = *config;
    obs_init(&s->obs);
    int rc = make_names(s, err);
    rc = rc < 0 ? rc : make_postgres(s, err);
    rc = rc < 0 ? rc : make_sequencer(s, err);
    rc = rc < 0 ? rc : make_replica(s, err);
    rc = rc < 0 ? rc : make_gate(s, err);
    rc = rc < 0 ? rc : make_http(s, err);
    if (rc < 0) {
        server_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

uint16_t server_port(const struct server *s)
{
    return http_port(s->http);
}

int server_run(struct server *s, struct err *err)
{
    int rc = replica_run(s->replica, err);
    sequencer_finish(s->sequencer);
    return rc;
}

void server_stop(struct server *s)
{
    /* Clients first: what they wait for is answered while the stream still stands. */
    http_stop(s->http, HTTP_STOP_MS);
    sequencer_request_stop(s->sequencer);
}

static void remove_memory_dir(struct server *s)
{
    if (s->memory_dir[0] == '\0')
        return;
    struct err err = {0};
    if (shapelog_destroy(s->memory_dir, &err) < 0)
        log_event(s->config.log, LOG_WARNING, "storage.not_removed",
                  LOG_TEXT("dir", s->memory_dir), LOG_TEXT("reason", err.message));
}

void server_free(struct server *s)
{
    if (s == NULL)
        return;
    if (s->sequencer != NULL)
        sequencer_finish(s->sequencer);
    if (s->http != NULL)
        http_stop(s->http, 0);
    writer_free(s->writer); /* its jobs, and those of pools, call back into the loops */
    pool_free(s->gate_pool);
    pool_free(s->snapshot_pool);
    pool_free(s->admin_pool);
    http_free(s->http);
    routes_free(s->routes);
    gate_free(s->gate);
    replica_free(s->replica);
    txn_free(s->txn);
    sequencer_free(s->sequencer);
    catalog_free(s->catalog);
    remove_memory_dir(s);
    pg_config_free(s->pg_pooled);
    pg_config_free(s->pg);
    free(s);
}
