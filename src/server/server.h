/* The server's wiring: which stage hands what to which. The only file that knows them all
 * is server.c. */
#ifndef COULOMB_SERVER_SERVER_H
#define COULOMB_SERVER_SERVER_H

#include "base/err.h"
#include "base/log.h"
#include "server/http/http.h"

struct server_config {
    const struct log *log;
    const char *version;

    /* Postgres */
    const char *database_url;
    const char *pooled_database_url; /* NULL: the same */
    const char *ca_file;             /* NULL: none */
    bool ipv6;
    const char *stream_id; /* suffix of slot and publication */
    bool temporary_slot;
    bool temporary_slot_random_name;
    bool manual_publishing;
    unsigned pool_size; /* connections besides the replication one */

    /* Storage */
    const char *storage_dir;
    bool storage_in_memory; /* a folder of its own that goes with the process */
    uint64_t chunk_bytes;
    unsigned max_shapes; /* 0: no limit */
    int64_t reconcile_period_ms;

    /* HTTP */
    const char *listen_address;
    uint16_t port;
    bool metrics_enabled;
    uint16_t metrics_port;
    unsigned http_threads;
    const char *secret; /* NULL: insecure */
    bool allow_delete;
    int64_t long_poll_timeout_ms;
    unsigned cache_max_age_s;
    unsigned cache_stale_age_s;
    unsigned max_initial_requests;
    unsigned max_existing_requests;
    int64_t send_timeout_ms;
    int64_t read_timeout_ms;

    /* Gatekeeper and writing */
    struct gate_config gate;
    unsigned gate_pool_size;
    const char *routes_file; /* NULL: none */
    const char *public_url;  /* NULL: as requests say */
    const char *rpc_schema;  /* NULL: none */
    const char *write_schemas;
    unsigned write_pool_size;
    int64_t write_timeout_ms;
    size_t write_max_bytes;
    size_t write_max_mutations;
    size_t write_max_queued;
    size_t write_max_queued_bytes;
    int64_t write_keep_ids_ms;

    /* Routes of the caller (`coulomb dev`): the pool is filled in here. NULL: none. */
    struct http_extra *extra;
};

struct server;

/* Opens the storage, binds the port, starts all but the replication. */
int server_new(const struct server_config *config, struct server **out, struct err *err);
uint16_t server_port(const struct server *s);
/* Runs until server_stop or a fault that a retry can't cure (ERR_FATAL: what a person
 * should do is in err). Ends within a second of server_stop, live requests answered. The
 * calling thread becomes the sequencer. */
int server_run(struct server *s, struct err *err);
/* Async-signal-safe is not promised: call it from a thread. Any thread. */
void server_stop(struct server *s);
void server_free(struct server *s);

#endif
