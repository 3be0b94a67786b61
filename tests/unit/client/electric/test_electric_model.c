/* Random histories against a naive database: transactions, a log that is delivered in pieces, subsets
 * whose snapshots are ahead of the log or (a commit is streamed before it is shown) behind it,
 * refetches, subscriptions that come and go. When all is delivered every row of the collection is as in
 * the database, and all rows that somebody wants are there. On the way, what a subscriber hears has no
 * insert of a row that is there, no change of one that is not. */
#include "support/electric.h"

#define IDS      12
#define TXS_MAX  4000
#define SUBS_MAX 6

static struct feed f;

static uint64_t random_state;

static unsigned roll(unsigned n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % n;
}

/* --- The database ----------------------------------------------------------------------------------- */

struct change {
    int64_t id;
    int64_t from; /* -2: there was none */
    int64_t to;   /* -2: it goes */
};

struct txn {
    struct change changes[3];
    size_t count;
};

/* Transaction n (from 1) has txid FIRST + n and lsn 100 * n. */
#define FIRST 5000u

static struct txn txns[TXS_MAX];
static size_t latest; /* committed */

static void state_at(size_t n, int64_t rows[IDS])
{
    for (size_t i = 0; i < IDS; i++)
        rows[i] = -2;
    for (size_t t = 1; t <= n; t++) {
        for (size_t c = 0; c < txns[t].count; c++)
            rows[txns[t].changes[c].id] = txns[t].changes[c].to;
    }
}

static void write_txn(void)
{
    int64_t rows[IDS];
    struct txn *t;

    if (latest + 1 == TXS_MAX)
        return;
    state_at(latest, rows);
    t = &txns[++latest];
    t->count = 1 + roll(3);
    for (size_t c = 0; c < t->count; c++) {
        int64_t id = (int64_t)roll(IDS);
        int64_t to = roll(4) ? (int64_t)roll(10) : -2;

        t->changes[c] = (struct change){id, rows[id], to};
        rows[id] = to;
    }
}

/* --- The server's side -------------------------------------------------------------------------------- */

struct server {
    struct world *w;
    size_t delivered;
    size_t began;      /* the log begins behind it: every view has that */
    bool snapshot_due; /* eager: rows come first */
};

static void put_txn(size_t n)
{
    for (size_t c = 0; c < txns[n].count; c++) {
        const struct change *x = &txns[n].changes[c];

        if (x->from == -2 && x->to != -2)
            feed_insert(&f, FIRST + n, x->id, x->to);
        else if (x->to != -2 && fake->whole_rows)
            feed_change(&f, STREAM_UPDATE, FIRST + n, coulomb_int(x->id), "x",
                        coulomb_int(x->to));
        else if (x->to != -2)
            feed_update(&f, FIRST + n, x->id, x->to);
        else if (x->from != -2)
            feed_delete(&f, FIRST + n, x->id);
    }
}

static void put_rows(size_t n, int64_t low, int64_t high)
{
    int64_t rows[IDS];

    state_at(n, rows);
    for (int64_t i = 0; i < IDS; i++) {
        if (rows[i] >= low && rows[i] <= high)
            feed_insert(&f, 0, i, rows[i]);
    }
}

/* Half of an answer, or all of it. */
static void send(struct server *s, bool whole)
{
    if (whole)
        feed_up_to_date(&f, 100 * s->delivered);
    if (f.count > 0)
        assert_int_equal(feed_send_as(&f, fake, whole ? "9_0" : NULL, !whole),
                         COULOMB_OK);
}

static void deliver(struct server *s, size_t count, bool whole)
{
    if (s->snapshot_due) {
        put_rows(latest, 0, 100);
        feed_view(&f, FIRST + latest + 1, FIRST + latest + 1, NULL, 0);
        s->delivered = latest;
        s->snapshot_due = false;
        if (roll(2))
            send(s, false);
    }
    while (count-- > 0 && s->delivered < latest) {
        put_txn(++s->delivered);
        if (f.count > FEED_MAX - 8)
            send(s, false);
    }
    send(s, whole);
}

