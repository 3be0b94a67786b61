/* Behaviours T17 of tests/CLIENT.md: tags, conditions, moves. */
#include "client/electric/electric.h"
#include "support/electric.h"

static struct feed f;

static struct world *begin(void)
{
    struct world *w = electric_open(COULOMB_EAGER);

    feed_up_to_date(&f, 1);
    feed_send(&f);
    return w;
}

static void commit(void)
{
    feed_up_to_date(&f, 2);
    feed_send(&f);
}

static void tagged(int64_t id, const char *a, const char *b, const char *conditions)
{
    feed_insert(&f, 30, id, id);
    feed_tags(&f, a, b, conditions);
}

static void out(size_t pos, const char *value)
{
    feed_move(&f, STREAM_MOVE_OUT, pos, value);
    commit();
}

static void in(size_t pos, const char *value)
{
    feed_move(&f, STREAM_MOVE_IN, pos, value);
    commit();
}

/* The index holds nothing that no row has. */
static void check_index(struct world *w, size_t rows, size_t slots)
{
    const struct electric *e = w->coll->kind;

    assert_int_equal(e->tags.rows.live, rows);
    assert_int_equal(e->tags.slots.live, slots);
}

/* --- Without conditions: the last tag that goes takes the row along -------------------------------- */

static void t17_the_last_tag_takes_the_row(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "a", NULL, NULL);
    tagged(2, "a", "b", NULL);
    tagged(3, "b", NULL, NULL);
    commit();
    check_index(w, 3, 2);
    out(0, "a");
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 2), 2);
    assert_int_equal(qty(w, 3), 3);
    check_index(w, 2, 1);
    out(0, "b");
    assert_int_equal(coulomb_size(w->coll), 0);
    check_index(w, 0, 0);
    electric_close(w);
}

static void t17_updates_add_and_remove(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "a", NULL, NULL);
    feed_update(&f, 31, 1, 2);
    feed_tags(&f, "b", NULL, NULL);
    commit();
    out(0, "a"); /* b is left */
    assert_int_equal(qty(w, 1), 2);
    feed_update(&f, 32, 1, 3);
    feed_tags(&f, "c", NULL, NULL);
    feed_removed(&f, "b");
    commit();
    check_index(w, 1, 1);
    out(0, "b");
    assert_int_equal(qty(w, 1), 3);
    feed_update(&f, 33, 1, 4); /* without tags: they stay */
    commit();
    out(0, "c");
    assert_int_equal(qty(w, 1), -2);
    electric_close(w);
}

static void t17_a_delete_purges(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "a", "b", NULL);
    feed_delete(&f, 31, 1);
    commit();
    check_index(w, 0, 0);
    /* A row of that key without tags is none of the index's. */
    feed_insert(&f, 32, 1, 5);
    commit();
    out(0, "a");
    assert_int_equal(qty(w, 1), 5);
    electric_close(w);
}

static void t17_an_insert_begins_anew(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "a", NULL, NULL);
    tagged(1, "b", NULL, NULL);
    commit();
    out(0, "a");
    assert_int_equal(qty(w, 1), 1);
    out(0, "b");
    assert_int_equal(qty(w, 1), -2);
    electric_close(w);
}

static void t17_moves_before_any_tag_are_ignored(void **state)
{
    struct world *w = begin();

    (void)state;
    feed_insert(&f, 30, 1, 1);
    out(0, "a");
    in(0, "a");
    assert_int_equal(qty(w, 1), 1);
    electric_close(w);
}

static void t17_other_lengths_are_ignored(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "a/b", NULL, NULL);
    tagged(2, "a", NULL, NULL);      /* of another shape */
    tagged(3, "a/b", "a/b/c", NULL); /* one of the two is */
    commit();
    check_index(w, 2, 2);
    out(0, "a");
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 2), 2);
    assert_int_equal(qty(w, 3), -2);
    electric_close(w);
}

static void t17_empty_slots_match_nothing(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "a//c", NULL, NULL);
    tagged(2, "//c", NULL, NULL);
    tagged(3, "a//", NULL, NULL);
    commit();
    out(1, "");
    out(0, "");
    assert_int_equal(coulomb_size(w->coll), 3);
    out(0, "a");
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 2), 2);
    assert_int_equal(qty(w, 3), -2);
    electric_close(w);
}

