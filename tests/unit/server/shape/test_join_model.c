/* The join of snapshot and stream against a model of Postgres: transactions commit to the
 * WAL first and become visible later; a snapshot sees some of them; the stream is read at
 * its own pace, breaks and repeats. Whatever the interleaving, what a client folds
 * together (snapshot rows, then the log) is the table, with no insert of a row it has and
 * no update of one it lacks. Real shape log, router and sequencer; only Postgres is made
 * up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/shape/internal.h"

#define ROWS     12
#define SUBJECTS 16
#define TXNS_MAX 4000
#define OPS_MAX  4

/* --- Made-up Postgres --- */

struct op {
    int row;
    int old; /* -1: none */
    int new; /* -1: none */
};

struct sim_txn {
    uint32_t xid;
    uint64_t lsn; /* 0: not committed */
    bool rolled_back;
    bool visible;
    struct op ops[OPS_MAX];
    int op_count;
};

struct sim {
    unsigned seed;
    struct sim_txn *txns;
    int txn_count;
    uint32_t next_xid;
    uint64_t wal;      /* insert position */
    int rows[ROWS];    /* the newest value of each row, -1 absent; by its last writer */
    int writer[ROWS];  /* index of a transaction not yet visible that wrote it, or -1 */
    int visible[ROWS]; /* what a new snapshot sees */
    int *stream;       /* committed transactions in WAL order */
    int stream_count;
    int stream_at; /* next to be delivered */
    int confirmed; /* the stream begins here after a break */
    int shown;     /* transactions that readers may have seen */
    struct txn_sink sink;
    struct decode_relation relation;
    struct decode_column columns[2];
    int step; /* within the transaction being delivered: -1 before Begin */
};

static unsigned sim_random(struct sim *s, unsigned n)
{
    s->seed = s->seed * 1103515245u + 12345u;
    return (s->seed >> 8) % n;
}

static int sim_open(struct sim *s)
{
    if (s->txn_count == TXNS_MAX)
        return -1;
    struct sim_txn *t = &s->txns[s->txn_count];
    *t = (struct sim_txn){.xid = s->next_xid++};
    return s->txn_count++;
}

/* A row lock: rows written by a transaction that is not over are left alone. */
static void sim_write(struct sim *s, int at)
{
    struct sim_txn *t = &s->txns[at];
    int row = (int)sim_random(s, ROWS);
    if (t->lsn != 0 || t->rolled_back || t->op_count == OPS_MAX ||
        (s->writer[row] != -1 && s->writer[row] != at))
        return;
    struct op op = {row, s->rows[row],
                    (int)sim_random(s, 3) == 0 ? -1 : (int)sim_random(s, 99)};
    if (sim_random(s, 3) == 0) /* an update of what the shapes have no column for */
        op.new = op.old;
    if (op.old < 0 && op.new < 0)
        return;
    t->ops[t->op_count++] = op;
    s->rows[row] = op.new;
    s->writer[row] = at;
}

static void sim_rollback(struct sim *s, int at)
{
    struct sim_txn *t = &s->txns[at];
    if (t->lsn != 0 || t->rolled_back)
        return;
    for (int i = t->op_count - 1; i >= 0; i--) {
        s->rows[t->ops[i].row] = t->ops[i].old;
        s->writer[t->ops[i].row] = -1;
    }
    t->rolled_back = t->visible = true;
}

static void sim_commit(struct sim *s, int at)
{
    struct sim_txn *t = &s->txns[at];
    if (t->lsn != 0 || t->rolled_back)
        return;
    t->lsn = s->wal;
    s->wal += 100;
    s->stream[s->stream_count++] = at;
}

static void sim_show(struct sim *s, int at)
{
    struct sim_txn *t = &s->txns[at];
    if (t->lsn == 0 || t->visible)
        return;
    t->visible = true;
    for (int i = 0; i < t->op_count; i++) {
        s->visible[t->ops[i].row] = t->ops[i].new;
        s->writer[t->ops[i].row] = -1;
    }
}

