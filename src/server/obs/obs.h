/* Metrics of constant size: every counter, gauge and histogram is a line of the tables
 * below, from which the enums, the Prometheus text and the docs come. Atomic, any thread,
 * no locks.
 *
 * Reasons (why a shape went, why a request was refused, why the replication stream broke)
 * are tables too: log text, metric label and HTTP body take their words from here. */
#ifndef COULOMB_SERVER_OBS_OBS_H
#define COULOMB_SERVER_OBS_OBS_H

#include <stdatomic.h>

#include "base/buf.h"

/* X(enum, name, help) */
#define OBS_COUNTERS(X)                                                                  \
    X(WAL_BYTES, "coulomb_wal_received_bytes_total", "WAL bytes received")               \
    X(WAL_TRANSACTIONS, "coulomb_wal_transactions_total", "Transactions processed")      \
    X(WAL_CHANGES, "coulomb_wal_changes_total", "Row changes received")                  \
    X(ROUTED_CHANGES, "coulomb_routed_changes_total",                                    \
      "Row changes appended to shape logs")                                              \
    X(LOG_BYTES, "coulomb_log_appended_bytes_total", "Bytes appended to shape logs")     \
    X(SNAPSHOTS, "coulomb_snapshots_total", "Snapshots finished")                        \
    X(SNAPSHOT_ROWS, "coulomb_snapshot_rows_total", "Rows read by snapshots")            \
    X(SUBSETS, "coulomb_subsets_total", "Subsets read")                                  \
    X(SUBSET_ROWS, "coulomb_subset_rows_total", "Rows read for subsets")                 \
    X(TOKENS_ISSUED, "coulomb_shape_tokens_issued_total", "Shape tokens issued")         \
    X(WRITES, "coulomb_writes_total", "Write transactions committed")                    \
    X(SHAPES_CREATED, "coulomb_shapes_created_total", "Shapes created")                  \
    X(HTTP_REQUESTS, "coulomb_http_requests_total", "HTTP requests received")            \
    X(HTTP_BYTES, "coulomb_http_sent_bytes_total", "HTTP body bytes sent")               \
    X(CHECKPOINTS, "coulomb_checkpoints_total", "Checkpoints committed")                 \
    X(REPLICA_CONNECTS, "coulomb_replication_connects_total",                            \
      "Replication streams started")

#define OBS_GAUGES(X)                                                                    \
    X(LAG_BYTES, "coulomb_replication_lag_bytes", "WAL written but not yet processed")   \
    X(LAG_MS, "coulomb_replication_lag_seconds", /* set in ms */                         \
      "Since when what is served is not known to be all there is")                       \
    X(RETAINED_WAL, "coulomb_retained_wal_bytes",                                        \
      "WAL that the slot makes Postgres keep")                                           \
    X(SHAPES, "coulomb_shapes", "Shapes that exist")                                     \
    X(READERS_LIVE, "coulomb_live_readers", "Requests waiting for changes")              \
    X(REQUESTS_INITIAL, "coulomb_requests_initial",                                      \
      "Requests holding an initial permit")                                              \
    X(REQUESTS_EXISTING, "coulomb_requests_existing",                                    \
      "Requests holding an existing permit")                                             \
    X(CONNECTIONS, "coulomb_http_connections", "Open HTTP connections")                  \
    X(SNAPSHOTS_RUNNING, "coulomb_snapshots_running", "Snapshots being read")            \
    X(ACTIVE, "coulomb_active", "1 while what is served follows Postgres")

/* Histograms of microseconds with fixed buckets. */
#define OBS_HISTOGRAMS(X)                                                                \
    X(HTTP_US, "coulomb_http_request_seconds", "Time to answer, long polls excluded")    \
    X(LIVE_US, "coulomb_commit_to_publish_seconds",                                      \
      "Arrival of a commit to its publication")                                          \
    X(CHECKPOINT_US, "coulomb_checkpoint_seconds", "Duration of a checkpoint")           \
    X(SNAPSHOT_FIRST_US, "coulomb_snapshot_first_row_seconds", "Request to first row")

/* Why a shape was removed: label of coulomb_shapes_removed_total{reason}. */
#define OBS_SHAPE_REASONS(X)                                                             \
    X(DELETED, "deleted", "a client asked for its deletion")                             \
    X(TRUNCATE, "truncate", "its table was truncated")                                   \
    X(SCHEMA, "schema_change", "its table's definition changed")                         \
    X(DROPPED, "table_dropped", "its table was dropped or renamed")                      \
    X(IDENTITY, "replica_identity", "its table lost REPLICA IDENTITY FULL")              \
    X(PUBLICATION, "publication", "its table left the publication")                      \
    X(SNAPSHOT, "snapshot_failed", "its snapshot failed")                                \
    X(INCOMPLETE, "incomplete", "its snapshot was not complete when the server stopped") \
    X(SLOT, "slot_lost", "the replication slot was lost or created anew")                \
    X(BEHIND, "storage_behind",                                                          \
      "the slot was acknowledged beyond what the storage holds")                         \
    X(AHEAD, "storage_ahead", "the database went back to before what the storage holds") \
    X(CLUSTER, "other_cluster", "the database is another one or on another timeline")    \
    X(CORRUPT, "corrupt", "its stored bytes do not check out")                           \
    X(CLAUSE, "where_undecided", "its where clause could not be decided for a change")   \
    X(STORAGE, "storage_failed", "its log could not be written")                         \
    X(EVICTED, "evicted", "the limit of shapes was reached")