static void t17_several_patterns_at_once(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "a", NULL, NULL);
    tagged(2, "b", NULL, NULL);
    tagged(3, "a", "b", NULL);
    tagged(4, "c", NULL, NULL);
    commit();
    feed_move(&f, STREAM_MOVE_OUT, 0, "a");
    feed_pattern(&f, 0, "b");
    feed_pattern(&f, 0, "nobody");
    feed_pattern(&f, 9, "c"); /* no such position */
    commit();
    assert_int_equal(coulomb_size(w->coll), 1);
    assert_int_equal(qty(w, 4), 4);
    electric_close(w);
}

/* --- With conditions: a row is there while some disjunct is true ------------------------------------ */

/* (x IN S AND p) OR y IN T: positions 0, 1 | 2. */
static void t17_disjuncts(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "x/1/", "//y", "111");
    tagged(2, "x/1/", "//y", "110");
    tagged(3, "x/1/", "//y", "001");
    tagged(4, "x/1/", "//z", "100"); /* not there, really: p is false */
    commit();
    out(0, "x");
    assert_int_equal(qty(w, 1), 1); /* by y */
    assert_int_equal(qty(w, 2), -2);
    assert_int_equal(qty(w, 3), 3);
    assert_int_equal(qty(w, 4), -2);
    out(2, "y");
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 3), -2);
    check_index(w, 0, 0);
    electric_close(w);
}

static void t17_a_move_in_makes_true_and_shows_nothing(void **state)
{
    struct world *w = begin();
    size_t revision;

    (void)state;
    tagged(1, "x/1/", "//y", "011");
    commit();
    watch(w, COULOMB_INITIAL_ROWS);
    revision = coulomb_revision(w->coll);
    in(0, "x");
    poll_all(w);
    assert_int_equal(w->heard.count, 0);
    assert_int_equal(coulomb_revision(w->coll), revision);
    out(2, "y"); /* by x it stays */
    assert_int_equal(qty(w, 1), 1);
    out(0, "x");
    assert_int_equal(qty(w, 1), -2);
    electric_close(w);
}

static void t17_cycles(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "x/1/", "//y", "111");
    commit();
    for (int i = 0; i < 5; i++) {
        out(0, "x");
        assert_int_equal(qty(w, 1), 1);
        in(0, "x");
        out(2, "y");
        assert_int_equal(qty(w, 1), 1);
        in(2, "y");
    }
    out(0, "x");
    out(2, "y");
    assert_int_equal(qty(w, 1), -2);
    electric_close(w);
}

static void t17_nothing_comes_back_by_a_move_in_alone(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "x", NULL, "1");
    commit();
    out(0, "x");
    in(0, "x");
    assert_int_equal(qty(w, 1), -2);
    tagged(1, "x", NULL, "1"); /* its row does */
    feed_last(&f)->move_in = true;
    feed_last(&f)->has_lsn = false;
    feed_last(&f)->txid_count = 0;
    commit();
    assert_int_equal(qty(w, 1), 1);
    out(0, "x");
    assert_int_equal(qty(w, 1), -2);
    electric_close(w);
}

static void t17_conditions_are_overwritten(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "x/1/", "//y", "111");
    feed_update(&f, 31, 1, 2);
    feed_tags(&f, "x/1/", "//y", "001");
    commit();
    out(2, "y");
    assert_int_equal(qty(w, 1), -2);
    /* An update without them leaves them. */
    tagged(2, "x/1/", "//y", "001");
    feed_update(&f, 31, 2, 3);
    commit();
    out(2, "y");
    assert_int_equal(qty(w, 2), -2);
    electric_close(w);
}

static void t17_a_move_in_one_batch_with_its_rows(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "x", NULL, "1");
    commit();
    watch(w, COULOMB_INITIAL_ROWS);
    feed_move(&f, STREAM_MOVE_OUT, 0, "x");
    feed_move(&f, STREAM_MOVE_IN, 0, "z");
    tagged(2, "z", NULL, "1");
    feed_last(&f)->move_in = true;
    feed_view(&f, 50, 50, NULL, 0);
    commit();
    poll_all(w);
    assert_int_equal(w->heard.batches, 1);
    assert_int_equal(w->heard.count, 2);
    electric_close(w);
}