/* The 64-bit id: the first transaction's epoch is 5, after the wraparound it is 6. */
static uint64_t sim_wide(const struct sim *s, uint32_t xid)
{
    return (UINT64_C(5) << 32) + s->txns[0].xid + (uint32_t)(xid - s->txns[0].xid);
}

/* The ids of a snapshot taken now. */
static struct snapshot_view sim_view(struct sim *s)
{
    struct snapshot_view v = {.wal_lsn = s->wal};
    uint32_t newest_done = s->txns[0].xid - 1;
    for (int i = 0; i < s->txn_count; i++) {
        if (s->txns[i].visible) /* opened in the order of their ids */
            newest_done = s->txns[i].xid;
    }
    v.xmax = sim_wide(s, newest_done + 1);
    v.xip = calloc((size_t)s->txn_count + 1, sizeof *v.xip);
    v.xmin = v.xmax;
    for (int i = 0; i < s->txn_count; i++) {
        uint64_t xid = sim_wide(s, s->txns[i].xid);
        if (s->txns[i].visible || (int32_t)(s->txns[i].xid - newest_done) > 0)
            continue;
        if (v.xip_count == 0)
            v.xmin = xid;
        v.xip[v.xip_count++] = xid;
    }
    return v;
}

/* --- The stream --- */

static struct value text(char *buffer, size_t size, int v)
{
    int n = snprintf(buffer, size, "%d", v);
    return (struct value){buffer, (uint32_t)n, VALUE_TEXT};
}

static void deliver_change(struct sim *s, const struct op *op, int position)
{
    char id[16], old[16], new[16];
    struct value before[2] = {text(id, sizeof id, op->row),
                              text(old, sizeof old, op->old)};
    struct value after[2] = {before[0], text(new, sizeof new, op->new)};
    struct txn_change change = {
        .op = op->old < 0   ? TXN_INSERT
              : op->new < 0 ? TXN_DELETE
                            : TXN_UPDATE,
        .position = (uint64_t)position * 2,
        .relation = &s->relation,
        .old = op->old < 0 ? NULL : before,
        .row = op->new < 0 ? NULL : after,
    };
    assert_int_equal(s->sink.change(s->sink.ctx, &change, NULL), 0);
}

/* One message of the stream; false when all has come. */
static bool sim_deliver(struct sim *s)
{
    if (s->stream_at == s->stream_count)
        return false;
    const struct sim_txn *t = &s->txns[s->stream[s->stream_at]];
    if (s->step < 0) {
        struct txn_begin begin = {t->lsn, 0, t->xid};
        assert_int_equal(s->sink.begin(s->sink.ctx, &begin, NULL), 0);
        assert_int_equal(s->sink.relation(s->sink.ctx, &s->relation, NULL), 0);
    } else if (s->step < t->op_count) {
        deliver_change(s, &t->ops[s->step], s->step);
    } else {
        assert_int_equal(s->sink.commit(s->sink.ctx, t->lsn, t->lsn + 50, NULL), 0);
        s->stream_at++;
        s->step = -2;
    }
    s->step++;
    return true;
}

/* What was shown may have been acknowledged; the rest comes again. */
static void sim_break(struct sim *s, struct sequencer *q)
{
    if (s->step >= 0)
        s->sink.abandon(s->sink.ctx);
    sequencer_lost(q, "");
    s->step = -1;
    int least = s->shown - s->confirmed > 10 ? s->shown - 10 : s->confirmed;
    s->confirmed = least + (int)sim_random(s, (unsigned)(s->shown - least) + 1);
    s->stream_at = s->confirmed;
}

static void sim_show_all(struct sim *s, struct sequencer *q)
{
    assert_int_equal(sequencer_drained(q, NULL), 0);
    if (s->stream_at > s->shown)
        s->shown = s->stream_at;
}

/* --- A client that folds --- */

