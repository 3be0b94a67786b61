/* The reader alone: what becomes of every part of a message, of types, of events, of segments. */

#include "support/netclient.h"

#include "client/stream/reader.h"

struct world {
    struct heap *heap;
    struct schema *schema;
    struct reader r;
    struct segment *list;
};

#define COLUMN(name, type) "\"" name "\":{\"type\":\"" type "\"}"
static const char header[] =
    "{" COLUMN("id", "int4") "," COLUMN("b", "bool") "," COLUMN("f", "float8") "," COLUMN("n", "numeric") "," COLUMN("t", "varchar") "," COLUMN(
        "y",
        "bytea") "," COLUMN("u",
                            "uuid") "," COLUMN("d",
                                               "date") "," COLUMN("ts",
                                                                  "timestamptz") "," COLUMN("iv",
                                                                                            "interval") "," COLUMN("j",
                                                                                                                   "jsonb") "," COLUMN("m",
                                                                                                                                       "mood") ","
                                                                                                                                               "\"a\":{\"type\":\"int8\",\"dims\":1},\"p\":{\"type\":\"numeric\",\"precision\":4,"
                                                                                                                                               "\"scale\":[2,{\"x\":null}],\"not_null\":true,\"pk_index\":3}}";

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    const char *why;

    assert_non_null(w);
    w->heap = heap_new(NULL);
    w->schema = schema_parse(w->heap, slice_of(header), NULL, &why);
    assert_non_null(w->schema);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    segments_free(w->list);
    schema_release(w->schema);
    heap_release(w->heap);
    free(w);
    return 0;
}

static int read_all(struct world *w, enum reader_frame frame, const char *text)
{
    int code;

    segments_free(w->list);
    reader_init(&w->r, w->heap, frame, w->schema, 1 << 20);
    code = reader_feed(&w->r, slice_of(text));
    if (code == COULOMB_OK)
        code = reader_end(&w->r);
    w->list = reader_take(&w->r);
    reader_fini(&w->r);
    return code;
}

/* The only message of an array. */
static const struct stream_message *read_one(struct world *w, const char *message)
{
    char text[4000];

    snprintf(text, sizeof(text), "[%s]", message);
    OK(read_all(w, READER_ARRAY, text));
    assert_non_null(w->list);
    assert_int_equal(w->list->count, 1);
    return &w->list->messages[0];
}

static void refused(struct world *w, const char *message, const char *why)
{
    char text[4000];

    snprintf(text, sizeof(text), "[%s]", message);
    assert_int_equal(read_all(w, READER_ARRAY, text), COULOMB_E_PROTOCOL);
    if (!strstr(w->r.why, why))
        fail_msg("%s: \"%s\" instead of \"%s\"", message, w->r.why, why);
}