static void a_slot_that_is_too_long_ends_the_stream(void **state)
{
    static char slot[5001];
    struct world *w = begin();

    (void)state;
    memset(slot, 'a', 4092);
    tagged(1, slot, NULL, NULL);
    commit();
    assert_int_equal(qty(w, 1), 1);
    out(0, slot);
    assert_int_equal(qty(w, 1), -2);
    memset(slot, 'a', 5000);
    tagged(1, slot, NULL, NULL);
    assert_int_equal(feed_send_as(&f, fake, "5_0", false), COULOMB_E_PROTOCOL);
    assert_non_null(strstr(coulomb_last_error(w->c)->message, "5000 bytes"));
    electric_close(w);
}

static void t17_a_refetch_forgets_tags(void **state)
{
    struct world *w = begin();

    (void)state;
    tagged(1, "a/b", NULL, NULL);
    commit();
    feed_refetch(&f);
    tagged(1, "a", NULL, NULL); /* even their length */
    tagged(2, "b", NULL, NULL);
    commit();
    check_index(w, 2, 2);
    out(0, "a");
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 2), 2);
    electric_close(w);
}

static void t17_the_swap_keeps_the_logs_tags(void **state)
{
    struct world *w = electric_open(COULOMB_PROGRESSIVE);

    (void)state;
    tagged(1, "a", NULL, NULL);
    tagged(2, "b", NULL, NULL);
    feed_send_part(&f);
    feed_move(&f, STREAM_MOVE_OUT, 0, "b"); /* while unseen */
    commit();
    assert_int_equal(coulomb_size(w->coll), 1);
    out(0, "a");
    assert_int_equal(coulomb_size(w->coll), 0);
    electric_close(w);
}

/* What a store would keep: tags come back with the rows' metadata. */
static void t17_metadata_has_the_tags(void **state)
{
    struct world *w = begin();
    const void *meta;
    size_t len;
    struct electric *e = w->coll->kind;

    (void)state;
    tagged(1, "x/1/", "//y", "111");
    commit();
    out(0, "x");
    OK(coulomb_sync_row_meta_get(w->coll->session, coulomb_key_int(1), &meta, &len));
    assert_int_equal(
        len,
        strlen("{\"tags\":[\"x/1/\",\"//y\"],\"active_conditions\":[false,true,true]}"));
    assert_memory_equal(
        meta, "{\"tags\":[\"x/1/\",\"//y\"],\"active_conditions\":[false,true,true]}",
        len);
    tags_clear(&e->tags);
    OK(rows_adopt(e));
    check_index(w, 1, 2);
    out(2, "y");
    assert_int_equal(qty(w, 1), -2);
    OK(coulomb_sync_row_meta_get(w->coll->session, coulomb_key_int(1), &meta, &len));
    assert_null(meta);
    /* Metadata that is none is no reason to fail. */
    OK(tags_restore(&e->tags, coulomb_key_int(5),
                    SLICE_LIT("{\"tags\":[1,{}],\"x\":[[]]")));
    OK(tags_restore(&e->tags, coulomb_key_int(5), SLICE_LIT("nonsense")));
    OK(tags_restore(&e->tags, coulomb_key_int(5), SLICE_LIT("")));
    check_index(w, 0, 0);
    electric_close(w);
}

/* --- Random histories against a naive index ------------------------------------------------------------- */

#define ROWS 8
#define P    3

struct naive {
    bool there[ROWS];
    char hash[ROWS][P];
    bool on[ROWS][P];
};

static unsigned rolled = 3;

static unsigned roll(unsigned n)
{
    rolled = rolled * 1103515245 + 12345;
    return (rolled >> 16) % n;
}

/* Positions 0, 1 | 2. */
static bool holds(const struct naive *n, size_t r)
{
    return (n->on[r][0] && n->on[r][1]) || n->on[r][2];
}