/* Why a request was refused: label of coulomb_http_refused_total{reason}. */
#define OBS_REFUSALS(X)                                                                  \
    X(INVALID, "invalid", "a parameter was wrong")                                       \
    X(UNAUTHORIZED, "unauthorized", "the secret was missing or wrong")                   \
    X(TOKEN, "token", "the token was missing or not accepted")                           \
    X(FORBIDDEN, "forbidden", "the caller may not see or write that")                    \
    X(RATE, "rate_limit", "the caller asks too often")                                   \
    X(WRITE, "write_refused", "a write was refused or failed")                           \
    X(NOT_FOUND, "not_found", "no such route or shape")                                  \
    X(NOT_ALLOWED, "not_allowed", "the method is switched off")                          \
    X(MUST_REFETCH, "must_refetch", "the handle is not current")                         \
    X(ADMISSION, "admission", "too many concurrent requests")                            \
    X(NOT_READY, "not_ready", "the service is not up")                                   \
    X(SNAPSHOT_ERROR, "snapshot_error", "the snapshot failed")                           \
    X(TOO_LARGE, "too_large", "the request was too large")                               \
    X(INTERNAL, "internal", "an unexpected error")

/* Why the replication stream ended: label of coulomb_replication_lost_total{reason}. */
#define OBS_STREAM_REASONS(X)                                                            \
    X(CONNECTION, "connection", "the connection broke or could not be made")             \
    X(PROTOCOL, "protocol", "a message did not make sense")                              \
    X(SLOT, "slot", "the slot is gone or invalid")                                       \
    X(FATAL, "fatal", "a fault that a retry can't cure")                                 \
    X(STOPPED, "stopped", "the server was told to stop")

#define OBS_ENUM_COUNTER(id, name, help)   OBS_##id,
#define OBS_ENUM_GAUGE(id, name, help)     OBS_G_##id,
#define OBS_ENUM_HISTOGRAM(id, name, help) OBS_H_##id,
#define OBS_ENUM_SHAPE(id, name, help)     OBS_SHAPE_##id,
#define OBS_ENUM_REFUSED(id, name, help)   OBS_REFUSED_##id,
#define OBS_ENUM_STREAM(id, name, help)    OBS_STREAM_##id,

enum obs_counter { OBS_COUNTERS(OBS_ENUM_COUNTER) OBS_COUNTER_COUNT };
enum obs_gauge { OBS_GAUGES(OBS_ENUM_GAUGE) OBS_GAUGE_COUNT };
enum obs_histogram { OBS_HISTOGRAMS(OBS_ENUM_HISTOGRAM) OBS_HISTOGRAM_COUNT };
enum obs_shape_reason { OBS_SHAPE_REASONS(OBS_ENUM_SHAPE) OBS_SHAPE_REASON_COUNT };
enum obs_refusal { OBS_REFUSALS(OBS_ENUM_REFUSED) OBS_REFUSAL_COUNT };
enum obs_stream_reason { OBS_STREAM_REASONS(OBS_ENUM_STREAM) OBS_STREAM_REASON_COUNT };

#define OBS_BUCKETS 19 /* 100 us to about 26 s, doubling, and +Inf */

struct obs_histogram_cells {
    atomic_uint_fast64_t bucket[OBS_BUCKETS + 1];
    atomic_uint_fast64_t sum_us;
};

struct obs {
    atomic_uint_fast64_t counter[OBS_COUNTER_COUNT];
    atomic_int_fast64_t gauge[OBS_GAUGE_COUNT];
    struct obs_histogram_cells histogram[OBS_HISTOGRAM_COUNT];
    atomic_uint_fast64_t shapes_removed[OBS_SHAPE_REASON_COUNT];
    atomic_uint_fast64_t refused[OBS_REFUSAL_COUNT];
    atomic_uint_fast64_t stream_lost[OBS_STREAM_REASON_COUNT];
};

/* Where o is NULL, the functions that record do nothing. */
void obs_init(struct obs *o);
void obs_count(struct obs *o, enum obs_counter which, uint64_t n);
void obs_set(struct obs *o, enum obs_gauge which, int64_t value);
void obs_add(struct obs *o, enum obs_gauge which, int64_t delta);
void obs_time(struct obs *o, enum obs_histogram which, int64_t us);
/* The counters by reason; others may also add to the cells themselves. */
void obs_shape_removed(struct obs *o, enum obs_shape_reason reason);
void obs_refused(struct obs *o, enum obs_refusal reason);
void obs_stream_lost(struct obs *o, enum obs_stream_reason reason);
/* The Prometheus text format, version 0.0.4. */
void obs_render(const struct obs *o, struct buf *out);
/* The label of a reason; _text is a clause such as "its table was truncated". */
const char *obs_shape_reason_name(enum obs_shape_reason reason);
const char *obs_shape_reason_text(enum obs_shape_reason reason);
const char *obs_refusal_name(enum obs_refusal reason);
const char *obs_stream_reason_name(enum obs_stream_reason reason);

#endif
