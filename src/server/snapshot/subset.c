/*
 * The body of a subset's answer:
 *
 *   {"metadata":{"snapshot_mark":N,"database_lsn":"…","xmin":"…","xmax":"…","xip_list":["…",…]},
 *    "data":[row,…]}
 *
 * database_lsn is where Postgres inserts into its WAL, read just after the view was taken. A client
 * keeps the view until it reads a change at or behind that position, and drops until then what the
 * view sees. Upstream tells pg_current_wal_lsn(), up to where WAL is written: a transaction that
 * committed asynchronously is seen while its commit is still behind that, and would come twice.
 * All that the view sees has its commit before the insert position.
 */

#include "server/snapshot/subset.h"

#include <inttypes.h>
#include <stdlib.h>

#define BODY_MAX_BYTES ((size_t)2 << 30) /* a row may have 1 GiB */

struct run {
    const struct subset_query *query;
    const struct subset_sink *sink;
    struct buf part;
    uint64_t rows;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "out of memory for the rows of a subset");
}

static int on_subscribe(void *ctx, struct err *err)
{
    (void)ctx;
    (void)err;
    return 0;
}

static void put_metadata(struct buf *out, uint32_t mark, const struct snapshot_view *view)
{
    buf_printf(out,
               "{\"metadata\":{\"snapshot_mark\":%" PRIu32 ",\"database_lsn\":\"%" PRIu64
               "\",\"xmin\":\"%" PRIu64 "\",\"xmax\":\"%" PRIu64 "\",\"xip_list\":[",
               mark, view->wal_lsn, view->xmin, view->xmax);
    for (size_t i = 0; i < view->xip_count; i++)
        buf_printf(out, "%s\"%" PRIu64 "\"", i > 0 ? "," : "", view->xip[i]);
    buf_puts(out, "]},\"data\":[");
}

static int on_joined(void *ctx, const struct snapshot_view *view, struct err *err)
{
    struct run *r = ctx;
    int rc = r->sink->seen(r->sink->ctx, view, err);

    if (rc != 0)
        return rc;
    put_metadata(&r->part, r->query->mark, view);
    return r->part.failed ? no_memory(err) : 0;
}

static int give_part(struct run *r, bool last, struct err *err)
{
    size_t len;
    char *bytes = buf_take(&r->part, &len);

    return bytes ? r->sink->part(r->sink->ctx, bytes, len, last, err) : no_memory(err);
}

static int on_row(void *ctx, struct slice json, struct err *err)
{
    struct run *r = ctx;

    if (r->rows++ > 0)
        buf_putc(&r->part, ',');
    json.len -= sizeof(ENCODE_END) - 1;
    buf_put_slice(&r->part, json);
    buf_printf(&r->part, ",\"snapshot_mark\":%" PRIu32 ENCODE_END, r->query->mark);
    if (r->part.failed)
        return no_memory(err);
    return r->part.len >= SUBSET_PART_BYTES ? give_part(r, false, err) : 0;
}

static int on_flush(void *ctx, struct err *err)
{
    (void)ctx;
    (void)err;
    return 0;
}

static int on_end(void *ctx, struct slice json, const struct snapshot_view *view,
                  struct err *err)
{
    struct run *r = ctx;

    (void)json;
    (void)view;
    buf_puts(&r->part, "]}");
    return r->part.failed ? no_memory(err) : give_part(r, true, err);
}

static bool on_cancelled(void *ctx)
{
    struct run *r = ctx;

    return r->sink->cancelled(r->sink->ctx);
}

int subset_run(PGconn *conn, const struct subset_query *query,
               const struct subset_sink *sink, struct err *err)
{
    struct run r = {.query = query, .sink = sink};
    const struct snapshot_request request = {
        .table = query->table,
        .plan = query->plan,
        .selected = query->selected,
        .selected_count = query->selected_count,
        .where = query->where,
        .window = &query->window,
        .first_row_timeout_ms = query->first_row_timeout_ms,
    };
    const struct snapshot_sink rows = {
        .ctx = &r,
        .subscribe = on_subscribe,
        .joined = on_joined,
        .row = on_row,
        .flush = on_flush,
        .end = on_end,
        .cancelled = on_cancelled,
    };
    int rc;

    buf_init(&r.part, BODY_MAX_BYTES);
    rc = snapshot_run(conn, &request, &rows, err);
    buf_fini(&r.part);
    if (rc == 0)
        obs_count(query->obs, OBS_SUBSETS, 1);
    obs_count(query->obs, OBS_SUBSET_ROWS, r.rows);
    return rc;
}