static bool is(coulomb_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

static void the_schema(void **state)
{
    struct world *w = *state;
    const struct stream_column *c = w->schema->columns;

    assert_int_equal(w->schema->count, 14);
    assert_string_equal(c[11].pg_type, "mood");
    assert_int_equal(c[11].type, COULOMB_TEXT);
    assert_int_equal(c[12].type, COULOMB_ARRAY);
    assert_int_equal(c[12].element, COULOMB_INT64);
    assert_int_equal(c[12].dims, 1);
    assert_int_equal(c[13].pk_index, 3);
    assert_true(c[13].not_null);
    assert_int_equal(c[0].pk_index, -1);
}

static void what_is_no_schema(void **state)
{
    struct world *w = *state;
    static const char *const texts[] = {"",    "[]",          "{",
                                        "{}x", "{\"id\":[]}", "{\"id\":{\"type\":\"a\"}"};
    const char *why;

    for (size_t i = 0; i < 6; i++) {
        assert_null(schema_parse(w->heap, slice_of(texts[i]), NULL, &why));
        assert_non_null(why);
    }
}

static void every_type_of_value(void **state)
{
    struct world *w = *state;
    static const char *const printed[] = {"-5",
                                          "t",
                                          "NaN",
                                          "1.50",
                                          "\xc3\xa4",
                                          "\\x00ff",
                                          "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                                          "2024-01-31",
                                          "2024-01-31 12:00:00.5+00",
                                          "P1DT2H",
                                          "{\"a\": 1}",
                                          "happy",
                                          "{1,NULL,3}"};
    const struct stream_message *m = read_one(
        w, "{\"key\":\"k\",\"value\":{\"id\":\"-5\",\"b\":\"t\",\"f\":\"NaN\",\"n\":\"1."
           "50\","
           "\"t\":\"\\u00e4\",\"y\":\"\\\\x00ff\",\"u\":\"a0eebc99-9c0b-4ef8-bb6d-"
           "6bb9bd380a11\","
           "\"d\":\"2024-01-31\",\"ts\":\"2024-01-31 12:00:00.5+00\",\"iv\":\"P1DT2H\","
           "\"j\":\"{\\\"a\\\": 1}\",\"m\":\"happy\",\"a\":\"{1,NULL,3}\",\"p\":null,"
           "\"unknown\":{\"x\":[1]}},\"headers\":{\"operation\":\"insert\"}}");

    for (size_t i = 0; i < 13; i++) {
        char text[100];
        size_t len;

        assert_int_equal(m->values[i].type, w->schema->columns[i].type);
        OK(coulomb_value_print(&m->values[i], text, sizeof(text), &len));
        assert_string_equal(text, printed[i]);
    }
    assert_int_equal(m->values[13].type, COULOMB_NULL);
    assert_null(m->old_values);
}

/* Servers send text; numbers and booleans are taken for theirs. */
static void values_that_are_no_strings(void **state)
{
    struct world *w = *state;
    const struct stream_message *m =
        read_one(w, "{\"key\":\"k\",\"value\":{\"id\":7,\"b\":false,\"t\":true},"
                    "\"headers\":{\"operation\":\"insert\"}}");

    assert_int_equal(m->values[0].v.i, 7);
    assert_int_equal(m->values[1].v.b, 0);
    assert_true(is((coulomb_str){m->values[4].v.s.ptr, m->values[4].v.s.len}, "true"));
    assert_int_equal(m->values[3].type, COULOMB_ABSENT);
}

static void everything_in_headers(void **state)
{
    struct world *w = *state;
    const struct stream_message *m = read_one(
        w, "{\"headers\":{\"operation\":\"update\",\"relation\":[\"public\",\"issues\"],"
           "\"txids\":[745,746,747,748,749],\"lsn\":\"18446744073709551615\",\"op_"
           "position\":4,"
           "\"last\":true,\"is_move_in\":true,\"tags\":[\"a//\",\"/b/"
           "1\"],\"removed_tags\":[],"
           "\"active_conditions\":[true,false,true],\"key_change_from\":\"k0\","
           "\"key_change_to\":\"k2\",\"new\":{\"x\":[]}},\"old_value\":{\"id\":\"1\"},"
           "\"value\":{\"id\":\"2\"},\"key\":\"k1\",\"more\":[{}]}");
    const struct stream_headers *h = m->headers;

    assert_int_equal(m->kind, STREAM_UPDATE);
    assert_true(is(m->key, "k1"));
    assert_true(is(h->schema, "public"));
    assert_true(is(h->table, "issues"));
    assert_int_equal(h->txid_count, 5);
    assert_int_equal(h->txids[0], 745);
    assert_int_equal(h->txids[4], 749);
    assert_true(h->has_lsn && h->lsn == UINT64_MAX);
    assert_true(h->has_position && h->op_position == 4);
    assert_true(h->last && h->move_in);
    assert_int_equal(h->tag_count, 2);
    assert_true(is(h->tags[1], "/b/1"));
    assert_true(h->has_removed_tags && h->removed_tag_count == 0);
    assert_int_equal(h->condition_count, 3);
    assert_true(h->conditions[0] && !h->conditions[1] && h->conditions[2]);
    assert_true(is(h->key_change_from, "k0"));
    assert_true(is(h->key_change_to, "k2"));
    assert_int_equal(m->values[0].v.i, 2);
    assert_int_equal(m->old_values[0].v.i, 1);
}

static void events_and_controls(void **state)
{
    struct world *w = *state;
    const struct stream_message *m = read_one(
        w, "{\"headers\":{\"event\":\"move-out\",\"patterns\":[{\"pos\":0,\"value\":"
           "\"9a\"},{\"value\":\"9b\",\"pos\":12}],\"txids\":[7]}}");

    assert_int_equal(m->kind, STREAM_MOVE_OUT);
    assert_int_equal(m->headers->pattern_count, 2);
    assert_int_equal(m->headers->patterns[1].pos, 12);
    assert_true(is(m->headers->patterns[1].value, "9b"));
    m = read_one(w, "{\"headers\":{\"event\":\"move-in\",\"patterns\":[],\"txids\":[]}}");
    assert_int_equal(m->kind, STREAM_MOVE_IN);
    m = read_one(
        w, "{\"headers\":{\"control\":\"snapshot-end\",\"xmin\":\"740\",\"xmax\":\"744\","
           "\"xip_list\":[\"741\",742]}}");
    assert_int_equal(m->kind, STREAM_SNAPSHOT_END);
    assert_int_equal(m->snapshot->xip_count, 2);
    assert_int_equal(m->snapshot->xip[1], 742);
    m = read_one(w, "{\"headers\":{\"control\":\"up-to-date\"}}");
    assert_false(m->headers->has_lsn);
    m = read_one(
        w, "{\"headers\":{\"control\":\"up-to-date\",\"global_last_seen_lsn\":\"7\"}}");
    assert_true(m->headers->has_lsn && m->headers->lsn == 7);
    m = read_one(w, "{\"headers\":{\"control\":\"must-refetch\"}}");
    assert_int_equal(m->kind, STREAM_MUST_REFETCH);
}

static void messages_that_are_refused(void **state)
{
    struct world *w = *state;

    refused(w, "1", "not a JSON object");
    refused(w, "{}", "without headers");
    refused(w, "{\"headers\":1}", "no object");
    refused(w, "{\"headers\":{}}", "without operation");
    refused(w, "{\"headers\":{\"operation\":\"insert\"}}", "without a key");
    refused(w, "{\"key\":1}", "no string");
    refused(w, "{\"value\":[]}", "no object");
    refused(w, "{\"value\":{\"id\":\"x\"}}", "column id (int4): \"x\" is no int64");
    refused(w, "{\"value\":{\"id\":{}}}", "column id is a JSON object");
    refused(w, "{\"value\":{\"b\":\"maybe\"}}", "is no bool");
    refused(w, "{\"value\":{\"ts\":\"soon\"}}", "is no timestamptz");
    refused(w, "{\"value\":{\"a\":\"{1\"}}", "is no array");
    refused(w, "{\"headers\":{\"control\":\"snapshot-end\"}}", "without xmin");
    refused(w, "{\"headers\":{\"txids\":[\"a\"]}}", "xid is not a number");
    refused(w, "{\"headers\":{\"tags\":[1]}}", "tag is not a string");
    refused(w, "{\"headers\":{\"active_conditions\":[1]}}", "condition is not a boolean");
    refused(w, "{\"headers\":{\"patterns\":[1]}}", "pattern is not an object");
    refused(w, "{\"key\":\"\\ud800\"}", "malformed");
    refused(w, "{\"key\":\"k\",}", "malformed");
}

static void rows_of_a_snapshot_share_their_headers(void **state)
{
    struct world *w = *state;
    const char *row =
        "{\"key\":\"k\",\"value\":{\"id\":\"1\"},\"headers\":{\"operation\":\"insert\","
        "\"relation\":[\"a\",\"b\"]}}";
    char text[2000];

    snprintf(text, sizeof(text),
             "[%s,%s,{\"key\":\"k\",\"headers\":{\"operation\":\"delete\"}},%s]", row,
             row, row);
    OK(read_all(w, READER_ARRAY, text));
    assert_int_equal(w->list->count, 4);
    assert_ptr_equal(w->list->messages[0].headers, w->list->messages[1].headers);
    assert_int_equal(w->list->messages[2].kind, STREAM_DELETE);
    assert_int_equal(w->list->messages[3].kind, STREAM_INSERT);
    assert_true(is(w->list->messages[3].headers->table, "b"));
    /* A change without a row has one, of absent columns. */
    assert_int_equal(w->list->messages[2].values[0].type, COULOMB_ABSENT);
}

static void segments_have_an_end(void **state)
{
    struct world *w = *state;
    static char text[400000];
    size_t n = 1;
    size_t counts[3];
    size_t i = 0;

    text[0] = '[';
    for (int k = 0; k < 2100; k++)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "%s{\"key\":\"k%d\",\"headers\":{\"operation\":\"insert\","
                              "\"relation\":[\"a\",\"b\"]}}",
                              k > 0 ? "," : "", k);
    snprintf(text + n, sizeof(text) - n, "]");
    OK(read_all(w, READER_ARRAY, text));
    for (struct segment *s = w->list; s; s = s->next) {
        assert_true(i < 3);
        counts[i++] = s->count;
        assert_true(is(s->messages[s->count - 1].headers->table, "b"));
    }
    assert_int_equal(i, 3);
    assert_int_equal(counts[0], SEGMENT_MESSAGES_MAX);
    assert_int_equal(counts[0] + counts[1] + counts[2], 2100);
}