static const char *member(const char *json, const char *name, char *out, size_t size)
{
    const char *p = strstr(json, name);
    if (p == NULL)
        return NULL;
    p += strlen(name);
    size_t n = strcspn(p, "\"");
    snprintf(out, size, "%.*s", (int)n, p);
    return out;
}

static void fold_one(int rows[ROWS], const char *message)
{
    char id[16], value[16], operation[16];
    if (member(message, "\"operation\":\"", operation, sizeof operation) == NULL)
        return; /* snapshot-end */
    assert_non_null(member(message, "\"id\":\"", id, sizeof id));
    int row = (int)strtol(id, NULL, 10);
    bool has_value = member(message, "\"v\":\"", value, sizeof value) != NULL;
    if (strcmp(operation, "insert") == 0) {
        assert_int_equal(rows[row], -1);
        assert_true(has_value);
    } else {
        assert_int_not_equal(rows[row], -1);
    }
    rows[row] = strcmp(operation, "delete") == 0 ? -1 : (int)strtol(value, NULL, 10);
}

static void fold(int rows[ROWS], const char *body, size_t len)
{
    char *copy = strndup(body, len);
    char *next = NULL;
    for (char *at = copy; at != NULL && *at != '\0'; at = next) {
        next = strstr(at, "}},{");
        if (next != NULL) {
            next[2] = '\0';
            next += 3;
        }
        fold_one(rows, at);
    }
    free(copy);
}

static void fold_shape(int rows[ROWS], struct shapelog_shape *log)
{
    for (int i = 0; i < ROWS; i++)
        rows[i] = -1;
    struct offset at = OFFSET_BEFORE_ALL;
    for (;;) {
        struct shapelog_found found;
        assert_int_equal(shapelog_locate(log, at, &found, NULL), 0);
        if (found.part == SHAPELOG_NOTHING)
            return;
        assert_int_not_equal(found.part, SHAPELOG_PENDING);
        uint64_t from = 0;
        struct buf body;
        buf_init(&body, 1 << 24);
        for (;;) {
            struct shapelog_piece piece;
            enum shapelog_growth growth = SHAPELOG_CLOSED;
            int rc = found.part == SHAPELOG_SNAPSHOT
                         ? shapelog_read_snapshot(log, found.chunk, from, &piece, &growth,
                                                  NULL)
                         : shapelog_read_log(log, &found, from, &piece, NULL);
            assert_int_equal(rc, 0);
            if (piece.len == 0)
                break;
            if (piece.mem != NULL) {
                buf_put(&body, piece.mem, piece.len);
            } else {
                char *room = buf_reserve(&body, piece.len);
                assert_int_equal(pread(piece.fd, room, piece.len, (off_t)piece.file_pos),
                                 (ssize_t)piece.len);
                body.len += piece.len;
            }
            from += piece.len;
            shapelog_piece_release(&piece);
        }
        fold(rows, body.ptr, body.len);
        buf_fini(&body);
        at = found.end;
    }
}

/* --- The shape under test --- */

/* Clauses of the shapes, and what they mean. */
static bool high(int id, int v)
{
    (void)id;
    return v >= 40;
}

static bool even_and_early(int id, int v)
{
    return v % 2 == 0 && id < 6;
}

static bool listed_or_late(int id, int v)
{
    return v == 3 || v == 30 || v == 77 || id > 5;
}

static const struct clause {
    const char *text;
    bool (*holds)(int id, int v);
} clauses[] = {
    {NULL, NULL},
    {"v >= 40", high},
    {"v % 2 = 0 AND id < 6", even_and_early},
    {"v IN (3, 30, 77) OR id > 5", listed_or_late},
};
#define CLAUSES (int)(sizeof clauses / sizeof clauses[0])

static const struct clause *clause_of(int number)
{
    return &clauses[(number + number / 8) % CLAUSES];
}

/* What a shape shows of a row: -1 when it is not in it. */
static int seen(const struct clause *clause, int id, int v)
{
    return v >= 0 && (clause->holds == NULL || clause->holds(id, v)) ? v : -1;
}