static void refetch(struct server *s)
{
    feed_refetch(&f);
    assert_int_equal(feed_send_as(&f, fake, NULL, false), COULOMB_OK);
    if (fake->changes_only) {
        feed_view(&f, FIRST + latest + 1, FIRST + latest + 1, NULL, 0);
        s->delivered = s->began = latest;
        send(s, roll(2));
    } else {
        s->snapshot_due = true;
    }
}

/* A commit that is streamed before others see it is of rows that are known: a row that such an update
 * makes one that was asked for only later is missed. */
static bool has_updates(size_t n)
{
    for (size_t c = 0; c < txns[n].count; c++) {
        if (txns[n].changes[c].from != -2 && txns[n].changes[c].to != -2)
            return true;
    }
    return false;
}

/* "qty" >= $1 AND "qty" <= $2, as the subscriptions below have it. */
static void answer_request(struct server *s, size_t n)
{
    const struct fake_request *r = &fake->requests[n];
    bool early = s->delivered > s->began && !has_updates(s->delivered);
    size_t low = early ? s->delivered - 1 : s->delivered;
    size_t view = low + roll((unsigned)(latest - low + 1));

    /* A stream that begins at "now" begins where the first answer says. */
    if (fake->from_now && !fake->up_to_date && s->delivered == 0)
        s->delivered = view;
    assert_int_equal(r->param_count, 2);
    put_rows(view, strtoll(r->params[0], NULL, 10), strtoll(r->params[1], NULL, 10));
    fake_answer(n, &f, FIRST + view + 1, FIRST + view + 1, 100 * view + 1);
}

/* --- The client's side ---------------------------------------------------------------------------------- */

static int64_t folded[IDS];

static void fold(coulomb_collection *coll, const coulomb_change *changes, size_t count,
                 void *arg)
{
    (void)coll;
    (void)arg;
    for (size_t i = 0; i < count; i++) {
        int64_t *at = &folded[changes[i].key.i];

        if (changes[i].type == COULOMB_INSERT)
            assert_int_equal(*at, -2);
        else
            assert_int_not_equal(*at, -2);
        *at = changes[i].type == COULOMB_DELETE
                  ? -2
                  : coulomb_row_int(changes[i].row, "qty", -1);
    }
}

struct wanting {
    coulomb_sub *sub;
    int64_t low;
    int64_t high;
};

static void ignore(coulomb_collection *coll, const coulomb_change *changes, size_t count,
                   void *arg)
{
    (void)coll;
    (void)changes;
    (void)count;
    (void)arg;
}

static void want(struct world *w, struct wanting *s)
{
    coulomb_sub_options o;
    coulomb_expr *e;

    s->low = (int64_t)roll(10);
    s->high = s->low + (int64_t)roll(5);
    e = coulomb_and(coulomb_where(w->coll, "qty", COULOMB_GTE, coulomb_int(s->low)),
                    coulomb_where(w->coll, "qty", COULOMB_LTE, coulomb_int(s->high)));
    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_ROWS;
    o.where = e;
    OK(coulomb_subscribe(w->coll, &o, ignore, NULL, &s->sub));
    coulomb_expr_free(e);
}

static void toggle(struct world *w, struct wanting subs[SUBS_MAX])
{
    struct wanting *s = &subs[roll(SUBS_MAX)];

    if (s->sub) {
        coulomb_unsubscribe(s->sub);
        s->sub = NULL;
    } else {
        want(w, s);
    }
}

static void answer_some(struct server *s, unsigned one_in)
{
    for (size_t n = 0; n < fake->request_count; n++) {
        if (fake->requests[n].open && roll(one_in) == 0)
            answer_request(s, n);
    }
}