/* A change of a wide table has few of its columns: until it is delivered it takes no more. */
static void rows_of_wide_tables_are_packed(void **state)
{
    struct world *w = *state;
    static char columns[100000];
    static char text[400000];
    size_t n = 0;
    size_t bytes = 0;
    size_t messages = 0;
    const char *why;

    for (int i = 0; i < 1000; i++)
        n += (size_t)snprintf(columns + n, sizeof(columns) - n,
                              "%c\"c%d\":{\"type\":\"int4\"}", i > 0 ? ',' : '{', i);
    snprintf(columns + n, sizeof(columns) - n, "}");
    schema_release(w->schema);
    w->schema = schema_parse(w->heap, slice_of(columns), NULL, &why);
    assert_non_null(w->schema);
    n = 0;
    for (int i = 0; i < 1000; i++)
        n += (size_t)snprintf(
            text + n, sizeof(text) - n,
            "%c{\"key\":\"k\",\"value\":{\"c0\":\"1\",\"c999\":\"%d\",\"c0\":"
            "\"%d\"},\"old_value\":{\"c7\":null},\"headers\":{\"operation\":"
            "\"update\"}}",
            i > 0 ? ',' : '[', i, i);
    snprintf(text + n, sizeof(text) - n,
             ",{\"key\":\"k\",\"headers\":{\"operation\":\"delete\"}}]");
    OK(read_all(w, READER_ARRAY, text));
    for (struct segment *s = w->list; s; s = s->next)
        bytes += s->bytes;
    assert_true(bytes < 1000000); /* of 48 MB */
    for (struct segment *s = w->list; s; s = s->next) {
        assert_true(s->count <= SEGMENT_CELLS_MAX / 1000);
        OK(segment_unpack(s));
        OK(segment_unpack(s)); /* once is enough */
        for (size_t i = 0; i < s->count; i++, messages++) {
            const struct stream_message *m = &s->messages[i];
            bool last = messages == 1000;

            assert_int_equal(m->values[0].type, last ? COULOMB_ABSENT : COULOMB_INT64);
            assert_int_equal(m->values[500].type, COULOMB_ABSENT);
            if (last)
                continue;
            assert_int_equal(m->values[0].v.i, messages);
            assert_int_equal(m->values[999].v.i, messages);
            assert_int_equal(m->old_values[7].type, COULOMB_NULL);
            assert_int_equal(m->old_values[8].type, COULOMB_ABSENT);
        }
    }
    assert_int_equal(messages, 1001);
}