struct subject {
    const struct clause *clause;
    struct shape *shape; /* retained */
    enum { WANTS_SUBSCRIPTION, WANTS_VIEW, WANTS_ROWS, DONE } at;
    struct snapshot_view view;
    int rows[ROWS]; /* what its snapshot saw */
};

static void got_shape(void *ctx, struct shape *shape, const struct err *err)
{
    struct subject *subject = ctx;
    (void)err;
    assert_non_null(shape);
    subject->shape = shape_retain(shape);
}

static struct table *items_table(void)
{
    struct table_column columns[2] = {
        {.name = SLICE_LIT("id"),
         .type_name = SLICE_LIT("int4"),
         .type_oid = 23,
         .typmod = -1,
         .attnum = 1,
         .pk_index = 0,
         .not_null = true},
        {.name = SLICE_LIT("v"),
         .type_name = SLICE_LIT("int4"),
         .type_oid = 23,
         .typmod = -1,
         .attnum = 2,
         .pk_index = -1},
    };
    uint16_t pk = 0;
    struct table model = {
        .oid = 1000,
        .schema = SLICE_LIT("public"),
        .name = SLICE_LIT("items"),
        .kind = 'r',
        .replica_identity = 'f',
        .has_pk = true,
        .column_count = 2,
        .pk_count = 1,
        .columns = columns,
        .pk = &pk,
    };
    return table_copy(&model);
}

/* Shapes of different definitions over the same rows. (The log mode plays no part in the
 * join, and the made-up worker writes rows in either.) */
static void subject_start(struct sequencer *q, struct subject *subject, int number,
                          const struct clause *clause)
{
    struct table *table = items_table();
    struct shape_where *where = NULL;
    uint16_t both[] = {0, 1};
    subject->clause = clause;
    if (subject->clause->text != NULL)
        assert_int_equal(
            shape_where_parse(table, slice_of(subject->clause->text), NULL, &where, NULL),
            0);
    struct shape_spec spec = {
        .table = table,
        .replica = (enum encode_replica)(number & 1),
        .log_mode = (enum shape_log_mode)(number >> 1 & 1),
        .selected = (number & 4) != 0 ? both : NULL,
        .selected_count = 2,
    };
    if (where != NULL) {
        spec.where = where->text;
        spec.where_columns = where->columns;
        spec.where_count = where->column_count;
        spec.maps_case = where->maps_case;
    }
    struct shape_def *def = NULL;
    assert_int_equal(shape_def_new(&spec, &def, NULL), 0);
    /* With the tree, or with the text alone, as a restart has it. */
    shapes_get(sequencer_shapes(q), def, number % 2 == 0 ? where : NULL, got_shape,
               subject);
    shape_where_release(where);
    shape_def_release(def);
    table_release(table);
    /* That the preparation found no Postgres, the sequencer never gets to hear. */
    struct mail *mail = mailbox_take(&q->mailbox);
    while (mail != NULL) {
        struct mail *next = mail->next;
        if (mail->kind == MAIL_SNAPSHOT_FAILED) {
            struct mail_shape *m = (struct mail_shape *)(void *)mail;
            shape_release(m->shape);
            free(m);
        } else if (mail->kind == MAIL_PUBLISHED) {
            struct mail_published *m = (struct mail_published *)(void *)mail;
            table_use_release(m->use);
            table_release(m->table);
            free(m);
        } else {
            sequencer_open_mail(q, mail);
        }
        mail = next;
    }
    assert_non_null(subject->shape);
}

static int ask(struct sequencer *q, void (*fn)(struct sequencer *, struct mail_join *),
               struct subject *subject)
{
    struct mail_join m = {.shape = subject->shape, .view = &subject->view};
    pthread_mutex_init(&m.lock, NULL);
    pthread_cond_init(&m.answered, NULL);
    fn(q, &m);
    assert_true(m.done);
    pthread_cond_destroy(&m.answered);
    pthread_mutex_destroy(&m.lock);
    return m.err.code;
}

