/* The adapter against a real server and Postgres: every mode converges to SELECT, through refetches,
 * and kills; handlers wait for their transactions; conditions load what they match. */
#include <libpq-fe.h>

#include "base/clock.h"
#include "coulomb/coulomb.h"
#include "support/netclient.h"
#include "support/pgcluster.h"
#include "support/served.h"

static struct pgcluster *cluster;
static struct served *server;
static PGconn *pg;

/* --- Postgres ---------------------------------------------------------------------------------------- */

static void sql(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void sql(const char *format, ...)
{
    char text[4096];
    va_list args;
    PGresult *r;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    r = PQexec(pg, text);
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", text, PQerrorMessage(pg));
    PQclear(r);
}

static int64_t sql_number(const char *text)
{
    PGresult *r = PQexec(pg, text);
    int64_t n;

    if (PQresultStatus(r) != PGRES_TUPLES_OK || PQntuples(r) != 1)
        fail_msg("%s: %s", text, PQerrorMessage(pg));
    n = strtoll(PQgetvalue(r, 0, 0), NULL, 10);
    PQclear(r);
    return n;
}

/* --- The client ---------------------------------------------------------------------------------------- */

struct live {
    struct net_heap heap;
    coulomb_client *c;
    coulomb_collection *coll;
    char table[64];
};

static const coulomb_column columns[] = {
    {"id", COULOMB_INT64, COULOMB_ABSENT},
    {"name", COULOMB_TEXT, COULOMB_ABSENT},
    {"qty", COULOMB_INT64, COULOMB_ABSENT},
    {"price", COULOMB_NUMERIC, COULOMB_ABSENT},
    {"ratio", COULOMB_DOUBLE, COULOMB_ABSENT},
    {"done", COULOMB_BOOL, COULOMB_ABSENT},
    {"at", COULOMB_TIMESTAMPTZ, COULOMB_ABSENT},
    {"tag", COULOMB_UUID, COULOMB_ABSENT},
    {"labels", COULOMB_ARRAY, COULOMB_TEXT},
};

#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static void make_table(const char *name)
{
    sql("CREATE TABLE %s (id bigint PRIMARY KEY, name text, qty int, price numeric, "
        "ratio "
        "float8, done bool, at timestamptz, tag uuid, labels text[])",
        name);
}

static coulomb_electric_options live_options(struct live *l, const char *table,
                                             coulomb_electric_mode mode)
{
    coulomb_electric_options o;

    snprintf(l->table, sizeof(l->table), "%s", table);
    coulomb_options_init(&o, sizeof(o));
    coulomb_options_init(&o.collection, sizeof(o.collection));
    o.collection.id = l->table;
    o.collection.columns = columns;
    o.collection.column_count = COLUMNS;
    o.collection.key_column = "id";
    o.mode = mode;
    o.url = served_shape_url(server);
    o.table = l->table;
    return o;
}

static struct live *live_with(struct live *l, coulomb_electric_options *o)
{
    OK(net_client_open(&l->heap, NULL, &l->c));
    OK(coulomb_electric_collection_open(l->c, o, &l->coll));
    OK(coulomb_collection_start(l->coll));
    return l;
}

static struct live *live_open(const char *table, coulomb_electric_mode mode)
{
    struct live *l = calloc(1, sizeof(*l));
    coulomb_electric_options o = live_options(l, table, mode);

    return live_with(l, &o);
}

static void live_close(struct live *l)
{
    coulomb_collection_release(l->coll);
    coulomb_client_close(l->c);
    assert_int_equal(l->heap.live, 0);
    free(l);
}

static bool is_ready(void *arg)
{
    struct live *l = arg;

    if (coulomb_collection_status(l->coll) == COULOMB_ERROR)
        fail_msg("%s: %s", l->table, coulomb_collection_error(l->coll)->message);
    return coulomb_collection_status(l->coll) == COULOMB_READY;
}

/* --- Comparing ------------------------------------------------------------------------------------------- */

/* One row as text, in the collection's columns. */
static void print_row(const coulomb_row *row, char *out, size_t cap)
{
    size_t n = 0;

    for (size_t i = 0; i < COLUMNS && n < cap; i++) {
        coulomb_value v = coulomb_row_at(row, i);
        size_t len;

        if (v.type == COULOMB_NULL) {
            n += (size_t)snprintf(out + n, cap - n, "|(null)");
            continue;
        }
        n += (size_t)snprintf(out + n, cap - n, "|");
        OK(coulomb_value_print(&v, out + n, cap - n, &len));
        n += len;
    }
}

static bool same_row(struct live *l, const PGresult *r, int i)
{
    char mine[2048] = "";
    char theirs[2048] = "";
    size_t n = 0;
    const coulomb_row *row =
        coulomb_get(l->coll, coulomb_key_int(strtoll(PQgetvalue(r, i, 0), NULL, 10)));

    if (!row)
        return false;
    print_row(row, mine, sizeof(mine));
    for (int c = 0; c < (int)COLUMNS; c++)
        n += (size_t)snprintf(theirs + n, sizeof(theirs) - n, "|%s",
                              PQgetisnull(r, i, c) ? "(null)" : PQgetvalue(r, i, c));
    return strcmp(mine, theirs) == 0;
}

/* The collection is what SELECT gives. */
static bool converged(void *arg)
{
    struct live *l = arg;
    char text[256];
    PGresult *r;
    bool same;

    if (!is_ready(l))
        return false;
    snprintf(text, sizeof(text),
             "SELECT id, name, qty, price, ratio, done, at, tag, labels FROM %s",
             l->table);
    r = PQexec(pg, text);
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", text, PQerrorMessage(pg));
    same = (size_t)PQntuples(r) == coulomb_size(l->coll);
    for (int i = 0; same && i < PQntuples(r); i++)
        same = same_row(l, r, i);
    PQclear(r);
    return same;
}

static void converge(struct live *l)
{
    poll_until(l->c, converged, l);
}

/* --- Eager -------------------------------------------------------------------------------------------------- */

static void fill(const char *table, int count)
{
    sql("INSERT INTO %s SELECT i, 'name ' || i, i %% 10, i * 1.5, i / 7.0, i %% 2 = 0, "
        "'2024-01-01 00:00:00Z'::timestamptz + i * interval '1 hour', "
        "md5(i::text)::uuid, array['a' || i %% 3, 'b\"' || i %% 2] FROM "
        "generate_series(1, %d) i",
        table, count);
    sql("UPDATE %s SET name = NULL, qty = NULL, done = NULL, labels = NULL WHERE id %% "
        "11 = 0",
        table);
}

static void eager_follows_the_table(void **state)
{
    struct live *l;

    (void)state;
    make_table("eager");
    fill("eager", 100);
    l = live_open("eager", COULOMB_EAGER);
    converge(l);
    assert_int_equal(coulomb_size(l->coll), 100);
    sql("UPDATE eager SET qty = qty + 1 WHERE id < 20");
    sql("DELETE FROM eager WHERE id %% 3 = 0");
    sql("INSERT INTO eager (id, name) VALUES (500, 'x'), (501, '')");
    sql("UPDATE eager SET id = 1000 WHERE id = 500");
    converge(l);
    assert_null(coulomb_get(l->coll, coulomb_key_int(500)));
    live_close(l);
}

static void a_truncate_is_a_refetch(void **state)
{
    struct live *l;

    (void)state;
    make_table("truncated");
    fill("truncated", 50);
    l = live_open("truncated", COULOMB_EAGER);
    converge(l);
    sql("TRUNCATE truncated");
    sql("INSERT INTO truncated (id, qty) VALUES (1, 7)");
    converge(l);
    assert_int_equal(coulomb_size(l->coll), 1);
    live_close(l);
}

static void a_server_that_is_killed_comes_back(void **state)
{
    struct live *l;

    (void)state;
    make_table("killed");
    fill("killed", 50);
    l = live_open("killed", COULOMB_EAGER);
    converge(l);
    served_kill(server);
    sql("UPDATE killed SET qty = 77 WHERE id < 10");
    sql("DELETE FROM killed WHERE id > 40");
    for (int i = 0; i < 5; i++) {
        coulomb_poll(l->c);
        clock_sleep_ms(20);
    }
    served_start(server);
    converge(l);
    live_close(l);
}

/* --- Waiting ------------------------------------------------------------------------------------------------ */

struct told {
    int calls;
    int code;
};

static void tell(coulomb_collection *coll, const coulomb_error *error, void *arg)
{
    struct told *t = arg;

    (void)coll;
    t->calls++;
    t->code = error->code;
}

static bool was_told(void *arg)
{
    return ((struct told *)arg)->calls > 0;
}

/* Writes what was mutated, and waits for it to come back. */
static int persist(coulomb_tx *tx, coulomb_collection *coll, coulomb_completion *done,
                   void *arg)
{
    coulomb_await o;
    coulomb_mutation m;
    uint64_t txid;

    (void)arg;
    OK(coulomb_tx_mutation(tx, 0, &m));
    sql("BEGIN");
    txid = (uint64_t)sql_number("SELECT pg_current_xact_id()::xid::text");
    if (m.type == COULOMB_DELETE)
        sql("DELETE FROM waited WHERE id = %lld", (long long)m.key.i);
    else
        sql("INSERT INTO waited (id, qty) VALUES (%lld, %lld) ON CONFLICT (id) DO UPDATE "
            "SET "
            "qty = EXCLUDED.qty",
            (long long)m.key.i, (long long)coulomb_row_int(m.modified, "qty", 0));
    sql("COMMIT");
    coulomb_options_init(&o, sizeof(o));
    o.txids = &txid;
    o.txid_count = 1;
    coulomb_complete_after(done, coll, &o);
    return COULOMB_PENDING;
}

static bool is_settled(void *arg)
{
    coulomb_tx_state s = coulomb_tx_status(arg);

    return s == COULOMB_TX_COMPLETED || s == COULOMB_TX_FAILED;
}

static void handlers_see_their_rows_come_back(void **state)
{
    struct live *l = calloc(1, sizeof(*l));
    coulomb_electric_options o;
    coulomb_meta meta;

    (void)state;
    make_table("waited");
    o = live_options(l, "waited", COULOMB_EAGER);
    o.collection.on_insert = o.collection.on_update = o.collection.on_delete = persist;
    live_with(l, &o);
    converge(l);
    for (int64_t i = 1; i <= 10; i++) {
        coulomb_field fields[2] = {{"id", coulomb_int(i)}, {"qty", coulomb_int(i * 10)}};
        coulomb_tx *tx;

        OK(coulomb_insert(l->coll, fields, 2, NULL, &tx));
        poll_until(l->c, is_settled, tx);
        assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
        assert_int_equal(coulomb_row_meta(l->coll, coulomb_key_int(i), &meta), 1);
        assert_true(meta.synced);
        coulomb_tx_release(tx);
        if (i % 2) {
            OK(coulomb_delete(l->coll, coulomb_key_int(i), NULL, &tx));
        } else {
            fields[1].value = coulomb_int(i * 11);
            OK(coulomb_set(l->coll, coulomb_key_int(i), &fields[1], 1, NULL, &tx));
        }
        poll_until(l->c, is_settled, tx);
        assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
        coulomb_tx_release(tx);
    }
    converge(l);
    assert_int_equal(coulomb_size(l->coll), 5);
    live_close(l);
}

static void a_write_elsewhere_is_over_by_its_position(void **state)
{
    struct live *l;
    struct told t = {0};
    coulomb_await o;
    uint64_t txid;

    (void)state;
    make_table("quiet");
    sql("CREATE TABLE elsewhere (id int)");
    l = live_open("quiet", COULOMB_EAGER);
    converge(l);
    sql("BEGIN");
    txid = (uint64_t)sql_number("SELECT pg_current_xact_id()::xid::text");
    sql("INSERT INTO elsewhere VALUES (1)");
    sql("COMMIT");
    coulomb_options_init(&o, sizeof(o));
    o.txids = &txid;
    o.txid_count = 1;
    o.lsn = (uint64_t)sql_number("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::text");
    o.timeout_ms = 15000;
    OK(coulomb_await_all(l->coll, &o, tell, &t, NULL));
    poll_until(l->c, was_told, &t);
    assert_int_equal(t.code, COULOMB_OK);
    live_close(l);
}

static void a_transaction_of_the_snapshot_is_seen(void **state)
{
    struct live *l;
    struct told t = {0};
    uint64_t txid;

    (void)state;
    make_table("before");
    sql("BEGIN");
    txid = (uint64_t)sql_number("SELECT pg_current_xact_id()::text");
    sql("INSERT INTO before (id) VALUES (1)");
    sql("COMMIT");
    l = live_open("before", COULOMB_EAGER);
    converge(l);
    OK(coulomb_await_txid(l->coll, txid, 0, tell, &t, NULL));
    poll_until(l->c, was_told, &t);
    assert_int_equal(t.code, COULOMB_OK);
    live_close(l);
}

/* --- On demand ---------------------------------------------------------------------------------------------- */

static void ignore(coulomb_collection *coll, const coulomb_change *changes, size_t count,
                   void *arg)
{
    (void)coll;
    (void)changes;
    (void)count;
    (void)arg;
}

static bool is_loaded(void *arg)
{
    return !coulomb_sub_loading(arg);
}

static coulomb_sub *want(struct live *l, const coulomb_expr *where,
                         const coulomb_order *order, size_t limit)
{
    coulomb_sub_options o;
    coulomb_sub *sub;

    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    o.where = where;
    o.order = order;
    o.order_count = order ? 1 : 0;
    o.limit = limit;
    OK(coulomb_subscribe(l->coll, &o, ignore, NULL, &sub));
    poll_until(l->c, is_loaded, sub);
    if (coulomb_sub_error(sub)->code)
        fail_msg("%s", coulomb_sub_error(sub)->message);
    return sub;
}

static unsigned rolled = 1;

static unsigned roll(unsigned n)
{
    rolled = rolled * 1103515245 + 12345;
    return (rolled >> 16) % n;
}

static coulomb_value random_value(const char *column)
{
    static unsigned char uuid[16] = {0xc4, 0xca, 0x42, 0x38, 0xa0, 0xb9, 0x23, 0x82,
                                     0x0d, 0xcc, 0x50, 0x9a, 0x6f, 0x75, 0x84, 0x9b};

    if (roll(12) == 0)
        return coulomb_null();
    if (strcmp(column, "qty") == 0)
        return roll(4) ? coulomb_int((int64_t)roll(10)) : coulomb_double(roll(10) + 0.5);
    if (strcmp(column, "price") == 0)
        return roll(2) ? coulomb_numeric("30.0") : coulomb_int((int64_t)roll(60));
    if (strcmp(column, "ratio") == 0)
        return coulomb_double(roll(10) / 7.0);
    if (strcmp(column, "done") == 0)
        return coulomb_bool((int)roll(2));
    if (strcmp(column, "at") == 0)
        return coulomb_moment(COULOMB_TIMESTAMPTZ,
                              (int64_t)(8766 * 24 + roll(60)) * 3600 * 1000000);
    if (strcmp(column, "tag") == 0)
        return coulomb_uuid(uuid);
    return coulomb_int((int64_t)roll(60));
}

static coulomb_expr *random_leaf(struct live *l)
{
    static const char *const names[] = {"id",   "qty", "price", "ratio",
                                        "done", "at",  "tag"};
    static const coulomb_op ops[] = {COULOMB_EQ, COULOMB_GT,  COULOMB_GTE,
                                     COULOMB_LT, COULOMB_LTE, COULOMB_IS_NULL};
    const char *column = names[roll(7)];
    coulomb_value items[3];

    if (roll(8) == 0)
        return coulomb_where(l->coll, "labels", COULOMB_CONTAINS, coulomb_text("b\"1"));
    if (roll(8) == 0)
        return coulomb_where(l->coll, "name", COULOMB_EQ, coulomb_text("name 7"));
    if (roll(4) > 0)
        return coulomb_where(l->coll, column, ops[roll(6)], random_value(column));
    for (size_t i = 0; i < 3; i++)
        items[i] = random_value(column);
    return coulomb_in(l->coll, column, items, roll(4));
}

static coulomb_expr *random_where(struct live *l, int depth)
{
    unsigned kind = depth > 0 ? roll(6) : 0;

    if (kind < 2)
        return random_leaf(l);
    if (kind == 2)
        return coulomb_not(random_where(l, depth - 1));
    return kind < 5 ? coulomb_and(random_where(l, depth - 1), random_where(l, depth - 1))
                    : coulomb_or(random_where(l, depth - 1), random_where(l, depth - 1));
}

/* The same condition of another collection with the same columns. */
static coulomb_expr *again(struct live *l, unsigned seed)
{
    rolled = seed;
    return random_where(l, 3);
}

/* Every row that the condition wants of all rows is there. */
static void check_loaded(struct live *all, struct live *l, unsigned seed)
{
    coulomb_snapshot_options o;
    coulomb_result *r;
    coulomb_expr *e = again(all, seed);

    assert_non_null(e);
    coulomb_options_init(&o, sizeof(o));
    o.where = e;
    OK(coulomb_snapshot(all->coll, &o, &r));
    for (size_t i = 0; i < coulomb_result_count(r); i++) {
        const coulomb_row *row = coulomb_result_row(r, i);
        const coulomb_row *mine = coulomb_get(l->coll, coulomb_row_key(row));

        if (!mine)
            fail_msg("seed %u: row %lld was not loaded", seed,
                     (long long)coulomb_row_key(row).i);
        assert_int_equal(coulomb_row_equal(row, mine), 1);
    }
    coulomb_result_free(r);
    coulomb_expr_free(e);
}

static void conditions_load_what_they_match(void **state)
{
    struct live *all;

    (void)state;
    make_table("conditions");
    fill("conditions", 60);
    all = live_open("conditions", COULOMB_EAGER);
    converge(all);
    for (unsigned seed = 1; seed <= 60; seed++) {
        struct live *l = live_open("conditions", COULOMB_ON_DEMAND);
        coulomb_expr *e = again(l, seed);
        coulomb_sub *sub;

        assert_non_null(e);
        sub = want(l, e, NULL, 0);
        coulomb_expr_free(e);
        check_loaded(all, l, seed);
        coulomb_unsubscribe(sub);
        live_close(l);
    }
    live_close(all);
}

static bool has_5_of_qty_3(void *arg)
{
    struct live *l = arg;
    size_t n = 0;

    for (int64_t i = 0; i < 100; i++) {
        const coulomb_row *row = coulomb_get(l->coll, coulomb_key_int(i));

        n += row && coulomb_row_int(row, "qty", -1) == 3;
    }
    return n == 5;
}

static void on_demand_rows_are_kept_up_to_date(void **state)
{
    struct live *l;
    coulomb_order order = {.column = "id", .descending = 1};
    coulomb_expr *e;
    coulomb_sub *a;
    coulomb_sub *b;

    (void)state;
    make_table("demand");
    sql("INSERT INTO demand (id, qty) SELECT i, i %% 10 FROM generate_series(1, 50) i");
    l = live_open("demand", COULOMB_ON_DEMAND);
    e = coulomb_where(l->coll, "qty", COULOMB_EQ, coulomb_int(3));
    a = want(l, e, NULL, 0);
    coulomb_expr_free(e);
    assert_int_equal(coulomb_size(l->coll), 5);
    b = want(l, NULL, &order, 4);
    assert_int_equal(coulomb_size(l->coll), 9);
    assert_non_null(coulomb_get(l->coll, coulomb_key_int(50)));
    assert_null(coulomb_get(l->coll, coulomb_key_int(45)));
    /* Rows that become wanted, stop being so, go. */
    sql("UPDATE demand SET qty = 8 WHERE id = 3");
    sql("DELETE FROM demand WHERE id = 13");
    sql("UPDATE demand SET qty = 3 WHERE id IN (4, 5)");
    poll_until(l->c, has_5_of_qty_3, l);
    sql("TRUNCATE demand");
    sql("INSERT INTO demand (id, qty) SELECT i, 3 FROM generate_series(1, 5) i");
    poll_until(l->c, has_5_of_qty_3, l);
    coulomb_unsubscribe(a);
    coulomb_unsubscribe(b);
    live_close(l);
}

/* --- Progressive, resuming ------------------------------------------------------------------------------------ */

static void progressive_ends_with_everything(void **state)
{
    struct live *l;
    coulomb_expr *e;
    coulomb_sub *sub;

    (void)state;
    make_table("steps");
    fill("steps", 200);
    l = live_open("steps", COULOMB_PROGRESSIVE);
    e = coulomb_where(l->coll, "qty", COULOMB_EQ, coulomb_int(3));
    sub = want(l, e, NULL, 0);
    coulomb_expr_free(e);
    assert_true(coulomb_size(l->coll) >= 18);
    converge(l);
    sql("UPDATE steps SET qty = 3 WHERE id < 9");
    converge(l);
    coulomb_unsubscribe(sub);
    live_close(l);
}

static bool has_100(void *arg)
{
    return coulomb_has(((struct live *)arg)->coll, coulomb_key_int(100)) == 1;
}

static void an_export_goes_on_elsewhere(void **state)
{
    struct live *l;
    struct live *m = calloc(1, sizeof(*m));
    coulomb_electric_options o;
    const void *meta;
    size_t len;

    (void)state;
    make_table("handed");
    fill("handed", 20);
    l = live_open("handed", COULOMB_EAGER);
    converge(l);
    o = live_options(m, "handed", COULOMB_EAGER);
    OK(net_client_open(&m->heap, NULL, &m->c));
    OK(coulomb_electric_collection_open(m->c, &o, &m->coll));
    OK(coulomb_collection_export_meta(l->coll, &meta, &len));
    OK(coulomb_collection_import_meta(m->coll, meta, len));
    sql("INSERT INTO handed (id) VALUES (100)");
    OK(coulomb_collection_start(m->coll));
    poll_until(m->c, has_100, m);
    assert_int_equal(coulomb_size(m->coll), 1); /* only what came since */
    live_close(l);
    live_close(m);
}

/* --- All together ---------------------------------------------------------------------------------------------- */

static void storm_step(void)
{
    unsigned id = roll(80);

    switch (roll(7)) {
    case 0:
        sql("INSERT INTO storm (id, qty, done) VALUES (%u, %u, true) ON CONFLICT DO "
            "NOTHING",
            id, roll(10));
        break;
    case 1:
        sql("DELETE FROM storm WHERE id = %u", id);
        break;
    case 2:
        sql("BEGIN; UPDATE storm SET qty = %u WHERE id = %u; DELETE FROM storm WHERE id "
            "= %u; "
            "INSERT INTO storm (id, qty) VALUES (%u, 1) ON CONFLICT DO NOTHING; COMMIT",
            roll(10), id, id + 1, id + 2);
        break;
    case 3:
        sql("UPDATE storm SET name = 'n%u' WHERE id BETWEEN %u AND %u", roll(100), id,
            id + 5);
        break;
    case 4:
        if (roll(40) == 0)
            sql("TRUNCATE storm");
        break;
    case 5:
        if (roll(40) == 0) {
            served_kill(server);
            served_start(server);
        }
        break;
    default:
        sql("UPDATE storm SET qty = %u WHERE id = %u", roll(10), id);
        break;
    }
}

/* Of the on-demand one: what it wants is there, and what is there is right. */
static bool demand_converged(void *arg)
{
    struct live *l = arg;
    PGresult *r = PQexec(pg, "SELECT id, name, qty, price, ratio, done, at, tag, labels, "
                             "qty >= 3 FROM storm");
    size_t found = 0;
    bool same = true;

    for (int i = 0; i < PQntuples(r); i++) {
        bool wanted = PQgetvalue(r, i, 9)[0] == 't';
        bool there =
            coulomb_has(l->coll,
                        coulomb_key_int(strtoll(PQgetvalue(r, i, 0), NULL, 10))) == 1;

        same = same && (there || !wanted) && (!there || same_row(l, r, i));
        found += there;
    }
    PQclear(r);
    return same && found == coulomb_size(l->coll);
}

static void a_storm_converges(void **state)
{
    struct live *lives[3];
    coulomb_expr *e;
    coulomb_sub *sub;

    (void)state;
    make_table("storm");
    fill("storm", 60);
    lives[0] = live_open("storm", COULOMB_EAGER);
    lives[1] = live_open("storm", COULOMB_PROGRESSIVE);
    lives[2] = live_open("storm", COULOMB_ON_DEMAND);
    e = coulomb_where(lives[2]->coll, "qty", COULOMB_GTE, coulomb_int(3));
    sub = want(lives[2], e, NULL, 0);
    coulomb_expr_free(e);
    rolled = 99;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 100; i++) {
            storm_step();
            for (int k = 0; k < 3; k++)
                assert_true(coulomb_poll(lives[k]->c) >= 0);
        }
        converge(lives[0]);
        converge(lives[1]);
        poll_until(lives[2]->c, demand_converged, lives[2]);
    }
    coulomb_unsubscribe(sub);
    for (int k = 0; k < 3; k++)
        live_close(lives[k]);
}

static int setup(void **state)
{
    (void)state;
    cluster = pgcluster_new(NULL);
    server = served_new(pgcluster_url(cluster), NULL);
    pg = PQconnectdb(pgcluster_url(cluster));
    sql("SET timezone = 'UTC'");
    sql("SET client_min_messages = warning");
    return PQstatus(pg) == CONNECTION_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    PQfinish(pg);
    served_free(server);
    pgcluster_free(cluster);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eager_follows_the_table),
        cmocka_unit_test(a_truncate_is_a_refetch),
        cmocka_unit_test(a_server_that_is_killed_comes_back),
        cmocka_unit_test(handlers_see_their_rows_come_back),
        cmocka_unit_test(a_write_elsewhere_is_over_by_its_position),
        cmocka_unit_test(a_transaction_of_the_snapshot_is_seen),
        cmocka_unit_test(conditions_load_what_they_match),
        cmocka_unit_test(on_demand_rows_are_kept_up_to_date),
        cmocka_unit_test(progressive_ends_with_everything),
        cmocka_unit_test(an_export_goes_on_elsewhere),
        cmocka_unit_test(a_storm_converges),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
