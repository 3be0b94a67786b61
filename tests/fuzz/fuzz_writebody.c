/* fuzz: server/write */
/*
 * Bodies of writes: transactions, changes, arguments, the body of a route; and the SQL that they
 * become. Names that are not the model's columns never get into a statement: outside of quotes it
 * has the letters of our own words only.
 */
#include <stdint.h>
#include <stdlib.h>

#include "server/write/route.h"
#include "server/write/statement.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct write_limits limits = {50, 5};

static const struct table *model(void)
{
    static struct table_column columns[] = {
        {.name = {"id", 2}, .type_oid = 23, .not_null = true},
        {.name = {"v", 1}, .type_oid = 25, .pk_index = -1},
        {.name = {"j", 1}, .type_oid = 3802, .pk_index = -1},
        {.name = {"a", 1}, .type_oid = 1007, .dims = 1, .pk_index = -1}};
    static uint16_t pk[] = {0};
    static const struct table table = {.schema = {"public", 6},
                                       .name = {"t", 1},
                                       .has_pk = true,
                                       .column_count = 4,
                                       .pk_count = 1,
                                       .columns = columns,
                                       .pk = pk};
    static struct table *made;

    if (!made)
        made = table_copy(&table);
    if (!made)
        abort();
    return made;
}

static void check_sql(const struct write_statement *s)
{
    static const char allowed[] = "\"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789_.,()$ =*:<>";
    if (strspn(s->sql, allowed) != strlen(s->sql))
        abort();
    for (int i = 0; i < s->count; i++)
        if (s->values[i] && !slice_is_utf8(slice_of(s->values[i])))
            abort();
}

static void build(struct write_job *job, const struct write_transaction *t)
{
    for (size_t i = 0; i < t->count; i++) {
        struct write_statement s;
        int rc = write_statement_mutation(job, &t->mutations[i], (int)i, model(), &s);

        if (rc == 0)
            check_sql(&s);
        else if (rc == ERR_INVALID && job->result.failure == WRITE_DONE)
            abort();
    }
}

static const struct routes *routes(void)
{
    static const char text[] =
        "{\"routes\":[{\"method\":\"PUT\",\"path\":\"/t/"
        ":id\",\"id\":\"body.w\",\"update\":"
        "{\"table\":\"t\",\"key\":{\"id\":\"path.id\"},\"values\":{\"v\":\"body.v\","
        "\"j\":\"body.j\",\"a\":\"body.a\"}}},{\"method\":\"POST\",\"path\":\"/f\","
        "\"function\":{\"name\":\"f\"}}]}";
    static struct routes *made;

    if (!made && routes_new(SLICE_LIT(text), true, &made, NULL) != 0)
        abort();
    return made;
}

static void route(const char *method, const char *path, struct slice body)
{
    struct write_job *job = write_job_new();
    bool known;
    const struct route *r =
        routes_match(routes(), slice_of(method), slice_of(path), &known);

    if (!job || !r)
        abort();
    int rc = route_fill(r, slice_of(path), body, NULL, &limits, job);
    if (rc == ERR_INVALID && job->result.failure == WRITE_DONE)
        abort();
    if (rc == 0 && job->transaction)
        build(job, job->transaction);
    write_job_free(job);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct slice columns[] = {{"id", 2}, {"v", 1}, {"write_id", 8}};
    struct slice body = slice_make(size ? (const char *)data : "", size);
    struct write_job *job = write_job_new();
    struct write_transaction changes;
    struct write_batch batch;
    struct routes *file = NULL;
    struct err err = {0};
    struct buf list;

    if (!job)
        abort();
    if (write_batch_parse(body, &limits, &job->arena, &batch, &err) == 0)
        for (size_t i = 0; i < batch.count; i++)
            build(job, &batch.transactions[i]);
    err_clear(&err);
    if (write_changes_parse(body, SLICE_LIT("t"), columns, 3, &limits, &job->arena,
                            &changes, &err) == 0)
        build(job, &changes);
    buf_init(&list, 1u << 20);
    (void)write_put_array(body, true, &list, &err);
    buf_fini(&list);
    write_job_free(job);
    route("PUT", "/t/7", body);
    route("POST", "/f", body);
    if (routes_new(body, true, &file, &err) == 0)
        routes_free(file);
    return 0;
}