static void subject_rows(struct subject *subject)
{
    struct shapelog_shape *log = subject->shape->log;
    for (int i = 0; i < ROWS; i++) {
        if (seen(subject->clause, i, subject->rows[i]) < 0)
            continue;
        char json[128];
        int n = snprintf(json, sizeof json,
                         "{\"key\":\"%d\",\"value\":{\"id\":\"%d\",\"v\":\"%d\"},"
                         "\"headers\":{\"operation\":\"insert\"}}",
                         i, i, subject->rows[i]);
        assert_int_equal(shapelog_snapshot_row(log, slice_make(json, (size_t)n), NULL),
                         0);
    }
    struct slice end = SLICE_LIT("{\"headers\":{\"control\":\"snapshot-end\"}}");
    assert_int_equal(shapelog_snapshot_end(log, end, SLICE_LIT("1:1:@1"), NULL), 0);
}

/* One step of the worker that prepares the shape. */
static void subject_step(struct sim *s, struct sequencer *q, struct subject *subject)
{
    switch (subject->at) {
    case WANTS_SUBSCRIPTION:
        assert_int_equal(ask(q, join_subscribe, subject), 0);
        subject->at = WANTS_VIEW;
        break;
    case WANTS_VIEW: /* the snapshot is taken now, its view told later */
        if (subject->view.xip == NULL) {
            subject->view = sim_view(s);
            memcpy(subject->rows, s->visible, sizeof subject->rows);
            break;
        }
        subject->at = ask(q, join_join, subject) == 0 ? WANTS_ROWS : WANTS_SUBSCRIPTION;
        snapshot_view_fini(&subject->view);
        subject->view = (struct snapshot_view){0};
        break;
    case WANTS_ROWS:
        subject_rows(subject);
        subject->at = DONE;
        break;
    case DONE:
        break;
    }
}

/* --- The walk --- */

static void sim_step(struct sim *s, struct sequencer *q)
{
    int first = s->txn_count > 8 ? s->txn_count - 8 : 0;
    int some = first + (int)sim_random(s, (unsigned)(s->txn_count - first) + 1);
    unsigned what = sim_random(s, 100);
    if (what < 10 || some >= s->txn_count) {
        sim_open(s);
        if (first > 0) { /* nothing stays open or unseen for ever */
            sim_commit(s, first - 1);
            sim_show(s, first - 1);
        }
    } else if (what < 35) {
        sim_write(s, some);
    } else if (what < 45) {
        sim_commit(s, some);
    } else if (what < 47) {
        sim_rollback(s, some);
    } else if (what < 60) {
        sim_show(s, some);
    } else if (what < 95) {
        sim_deliver(s);
    } else if (what < 98) {
        sim_show_all(s, q);
    } else {
        sim_break(s, q);
    }
}

static void sim_finish(struct sim *s, struct sequencer *q, struct subject *subjects,
                       int count)
{
    for (int i = 0; i < s->txn_count; i++) {
        sim_commit(s, i);
        sim_show(s, i);
    }
    for (int i = 0; i < count; i++) {
        while (subjects[i].at != DONE)
            subject_step(s, q, &subjects[i]);
    }
    while (sim_deliver(s))
        ;
    sim_show_all(s, q);
}

static void sim_init(struct sim *s, unsigned seed, uint32_t first_xid,
                     struct sequencer *q)
{
    *s = (struct sim){.seed = seed, .next_xid = first_xid, .wal = 1000, .step = -1};
    s->txns = calloc(TXNS_MAX, sizeof *s->txns);
    s->stream = calloc(TXNS_MAX, sizeof *s->stream);
    for (int i = 0; i < ROWS; i++)
        s->rows[i] = s->writer[i] = s->visible[i] = -1;
    s->columns[0] = (struct decode_column){SLICE_LIT("id"), 23, -1, true};
    s->columns[1] = (struct decode_column){SLICE_LIT("v"), 23, -1, true};
    s->relation = (struct decode_relation){
        1000, SLICE_LIT("public"), SLICE_LIT("items"), 'f', 2, s->columns};
    s->sink = sequencer_txn_sink(q);
    sim_open(s);
}