static void random_row(struct naive *n, size_t r, bool insert)
{
    static char texts[FEED_MAX][4][16];
    char conditions[P + 1] = "";
    size_t i = f.count;

    snprintf(texts[i][2], 16, "%c/%c/", n->hash[r][0], n->hash[r][1]);
    snprintf(texts[i][3], 16, "//%c", n->hash[r][2]);

    for (size_t p = 0; p < P; p++) {
        n->hash[r][p] = (char)('a' + roll(3));
        n->on[r][p] = roll(3) > 0;
    }
    n->there[r] = holds(n, r);
    if (!n->there[r])
        n->there[r] = n->on[r][2] = true;
    for (size_t p = 0; p < P; p++)
        conditions[p] = n->on[r][p] ? '1' : '0';
    snprintf(texts[i][0], 16, "%c/%c/", n->hash[r][0], n->hash[r][1]);
    snprintf(texts[i][1], 16, "//%c", n->hash[r][2]);
    if (insert)
        feed_insert(&f, 30, (int64_t)r, 1);
    else
        feed_update(&f, 30, (int64_t)r, 1);
    feed_tags(&f, texts[i][0], texts[i][1], conditions);
    for (size_t t = 0; t < 2 && !insert; t++) {
        if (strcmp(texts[i][t], texts[i][t + 2]) != 0)
            feed_removed(&f, texts[i][t + 2]);
    }
}

static void random_move(struct naive *n, bool to)
{
    static char values[FEED_MAX][2];
    size_t i = f.count;
    size_t pos = roll(P);

    values[i][0] = (char)('a' + roll(3));
    values[i][1] = '\0';
    feed_move(&f, to ? STREAM_MOVE_IN : STREAM_MOVE_OUT, pos, values[i]);
    for (size_t r = 0; r < ROWS; r++) {
        if (n->there[r] && n->hash[r][pos] == values[i][0])
            n->on[r][pos] = to;
        n->there[r] = n->there[r] && holds(n, r);
    }
}

/* An update of a row that is not there is none of a server's. */
static void t17_random_histories(void **state)
{
    struct world *w = begin();
    struct naive n;

    (void)state;
    memset(&n, 0, sizeof(n));
    for (int step = 0; step < 3000; step++) {
        for (unsigned k = roll(8); k > 0; k--) {
            size_t r = roll(ROWS);

            switch (roll(6)) {
            case 0:
            case 1:
                random_row(&n, r, !n.there[r] || roll(2));
                break;
            case 2:
                if (n.there[r])
                    feed_delete(&f, 31, (int64_t)r);
                n.there[r] = false;
                break;
            case 3:
            case 4:
                random_move(&n, false);
                break;
            default:
                random_move(&n, true);
                break;
            }
        }
        commit();
        for (size_t r = 0; r < ROWS; r++)
            assert_int_equal(qty(w, (int64_t)r) != -2, n.there[r]);
    }
    electric_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(t17_the_last_tag_takes_the_row),
        cmocka_unit_test(t17_updates_add_and_remove),
        cmocka_unit_test(t17_a_delete_purges),
        cmocka_unit_test(t17_an_insert_begins_anew),
        cmocka_unit_test(t17_moves_before_any_tag_are_ignored),
        cmocka_unit_test(t17_other_lengths_are_ignored),
        cmocka_unit_test(t17_empty_slots_match_nothing),
        cmocka_unit_test(t17_several_patterns_at_once),
        cmocka_unit_test(t17_disjuncts),
        cmocka_unit_test(t17_a_move_in_makes_true_and_shows_nothing),
        cmocka_unit_test(t17_cycles),
        cmocka_unit_test(t17_nothing_comes_back_by_a_move_in_alone),
        cmocka_unit_test(t17_conditions_are_overwritten),
        cmocka_unit_test(t17_a_move_in_one_batch_with_its_rows),
        cmocka_unit_test(a_slot_that_is_too_long_ends_the_stream),
        cmocka_unit_test(t17_a_refetch_forgets_tags),
        cmocka_unit_test(t17_the_swap_keeps_the_logs_tags),
        cmocka_unit_test(t17_metadata_has_the_tags),
        cmocka_unit_test(t17_random_histories),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
