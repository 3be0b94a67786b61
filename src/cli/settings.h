/* The settings: one table, from which the enum, the environment's names, the flags, the
 * help text and docs/settings.md come.
 *
 * A value comes from a flag, else from the environment, else from the table. An empty
 * environment variable counts as not set. Values are borrowed from argv and environ. */
#ifndef COULOMB_CLI_SETTINGS_H
#define COULOMB_CLI_SETTINGS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"

/* What a value looks like: name, argument in the help, what would be right. */
#define SETTING_KINDS(X)                                                                 \
    X(TEXT, "TEXT", "text")                                                              \
    X(SECRET, "SECRET", "text, never shown")                                             \
    X(URL, "URL", "postgresql://user:password@host:port/database, never shown")          \
    X(BOOL, "BOOL", "true, false, 1 or 0")                                               \
    X(PORT, "PORT", "a port from 0 to 65535, where 0 means any free one")                \
    X(COUNT, "NUMBER", "a whole number")                                                 \
    X(DURATION, "DURATION",                                                              \
      "a number with ms, msec, s, sec, m or min; milliseconds without a unit")           \
    X(SIZE, "SIZE", "a number with KB, KiB, MB, MiB, GB or GiB; bytes without a unit")   \
    X(LIMITS, "JSON", "JSON such as {\"initial\":300,\"existing\":10000}")               \
    X(LEVEL, "LEVEL", "debug, info, warning or error")                                   \
    X(ADDRESS, "ADDRESS", "an IPv4 or IPv6 address")                                     \
    X(STORAGE, "WORD", "FAST_FILE or MEMORY")                                            \
    X(STATE, "WORD", "FILE or MEMORY")                                                   \
    X(PATH, "PATH", "a path")

enum setting_kind {
#define X(id, argument, right) SETTING_##id##_KIND,
    SETTING_KINDS(X)
#undef X
};

#define SETTING_GROUPS(X)                                                                \
    X(POSTGRES, "Postgres")                                                              \
    X(STORAGE, "Storage")                                                                \
    X(HTTP, "HTTP")                                                                      \
    X(GATE, "Gatekeeper")                                                                \
    X(WRITE, "Writing")                                                                  \
    X(OPERATION, "Operation")

enum setting_group {
#define X(id, title) SETTING_GROUP_##id,
    SETTING_GROUPS(X)
#undef X
};

#define SETTING_DAY_MS 86400000

/* X(id, group, environment, older name, flag, kind, least, most, default, help)
 * The default NULL: none. least and most count for COUNT, DURATION (ms) and SIZE (bytes).
 */