static void a_subset(void **state)
{
    struct world *w = *state;
    const struct stream_message *m;

    OK(read_all(
        w, READER_SUBSET,
        "{\"metadata\":{\"snapshot_mark\":7,\"database_lsn\":\"20\",\"xmin\":\"1\","
        "\"xmax\":"
        "\"4\",\"xip_list\":[\"2\"]},\"data\":[{\"key\":\"k\",\"value\":{\"id\":\"1\"},"
        "\"headers\":{\"operation\":\"insert\",\"snapshot_mark\":7}}]}"));
    assert_int_equal(w->list->count, 2);
    m = &w->list->messages[1];
    assert_int_equal(m->kind, STREAM_SNAPSHOT_END);
    assert_true(m->snapshot->has_lsn && m->snapshot->database_lsn == 20);
    assert_true(m->snapshot->has_mark && m->snapshot->mark == 7);
    assert_int_equal(m->snapshot->xip[0], 2);
    assert_int_equal(read_all(w, READER_SUBSET, "{\"metadata\":{},\"data\":[]}"),
                     COULOMB_E_PROTOCOL);
    assert_int_equal(read_all(w, READER_SUBSET, ""), COULOMB_E_PROTOCOL);
}

/* --- Events --------------------------------------------------------------------------------------------------- */