static void nothing(void *ctx)
{
    (void)ctx;
}

struct fixture {
    char dir[64];
    struct obs obs;
    struct pg_config *pg;
    struct pool *pool;
    struct catalog *catalog;
    struct sequencer *q;
};

static void fixture_init(struct fixture *f)
{
    snprintf(f->dir, sizeof f->dir, "/tmp/coulomb-join-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    obs_init(&f->obs);
    struct pg_options options = {.url = "postgresql://nobody@127.0.0.1:1/nothing"};
    assert_int_equal(pg_config_new(&options, &f->pg, NULL), 0);
    struct pool_config pool = {.pg = f->pg,
                               .name = "none",
                               .max_connections = 1,
                               .max_queued = 1000,
                               .connect_timeout_ms = 100};
    assert_int_equal(pool_new(&pool, &f->pool, NULL), 0);
    assert_int_equal(catalog_new(f->pool, &f->catalog), 0);
    struct sequencer_config config = {
        .obs = &f->obs,
        .admin_pool = f->pool,
        .snapshot_pool = f->pool,
        .catalog = f->catalog,
        .publication = {.name = "p", .manual = true},
        .shapelog = {.dir = f->dir,
                     .chunk_bytes = 700,
                     .max_open_files = 64,
                     .obs = &f->obs},
        .slot = "s",
        .database = "d",
        .reconcile_period_ms = 60000,
        .first_row_timeout_ms = 1000,
    };
    assert_int_equal(sequencer_new(&config, &f->q, NULL), 0);
    f->q->reconcile_passed = UINT64_MAX; /* there is no catalog to look at */
    struct sequencer_stream stream = {NULL, nothing, nothing, nothing};
    sequencer_set_stream(f->q, &stream);
}

static void fixture_fini(struct fixture *f)
{
    sequencer_finish(f->q);
    pool_free(f->pool);
    sequencer_free(f->q);
    catalog_free(f->catalog);
    pg_config_free(f->pg);
    assert_int_equal(shapelog_destroy(f->dir, NULL), 0);
}

static void walk(unsigned seed, uint32_t first_xid)
{
    struct fixture f;
    fixture_init(&f);
    struct sim s;
    sim_init(&s, seed, first_xid, f.q);
    struct subject subjects[SUBJECTS] = {0};
    int started = 0;
    for (int i = 0; i < 1500; i++) {
        if (started < SUBJECTS && sim_random(&s, 100) == 0) {
            subject_start(f.q, &subjects[started], started, clause_of(started));
            started++;
        }
        for (int j = 0; j < started; j++) {
            if (sim_random(&s, 20) == 0)
                subject_step(&s, f.q, &subjects[j]);
        }
        sim_step(&s, f.q);
    }
    sim_finish(&s, f.q, subjects, started);
    for (int i = 0; i < started; i++) {
        int rows[ROWS];
        assert_int_not_equal(shape_state(subjects[i].shape), SHAPE_GONE);
        fold_shape(rows, subjects[i].shape->log);
        for (int j = 0; j < ROWS; j++) {
            int wanted = seen(subjects[i].clause, j, s.visible[j]);
            if (rows[j] != wanted)
                print_error("seed %u xid %u shape %d row %d\n", seed, first_xid, i, j);
            assert_int_equal(rows[j], wanted);
        }
        shape_release(subjects[i].shape);
        snapshot_view_fini(&subjects[i].view);
    }
    free(s.txns);
    free(s.stream);
    fixture_fini(&f);
}

/* --- Single scenes, too rare for the walks --- */

struct scene {
    struct fixture f;
    struct sim s;
    struct subject subject;
};

static void scene_write(struct sim *s, int at, int row, int value)
{
    struct sim_txn *t = &s->txns[at];
    t->ops[t->op_count++] = (struct op){row, s->rows[row], value};
    s->rows[row] = value;
    s->writer[row] = at;
}

/* Row 0 is there. The shape has subscribed and its snapshot is taken, but its view is not
 * told yet. */
static void scene_begin(struct scene *c, const struct clause *clause)
{
    *c = (struct scene){0};
    fixture_init(&c->f);
    sim_init(&c->s, 1, 700, c->f.q);
    scene_write(&c->s, 0, 0, 5);
    sim_commit(&c->s, 0);
    sim_show(&c->s, 0);
    while (sim_deliver(&c->s))
        ;
    subject_start(c->f.q, &c->subject, 0, clause);
    subject_step(&c->s, c->f.q, &c->subject);
}

static void scene_init_with(struct scene *c, const struct clause *clause)
{
    scene_begin(c, clause);
    subject_step(&c->s, c->f.q, &c->subject);
    assert_non_null(c->subject.view.xip);
}

static void scene_init(struct scene *c)
{
    scene_init_with(c, &clauses[0]);
}

static void scene_join(struct scene *c)
{
    subject_step(&c->s, c->f.q, &c->subject);
    assert_int_equal(c->subject.at, WANTS_ROWS);
}

static void scene_end(struct scene *c)
{
    shape_release(c->subject.shape);
    snapshot_view_fini(&c->subject.view);
    free(c->s.txns);
    free(c->s.stream);
    fixture_fini(&c->f);
}

static void scene_check(struct scene *c)
{
    int rows[ROWS];
    sim_finish(&c->s, c->f.q, &c->subject, 1);
    fold_shape(rows, c->subject.shape->log);
    assert_memory_equal(rows, c->s.visible, sizeof rows);
    scene_end(c);
}

/* A transaction that writes one row, committed and delivered. */
static void scene_commit(struct scene *c, int row, int value)
{
    int t = sim_open(&c->s);
    scene_write(&c->s, t, row, value);
    sim_commit(&c->s, t);
    while (sim_deliver(&c->s))
        ;
    sim_show(&c->s, t);
}

static void a_join_after_changes_that_left_nothing_keeps_the_rest(void **state)
{
    (void)state;
    struct scene c;
    scene_init(&c);
    int t = sim_open(&c.s);
    scene_write(&c.s, t, 0, 5); /* of another column: nothing to keep */
    scene_write(&c.s, t, 1, 6);
    sim_commit(&c.s, t);
    sim_deliver(&c.s); /* Begin */
    sim_deliver(&c.s);
    scene_join(&c);
    scene_check(&c);
}

static void a_join_within_a_replay_completes_what_was_kept(void **state)
{
    (void)state;
    struct scene c;
    scene_init(&c);
    int t = sim_open(&c.s);
    scene_write(&c.s, t, 1, 6);
    scene_write(&c.s, t, 2, 7);
    sim_commit(&c.s, t);
    while (sim_deliver(&c.s))
        ;
    c.s.stream_at = 1; /* the connection breaks between transactions: t comes again */
    sim_deliver(&c.s);
    sim_deliver(&c.s);
    scene_join(&c);
    scene_check(&c);
}

/* Or a checkpoint could record the shape without what its LSN stands for. */
static void what_was_kept_is_readable_before_the_snapshot_goes_on(void **state)
{
    (void)state;
    struct scene c;
    struct shapelog_extent extent;
    scene_init(&c);
    int t = sim_open(&c.s);
    scene_write(&c.s, t, 1, 6);
    sim_commit(&c.s, t);
    while (sim_deliver(&c.s))
        ;
    scene_join(&c);
    shapelog_extent(c.subject.shape->log, &extent);
    assert_int_equal(extent.latest.tx, c.s.txns[t].lsn);
    scene_check(&c);
}

/* It divides by v. */
static const struct clause undecided_on_zero = {"100 / v > 3", NULL};

static uint64_t removed_for(const struct scene *c, enum obs_shape_reason reason)
{
    return atomic_load(&c->f.obs.shapes_removed[reason]);
}

static void what_a_clause_cannot_decide_ends_the_shape(void **state)
{
    (void)state;
    struct scene c;
    scene_init_with(&c, &undecided_on_zero);
    scene_join(&c);
    scene_commit(&c, 1, 90); /* not in it */
    assert_int_not_equal(shape_state(c.subject.shape), SHAPE_GONE);
    scene_commit(&c, 1, 0);
    assert_int_equal(shape_state(c.subject.shape), SHAPE_GONE);
    assert_int_equal(removed_for(&c, OBS_SHAPE_CLAUSE), 1);
    scene_end(&c);
}

static void while_its_snapshot_begins_it_is_decided_by_the_view(void **state)
{
    (void)state;
    struct scene c;
    scene_init_with(&c, &undecided_on_zero); /* the view is taken */
    scene_commit(&c, 1, 0);
    assert_int_not_equal(shape_state(c.subject.shape), SHAPE_GONE);
    subject_step(&c.s, c.f.q, &c.subject);
    assert_int_equal(shape_state(c.subject.shape), SHAPE_GONE);
    assert_int_equal(removed_for(&c, OBS_SHAPE_CLAUSE), 1);
    scene_end(&c);

    scene_begin(&c, &undecided_on_zero);
    scene_commit(&c, 1, 0);
    scene_commit(&c, 1, 5);
    subject_step(&c.s, c.f.q, &c.subject); /* the view has both */
    scene_join(&c);
    assert_int_not_equal(shape_state(c.subject.shape), SHAPE_GONE);
    scene_end(&c);
}

/* The relation has v as another type from now on. */
static void scene_alter(struct scene *c)
{
    c->s.columns[1].type_oid = 25;
    assert_int_equal(c->s.sink.relation(c->s.sink.ctx, &c->s.relation, NULL), 0);
}

static void a_clause_that_the_relation_does_not_fit_ends_the_shape(void **state)
{
    (void)state;
    struct scene c;
    scene_init_with(&c, &clauses[1]);
    scene_join(&c);
    scene_alter(&c);
    assert_int_not_equal(shape_state(c.subject.shape), SHAPE_GONE);
    scene_commit(&c, 1, 1); /* not in it, if it were as before */
    assert_int_equal(shape_state(c.subject.shape), SHAPE_GONE);
    assert_int_equal(removed_for(&c, OBS_SHAPE_SCHEMA), 1);
    scene_end(&c);

    scene_init_with(&c, &clauses[1]);
    scene_alter(&c);
    scene_commit(&c, 1, 1);
    subject_step(&c.s, c.f.q, &c.subject);
    assert_int_equal(shape_state(c.subject.shape), SHAPE_GONE);
    scene_end(&c);

    scene_begin(&c, &clauses[1]);
    scene_alter(&c);
    scene_commit(&c, 1, 1);
    subject_step(&c.s, c.f.q, &c.subject);
    scene_join(&c); /* the snapshot comes after it: the description was of before */
    assert_int_not_equal(shape_state(c.subject.shape), SHAPE_GONE);
    scene_end(&c);
}

static void each_row_of_the_overlap_appears_once(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 150; seed++)
        walk(seed, 700);
}

static void so_it_does_across_the_wraparound_of_xids(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 150; seed++)
        walk(seed, UINT32_MAX - 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_join_after_changes_that_left_nothing_keeps_the_rest),
        cmocka_unit_test(a_join_within_a_replay_completes_what_was_kept),
        cmocka_unit_test(what_was_kept_is_readable_before_the_snapshot_goes_on),
        cmocka_unit_test(what_a_clause_cannot_decide_ends_the_shape),
        cmocka_unit_test(while_its_snapshot_begins_it_is_decided_by_the_view),
        cmocka_unit_test(a_clause_that_the_relation_does_not_fit_ends_the_shape),
        cmocka_unit_test(each_row_of_the_overlap_appears_once),
        cmocka_unit_test(so_it_does_across_the_wraparound_of_xids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