/* clang-format off */
#define SETTINGS(X) \
    X(DATABASE_URL, POSTGRES, "DATABASE_URL", NULL, "database-url", URL, 0, 0, NULL, \
      "The database to sync from, by a direct connection (not through a pooler): " \
      "replication runs over it. Required.") \
    X(POOLED_DATABASE_URL, POSTGRES, "ELECTRIC_POOLED_DATABASE_URL", \
      "ELECTRIC_QUERY_DATABASE_URL", "pooled-database-url", URL, 0, 0, NULL, \
      "The same database through a pooler, for everything but replication. " \
      "The direct connection when not set.") \
    X(DATABASE_USE_IPV6, POSTGRES, "ELECTRIC_DATABASE_USE_IPV6", NULL, \
      "database-use-ipv6", BOOL, 0, 0, "false", \
      "Try IPv6 addresses of the database first.") \
    X(DATABASE_CA_FILE, POSTGRES, "ELECTRIC_DATABASE_CA_CERTIFICATE_FILE", NULL, \
      "database-ca-certificate-file", PATH, 0, 0, NULL, \
      "Certificates of the authorities to trust. With it the database's certificate and " \
      "name are verified.") \
    X(DB_POOL_SIZE, POSTGRES, "ELECTRIC_DB_POOL_SIZE", NULL, "db-pool-size", COUNT, \
      2, 1000, "20", \
      "Connections to Postgres at the most, besides the replication connection. 2 at " \
      "least; from 3 on, two ask the catalog (four from 9 on) and the others take " \
      "snapshots.") \
    X(STREAM_ID, POSTGRES, "ELECTRIC_REPLICATION_STREAM_ID", NULL, \
      "replication-stream-id", TEXT, 0, 0, "default", \
      "The end of the names of slot and publication: electric_slot_ID, " \
      "electric_publication_ID. One server per ID and database.") \
    X(TEMPORARY_SLOT, POSTGRES, "CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN", NULL, \
      "cleanup-replication-slots-on-shutdown", BOOL, 0, 0, "false", \
      "Use a slot that goes with the connection. Every start then begins with new shapes.") \
    X(TEMPORARY_SLOT_RANDOM_NAME, POSTGRES, \
      "ELECTRIC_TEMPORARY_REPLICATION_SLOT_USE_RANDOM_NAME", NULL, \
      "temporary-replication-slot-use-random-name", BOOL, 0, 0, "false", \
      "Give the temporary slot a random name.") \
    X(MANUAL_PUBLISHING, POSTGRES, "ELECTRIC_MANUAL_TABLE_PUBLISHING", NULL, \
      "manual-table-publishing", BOOL, 0, 0, "false", \
      "Leave the publication's tables and their replica identity to you.") \
    X(PUBLICATION_REFRESH_PERIOD, POSTGRES, \
      "ELECTRIC_TWEAKS_PUBLICATION_REFRESH_PERIOD", NULL, \
      "tweaks-publication-refresh-period", DURATION, 100, SETTING_DAY_MS, "60s", \
      "How often the publication is compared with what the shapes need. The smaller of " \
      "this and the next one counts.") \
    X(SCHEMA_RECONCILER_PERIOD, POSTGRES, \
      "ELECTRIC_TWEAKS_SCHEMA_RECONCILER_PERIOD", NULL, \
      "tweaks-schema-reconciler-period", DURATION, 100, SETTING_DAY_MS, "60s", \
      "How often the tables' definitions are compared with those of the shapes.") \
    X(STORAGE_DIR, STORAGE, "ELECTRIC_STORAGE_DIR", NULL, "storage-dir", PATH, 0, 0, \
      "./persistent", \
      "Where shape logs and state are kept. It belongs to the replication slot: keep both " \
      "or neither.") \
    X(STORAGE, STORAGE, "ELECTRIC_STORAGE", NULL, "storage", STORAGE, 0, 0, "FAST_FILE", \
      "FAST_FILE keeps shapes over restarts; MEMORY forgets them with the process.") \
    X(PERSISTENT_STATE, STORAGE, "ELECTRIC_PERSISTENT_STATE", NULL, "persistent-state", \
      STATE, 0, 0, "FILE", \
      "FILE or MEMORY. The state is kept together with the shapes, so MEMORY needs the " \
      "storage MEMORY.") \
    X(CHUNK_BYTES, STORAGE, "ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD", NULL, \
      "shape-chunk-bytes-threshold", SIZE, 1, 1073741824, "10MiB", \
      "How many bytes of a shape's log one response holds, about.") \
    X(MAX_SHAPES, STORAGE, "ELECTRIC_MAX_SHAPES", "ELECTRIC_EXPERIMENTAL_MAX_SHAPES", \
      "max-shapes", COUNT, 0, 10000000, "0", \
      "With more shapes than this the ones unused for the longest time are removed. " \
      "0: no limit.") \
    X(PORT, HTTP, "ELECTRIC_PORT", NULL, "port", PORT, 0, 0, "3000", \
      "The port to listen on.") \
    X(LISTEN, HTTP, "COULOMB_LISTEN", NULL, "listen", ADDRESS, 0, 0, NULL, \
      "The address to listen on: 0.0.0.0 when not set, or :: with " \
      "ELECTRIC_LISTEN_ON_IPV6.") \
    X(LISTEN_ON_IPV6, HTTP, "ELECTRIC_LISTEN_ON_IPV6", NULL, "listen-on-ipv6", BOOL, \
      0, 0, "false", "Listen on all IPv6 (and IPv4) addresses.") \
    X(SECRET, HTTP, "ELECTRIC_SECRET", NULL, "secret", SECRET, 0, 0, NULL, \
      "What requests must carry as ?secret=. Either this or ELECTRIC_INSECURE is " \
      "required. Other users of the machine can see flags: prefer the environment.") \
    X(INSECURE, HTTP, "ELECTRIC_INSECURE", NULL, "insecure", BOOL, 0, 0, "false", \
      "Serve everyone who can reach the port, without a secret.") \
    X(HTTP_THREADS, HTTP, "COULOMB_HTTP_THREADS", NULL, "http-threads", COUNT, 1, 64, \
      NULL, "Threads that serve requests. When not set: one per core, 2 to 4.") \
    X(LONG_POLL_TIMEOUT, HTTP, "ELECTRIC_LONG_POLL_TIMEOUT", NULL, "long-poll-timeout", \
      DURATION, 1, 3600000, "20s", \
      "How long a live request waits for a change before it is answered empty.") \
    X(CACHE_MAX_AGE, HTTP, "ELECTRIC_CACHE_MAX_AGE", NULL, "cache-max-age", COUNT, \
      0, 31536000, "60", "max-age of cacheable responses, in seconds.") \
    X(CACHE_STALE_AGE, HTTP, "ELECTRIC_CACHE_STALE_AGE", NULL, "cache-stale-age", COUNT, \
      0, 31536000, "300", \
      "stale-while-revalidate of cacheable responses, in seconds.") \
    X(MAX_CONCURRENT_REQUESTS, HTTP, "ELECTRIC_MAX_CONCURRENT_REQUESTS", NULL, \
      "max-concurrent-requests", LIMITS, 0, 0, "{\"initial\":300,\"existing\":10000}", \
      "Requests served at a time, for shapes that a client begins with and for those it " \
      "follows; more are answered with 503 and a time to retry after.") \
    X(TCP_SEND_TIMEOUT, HTTP, "ELECTRIC_TCP_SEND_TIMEOUT", NULL, "tcp-send-timeout", \
      DURATION, 1, SETTING_DAY_MS, "30s", \
      "A client that takes nothing of its response for so long is dropped.") \
    X(TCP_READ_TIMEOUT, HTTP, "ELECTRIC_TCP_READ_TIMEOUT", NULL, "tcp-read-timeout", \
      DURATION, 1, SETTING_DAY_MS, "60s", \
      "A whole request must arrive within it, and an idle connection is closed after " \
      "so long. Let it exceed that of a proxy in front.") \
    X(INTEGRATION_TESTING, HTTP, "ELECTRIC_ENABLE_INTEGRATION_TESTING", NULL, \
      "enable-integration-testing", BOOL, 0, 0, "false", \
      "Allow DELETE /v1/shape.") \
    X(AUTH_SECRET, GATE, "COULOMB_AUTH_SECRET", NULL, "auth-secret", SECRET, 0, 0, NULL, \
      "The secret that the app's own tokens (JWT) are signed with: HS256 unless " \
      "COULOMB_AUTH_ALGORITHMS says otherwise. This, or one of the next two, switches the " \
      "gatekeeper on (docs/gatekeeper.md).") \
    X(AUTH_KEY_FILE, GATE, "COULOMB_AUTH_KEY_FILE", NULL, "auth-key-file", PATH, 0, 0, \
      NULL, "A file with the public key that they are verified with (PEM), or with a JSON " \
      "Web Key Set.") \
    X(AUTH_JWKS_URL, GATE, "COULOMB_AUTH_JWKS_URL", NULL, "auth-jwks-url", TEXT, 0, 0, \
      NULL, "The address of the identity provider's JSON Web Key Set. Fetched every ten " \
      "minutes, and when a token names a key that is not known.") \
    X(AUTH_ALGORITHMS, GATE, "COULOMB_AUTH_ALGORITHMS", NULL, "auth-algorithms", TEXT, 0, \
      0, NULL, "The algorithms that tokens may use, separated by commas: HS256, HS384, " \
      "HS512, RS256, PS256, ES256, EdDSA. When not set: HS256 with a secret, else RS256, " \
      "ES256 and EdDSA.") \
    X(AUTH_ISSUER, GATE, "COULOMB_AUTH_ISSUER", NULL, "auth-issuer", TEXT, 0, 0, NULL, \
      "What the claim iss must be. Any when not set.") \
    X(AUTH_AUDIENCE, GATE, "COULOMB_AUTH_AUDIENCE", NULL, "auth-audience", TEXT, 0, 0, \
      NULL, "What the claim aud must be, or hold. Any when not set.") \
    X(AUTH_SUBJECT, GATE, "COULOMB_AUTH_SUBJECT_CLAIM", NULL, "auth-subject-claim", TEXT, \
      0, 0, "sub", "The claim that names the caller, for limits and idempotency.") \
    X(AUTH_SKEW, GATE, "COULOMB_AUTH_CLOCK_SKEW", NULL, "auth-clock-skew", DURATION, 0, \
      600000, "30s", "How far the clock of who signs tokens may differ from ours.") \
    X(SHAPE_SECRET, GATE, "COULOMB_SHAPE_SECRET", NULL, "shape-secret", SECRET, 0, 0, \
      NULL, "What shape tokens are signed with: at least 32 random bytes, the same for all " \
      "servers behind one address, another than COULOMB_AUTH_SECRET. Required with the " \
      "gatekeeper.") \
    X(SHAPE_TOKEN_LIFETIME, GATE, "COULOMB_SHAPE_TOKEN_LIFETIME", NULL, \
      "shape-token-lifetime", DURATION, 2000, SETTING_DAY_MS, "10m", \
      "How long a shape token lives at the most; half of it at least. So long somebody may " \
      "go on reading whose rights were taken away.") \
    X(GATE_FUNCTION, GATE, "COULOMB_GATE_FUNCTION", NULL, "gate-function", TEXT, 0, 0, \
      NULL, "The SQL function that decides who may see what: schema.name, called as " \
      "(claims jsonb, request jsonb) and returning jsonb.") \
    X(GATE_POLICY_FILE, GATE, "COULOMB_GATE_POLICY_FILE", NULL, "gate-policy-file", PATH, \
      0, 0, NULL, "A file that decides it in the function's place: clauses over claims.") \
    X(GATE_POOL_SIZE, GATE, "COULOMB_GATE_POOL_SIZE", NULL, "gate-pool-size", COUNT, 1, \
      100, "4", "Connections to Postgres on which the function is called.") \
    X(GATE_TIMEOUT, GATE, "COULOMB_GATE_TIMEOUT", NULL, "gate-timeout", DURATION, 1, \
      60000, "5s", "How long the function may take.") \
    X(GATE_RATE, GATE, "COULOMB_GATE_RATE", NULL, "gate-rate", COUNT, 0, 1000000, "50", \
      "Token exchanges and writes of one caller in a second, in the long run; twice as many " \
      "at once. 0: no limit.") \
    X(PUBLIC_URL, GATE, "COULOMB_PUBLIC_URL", NULL, "public-url", TEXT, 0, 0, NULL, \
      "Where clients reach the server, as in https://sync.example.com: what POST " \
      "/gatekeeper answers with. As the Host header says when not set.") \
    X(WRITE_ROLES, WRITE, "COULOMB_WRITE_ROLES", NULL, "write-roles", TEXT, 0, 0, NULL, \
      "The roles of Postgres that callers may have, separated by commas; the claim role " \
      "chooses, the first one serves those without it. Switches writing on " \
      "(docs/writing.md).") \
    X(ANONYMOUS_ROLE, WRITE, "COULOMB_ANONYMOUS_ROLE", NULL, "anonymous-role", TEXT, 0, 0, \
      NULL, "The role of callers without a token, on application routes with \"auth\": " \
      "\"none\". There may be none when not set.") \
    X(ROUTES_FILE, WRITE, "COULOMB_ROUTES_FILE", NULL, "routes-file", PATH, 0, 0, NULL, \
      "Application routes: which methods and paths mean which writes, functions and shapes.") \
    X(WRITE_SCHEMAS, WRITE, "COULOMB_WRITE_SCHEMAS", NULL, "write-schemas", TEXT, 0, 0, \
      "public", "The schemas whose tables can be written to, separated by commas.") \
    X(RPC_SCHEMA, WRITE, "COULOMB_RPC_SCHEMA", NULL, "rpc-schema", TEXT, 0, 0, NULL, \
      "The schema whose functions POST /v1/rpc/NAME calls. None when not set.") \
    X(WRITE_POOL_SIZE, WRITE, "COULOMB_WRITE_POOL_SIZE", NULL, "write-pool-size", COUNT, \
      1, 64, "4", "Connections to Postgres that write.") \
    X(WRITE_TIMEOUT, WRITE, "COULOMB_WRITE_TIMEOUT", NULL, "write-timeout", DURATION, 1, \
      600000, "10s", "How long a statement may take, and how long a write waits to be begun.") \
    X(WRITE_MAX_BODY, WRITE, "COULOMB_WRITE_MAX_BODY", NULL, "write-max-body", SIZE, 1, \
      8388608, "1MiB", "Bytes of a request that writes, or asks for a token.") \
    X(WRITE_MAX_MUTATIONS, WRITE, "COULOMB_WRITE_MAX_MUTATIONS", NULL, \
      "write-max-mutations", COUNT, 1, 100000, "1000", "Mutations in one request.") \
    X(WRITE_MAX_QUEUED, WRITE, "COULOMB_WRITE_MAX_QUEUED", NULL, "write-max-queued", COUNT, \
      1, 1000000, "10000", "Writes that wait for a connection; more are answered with 503.") \
    X(WRITE_MAX_QUEUED_BYTES, WRITE, "COULOMB_WRITE_MAX_QUEUED_BYTES", NULL, \
      "write-max-queued-bytes", SIZE, 1048576, 1099511627776, "256MiB", \
      "Memory of writes that wait; more are answered with 503.") \
    X(WRITE_KEEP_IDS, WRITE, "COULOMB_WRITE_KEEP_IDS", NULL, "write-keep-ids", DURATION, \
      60000, 31536000000, "10080min", "How long the id of a write is remembered.") \
    X(PROMETHEUS_PORT, OPERATION, "ELECTRIC_PROMETHEUS_PORT", NULL, "prometheus-port", \
      PORT, 0, 0, NULL, \
      "The port of GET /metrics. No metrics are served when not set.") \
    X(LOG_LEVEL, OPERATION, "ELECTRIC_LOG_LEVEL", NULL, "log-level", LEVEL, 0, 0, "info", \
      "What is logged, to stderr.") \
    X(FEATURE_FLAGS, OPERATION, "ELECTRIC_FEATURE_FLAGS", NULL, "feature-flags", TEXT, \
      0, 0, NULL, "Names separated by commas. None is known now; they are logged.")