/* The fake's list of requests begins anew when none is open. */
static void reuse_requests(void)
{
    if (fake_open_requests() == 0)
        fake->request_count = 0;
}

static void settle(struct server *s)
{
    for (int i = 0; i < 30; i++) {
        poll_all(s->w);
        while (fake->refresh_first < fake->refresh_count)
            fake_refreshed(COULOMB_OK);
        poll_all(s->w);
        answer_some(s, 1);
        deliver(s, TXS_MAX, true);
        poll_all(s->w);
    }
}

static void check(struct world *w, const struct wanting subs[SUBS_MAX], bool all)
{
    int64_t rows[IDS];

    state_at(latest, rows);
    for (int64_t i = 0; i < IDS; i++) {
        int64_t mine = qty(w, i);
        bool wanted = all;

        for (size_t k = 0; k < SUBS_MAX; k++)
            wanted = wanted ||
                     (subs[k].sub && rows[i] >= subs[k].low && rows[i] <= subs[k].high);
        if (mine != -2 || (wanted && rows[i] != -2))
            assert_int_equal(mine, rows[i]);
        assert_int_equal(folded[i], mine);
        if (mine != -2)
            assert_int_equal(
                coulomb_row_text(coulomb_get(w->coll, coulomb_key_int(i)), "name").len,
                1);
    }
    for (size_t k = 0; k < SUBS_MAX; k++) {
        if (subs[k].sub)
            assert_false(coulomb_sub_loading(subs[k].sub));
    }
}

static void step(struct server *s, struct wanting subs[SUBS_MAX])
{
    switch (roll(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        write_txn();
        break;
    case 4:
    case 5:
        deliver(s, roll(3), roll(2));
        break;
    case 6:
    case 7:
        answer_some(s, 2);
        break;
    case 8:
    case 9:
        toggle(s->w, subs);
        break;
    case 10:
        if (fake->refresh_first < fake->refresh_count)
            fake_refreshed(roll(3) ? COULOMB_OK : COULOMB_E_NETWORK);
        else
            s->w->now_ms += 100;
        break;
    default:
        if (roll(6) == 0)
            refetch(s);
        break;
    }
    if (roll(2))
        poll_all(s->w);
    reuse_requests();
}

static void history(coulomb_electric_mode mode, uint64_t seed)
{
    struct world *w = electric_open(mode);
    struct server s = {.w = w, .snapshot_due = mode != COULOMB_ON_DEMAND};
    struct wanting subs[SUBS_MAX] = {{0}};
    coulomb_sub_options o;

    random_state = seed;
    latest = 0;
    for (size_t i = 0; i < IDS; i++)
        folded[i] = -2;
    for (int i = 0; i < 5; i++)
        write_txn();
    coulomb_options_init(&o, sizeof(o));
    o.initial = COULOMB_INITIAL_UNFILTERED;
    OK(coulomb_subscribe(w->coll, &o, fold, NULL, &w->sub));
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < 60; i++)
            step(&s, subs);
        settle(&s);
        check(w, subs, mode != COULOMB_ON_DEMAND);
        reuse_requests();
    }
    for (size_t k = 0; k < SUBS_MAX; k++)
        coulomb_unsubscribe(subs[k].sub);
    electric_close(w);
}

static void run(coulomb_electric_mode mode)
{
    const char *rounds = getenv("MODEL_ROUNDS");
    uint64_t count = rounds ? strtoull(rounds, NULL, 10) : 40;

    for (uint64_t seed = 1; seed <= count; seed++)
        history(mode, seed);
}

static void eager_histories(void **state)
{
    (void)state;
    run(COULOMB_EAGER);
}

static void on_demand_histories(void **state)
{
    (void)state;
    run(COULOMB_ON_DEMAND);
}

static void progressive_histories(void **state)
{
    (void)state;
    run(COULOMB_PROGRESSIVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eager_histories),
        cmocka_unit_test(on_demand_histories),
        cmocka_unit_test(progressive_histories),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