/* The data of all events, each with a bar behind it. */
static void events(const char *text, const char *expected)
{
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        struct sse s;
        struct buf all;

        sse_init(&s, 1000, NULL);
        buf_init(&all, 1000);
        for (size_t at = 0; at < strlen(text); at += piece) {
            size_t left = strlen(text) - at;
            struct slice in = slice_make(text + at, left < piece ? left : piece);
            struct slice data;

            while (sse_next(&s, &in, &data)) {
                buf_put_slice(&all, data);
                buf_putc(&all, '|');
            }
            assert_int_equal(in.len, 0);
        }
        if (!slice_eq(buf_slice(&all), slice_of(expected)))
            fail_msg("pieces of %zu: %.*s", piece, (int)all.len, all.ptr);
        buf_fini(&all);
        sse_fini(&s);
    }
}

static void lines_of_event_streams(void **state)
{
    (void)state;
    events("data: a\n\ndata:b\n\n", "a|b|");
    events("data: a\r\n\r\ndata: b\r\rdata: c\n\n", "a|b|c|");
    events(": comment\nevent: x\nid: 1\nretry: 3\ndata: a\ndata:  b\n\n", "a\n b|");
    events("\n\n\nid: 1\n\ndata: a\n\n\n", "a|");
    events("\xEF\xBB\xBF"
           "data: a\n\n",
           "a|");
    events("data: unfinished", "");
    events("data: a\n", "");
    events("data\n\ndatax: b\n\ndata: c\n\n", "|c|");
}

static void an_event_over_the_maximum(void **state)
{
    struct sse s;
    struct slice in = SLICE_LIT("data: 0123456789\n\n");
    struct slice data;

    (void)state;
    sse_init(&s, 8, NULL);
    assert_false(sse_next(&s, &in, &data));
    assert_true(s.line.failed != 0);
    sse_fini(&s);
}

static void groups_of_events(void **state)
{
    struct world *w = *state;
    struct segment *list;

    reader_init(&w->r, w->heap, READER_EVENTS, w->schema, 1 << 20);
    OK(reader_feed(
        &w->r,
        SLICE_LIT("data: {\"key\":\"a\",\"headers\":{\"operation\":\"insert\"}}\n\n")));
    assert_null(reader_take_groups(&w->r));
    OK(reader_feed(
        &w->r,
        SLICE_LIT("data: {\"headers\":{\"control\":\"up-to-date\"}}\n\n"
                  "data: {\"key\":\"b\",\"headers\":{\"operation\":\"insert\"}}\n\n")));
    list = reader_take_groups(&w->r);
    assert_non_null(list);
    assert_int_equal(list->count, 2);
    assert_null(list->next);
    segments_free(list);
    assert_null(reader_take_groups(&w->r));
    OK(reader_feed(&w->r,
                   SLICE_LIT("data: {\"headers\":{\"control\":\"up-to-date\"}}\n\n"
                             "data: {\"headers\":{\"control\":\"up-to-date\"}}\n\n")));
    list = reader_take_groups(&w->r);
    assert_int_equal(list->count, 2);
    assert_int_equal(list->next->count, 1);
    segments_free(list);
    assert_int_equal(w->r.groups, 3);
    reader_fini(&w->r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(the_schema),
        TEST(what_is_no_schema),
        TEST(every_type_of_value),
        TEST(values_that_are_no_strings),
        TEST(everything_in_headers),
        TEST(events_and_controls),
        TEST(messages_that_are_refused),
        TEST(rows_of_a_snapshot_share_their_headers),
        TEST(segments_have_an_end),
        TEST(rows_of_wide_tables_are_packed),
        TEST(a_subset),
        TEST(lines_of_event_streams),
        TEST(an_event_over_the_maximum),
        TEST(groups_of_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