/* clang-format on */

enum setting_id {
#define X(id, ...) SETTING_##id,
    SETTINGS(X)
#undef X
        SETTING_COUNT
};

/* Names that are accepted without effect. A '*' at the end stands for anything.
 * X(name, level of the log line, why) */
/* clang-format off */
#define SETTINGS_IGNORED(X) \
    X("ELECTRIC_REPLICATION_IDLE_TIMEOUT", LOG_WARNING, \
      "connections to Postgres are not given up when idle") \
    X("ELECTRIC_FLUSH_STALL_GRACE_PERIOD", LOG_INFO, \
      "storage that can't be written stops the stream at once") \
    X("ELECTRIC_SUBQUERY_BUFFER_MAX_TRANSACTIONS", LOG_INFO, \
      "subqueries are not supported yet") \
    X("ELECTRIC_EXPERIMENTAL_MAX_TXN_SIZE", LOG_INFO, \
      "transactions of any size are handed on as they arrive") \
    X("ELECTRIC_EXPERIMENTAL_MAX_BATCH_SIZE", LOG_INFO, \
      "changes are handed on as they arrive") \
    X("ELECTRIC_DATABASE_TCP_*", LOG_WARNING, \
      "keep-alive is set by options of the database URL (keepalives_idle, ...)") \
    X("ELECTRIC_PUBLICATION_ALTER_DEBOUNCE_TIME", LOG_INFO, \
      "changes of the publication are not delayed") \
    X("ELECTRIC_CLEANUP_INTERVAL_MS", LOG_INFO, "removed shapes are cleaned up at once") \
    X("ELECTRIC_INSTANCE_ID", LOG_INFO, "log and metrics carry no instance") \
    X("ELECTRIC_SERVICE_NAME", LOG_INFO, "log and metrics carry no service name") \
    X("ELECTRIC_STATSD_HOST", LOG_WARNING, "metrics are served for Prometheus") \
    X("ELECTRIC_OTLP_*", LOG_WARNING, "metrics are served for Prometheus") \
    X("ELECTRIC_OTEL_*", LOG_WARNING, "metrics are served for Prometheus") \
    X("ELECTRIC_HNY_*", LOG_WARNING, "metrics are served for Prometheus") \
    X("ELECTRIC_USAGE_REPORTING", LOG_INFO, "usage is never reported anywhere") \
    X("ELECTRIC_TELEMETRY_*", LOG_INFO, "usage is never reported anywhere") \
    X("ELECTRIC_SYSTEM_METRICS_*", LOG_INFO, "metrics are served for Prometheus") \
    X("ELECTRIC_SHAPE_HIBERNATE_AFTER", LOG_INFO, "tuning of another runtime") \
    X("ELECTRIC_SHAPE_SUSPEND_*", LOG_INFO, "tuning of another runtime") \
    X("ELECTRIC_CONSUMER_*", LOG_INFO, "tuning of another runtime") \
    X("ELECTRIC_PROCESS_SPAWN_OPTS", LOG_INFO, "tuning of another runtime") \
    X("ELECTRIC_PROCESS_REGISTRY_PARTITIONS", LOG_INFO, "tuning of another runtime") \
    X("ELECTRIC_HTTP_API_NUM_ACCEPTORS", LOG_INFO, "tuning of another runtime") \
    X("ELECTRIC_TWEAKS_*", LOG_INFO, "tuning of another runtime") \
    X("ELECTRIC_SHAPE_DB_*", LOG_INFO, "tuning of another runtime") \
    X("ELECTRIC_DATABASE_ID", LOG_INFO, "one server serves one database") \
    X("ELECTRIC_LOG_COLORS", LOG_INFO, "the log has no colours") \
    X("ELECTRIC_LOG_OTP_REPORTS", LOG_INFO, "tuning of another runtime") \
    X("ELECTRIC_PROFILE_WHERE_CLAUSES", LOG_INFO, "tuning of another runtime") \
    X("ELECTRIC_PORT_*", LOG_DEBUG, "Kubernetes sets it for a service named electric") \
    X("ELECTRIC_SERVICE_HOST", LOG_DEBUG, "Kubernetes sets it for a service named electric") \
    X("ELECTRIC_SERVICE_PORT*", LOG_DEBUG, "Kubernetes sets it for a service named electric") \
    X("COULOMB_PORT*", LOG_DEBUG, "Kubernetes sets it for a service named coulomb") \
    X("COULOMB_SERVICE_HOST", LOG_DEBUG, "Kubernetes sets it for a service named coulomb") \
    X("COULOMB_SERVICE_PORT*", LOG_DEBUG, "Kubernetes sets it for a service named coulomb") \
    X("COULOMB_NO_INSTALL", LOG_DEBUG, "of the project's scripts") \
    X("COULOMB_BIN", LOG_DEBUG, "of the project's scripts") \
    X("COULOMB_TEST_*", LOG_DEBUG, "of the project's scripts")
/* clang-format on */

struct setting_info {
    enum setting_group group;
    const char *env;
    const char *older_env; /* NULL: none */
    const char *flag;      /* without the two dashes */
    enum setting_kind kind;
    int64_t least, most;
    const char *fallback; /* NULL: none */
    const char *help;
};

const struct setting_info *setting_info(enum setting_id id);
const char *setting_group_title(enum setting_group group);
const char *setting_kind_argument(enum setting_kind kind);
const char *setting_kind_right(enum setting_kind kind);

struct setting_limits {
    unsigned initial;
    unsigned existing;
};

enum setting_source { SETTING_DEFAULT, SETTING_ENVIRONMENT, SETTING_FLAG };

struct setting_value {
    enum setting_source source;
    const char *name; /* as the user gave it: "ELECTRIC_PORT" or "--port" */
    const char *text; /* NULL: neither given nor a default */
    union {
        bool flag;       /* BOOL */
        uint64_t number; /* PORT, COUNT, SIZE */
        int64_t ms;      /* DURATION */
        struct setting_limits limits;
        enum log_level level;
    } v;
};

struct settings {
    struct setting_value values[SETTING_COUNT];
};

/* What is known without any flag or environment. */
void settings_init(struct settings *s);
/* Reads environ-style "NAME=value" strings: ERR_INVALID with a sentence for a bad value
 * and for an unknown ELECTRIC_ or COULOMB_ name. */
int settings_read_env(struct settings *s, char *const *env, struct err *err);
/* Reads one flag at args[*at] ("--port", "3000" or "--port=3000"; a BOOL may stand
 * alone for true)
 * and moves *at behind it. ERR_NOT_FOUND when it is no flag (err untouched), ERR_INVALID
 * with a sentence for an unknown flag or a bad value. */
int settings_read_flag(struct settings *s, char *const *args, int count, int *at,
                       struct err *err);
/* Logs the names in env that are accepted without effect, and why. */
void settings_log_ignored(const struct log *log, char *const *env);
/* "ELECTRIC_PORT=70000", or only the name when the value must not be shown. */
void setting_put_given(struct buf *out, enum setting_id id,
                       const struct setting_value *v);
/* The table as Markdown (docs/settings.md) and as plain text. */
void settings_put_markdown(struct buf *out);
void settings_put_help(struct buf *out);

/* Text to value, by kind; false when it is not of that kind. */
bool setting_parse_bool(struct slice text, bool *out);
bool setting_parse_port(struct slice text, uint64_t *out);
bool setting_parse_duration(struct slice text, int64_t *ms);
bool setting_parse_size(struct slice text, uint64_t *size_bytes);
/* Fills *why (a constant) on false. */
bool setting_parse_limits(const char *text, struct setting_limits *out, const char **why);

#endif
