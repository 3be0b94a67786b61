/* A client of libcoulomb for tests/js/libcoulomb/converge.test.ts: it writes rows at random and checks
 * what it hears, until it is told to stop.
 *
 *   converge URL TABLE TOKEN-FILE SEED [sse]
 *
 * Commands come on stdin, a line each: "pause" (no more writes, and says "settled" when none is under
 * way), "go", "dump" (prints the visible rows and "end"), "quit". What must not happen is told in a
 * line that begins with "FAULT" and ends it with 1:
 *   - an insert of a row that was told before, an update or delete of one that was not;
 *   - the events, folded, are not what is visible;
 *   - a row is optimistic although no transaction is under way. */
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "coulomb/coulomb.h"

#define IDS      60 /* rows come and go among so many */
#define EVERY_MS 15

struct app {
    coulomb_client *c;
    coulomb_server *server;
    coulomb_collection *coll;
    coulomb_sub *sub;
    const char *token_file;
    const coulomb_row *told[IDS]; /* what was heard, folded; retained */
    uint64_t random;
    unsigned open; /* transactions */
    unsigned long written;
    unsigned long refused;
    unsigned long failed;
    bool writing;
    bool asked; /* to say when all is settled */
    bool quit;
};

static void fault(const char *what, long long id)
{
    printf("FAULT %s: %lld\n", what, id);
    fflush(stdout);
    exit(1);
}

static void must(int code, coulomb_client *c, const char *what)
{
    if (code == COULOMB_OK)
        return;
    printf("FAULT %s: %s\n", what, c ? coulomb_last_error(c)->message : "");
    fflush(stdout);
    exit(1);
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint64_t next(struct app *a)
{
    a->random ^= a->random << 13;
    a->random ^= a->random >> 7;
    a->random ^= a->random << 17;
    return a->random;
}

/* --- Hearing ----------------------------------------------------------------------------------------- */

static void fold(struct app *a, const coulomb_change *ch)
{
    long long id = ch->key.i;

    if (id < 0 || id >= IDS)
        fault("a key that nobody wrote", id);
    if (ch->type == COULOMB_INSERT && a->told[id])
        fault("an insert of what was there", id);
    if (ch->type != COULOMB_INSERT && !a->told[id])
        fault("an update or delete of what was not there", id);
    coulomb_row_release(a->told[id]);
    a->told[id] = ch->type == COULOMB_DELETE ? NULL : coulomb_row_retain(ch->row);
}

static void on_changes(coulomb_collection *coll, const coulomb_change *changes,
                       size_t count, void *arg)
{
    (void)coll;
    for (size_t i = 0; i < count; i++)
        fold(arg, &changes[i]);
}

/* Between polls, with nothing waiting to be told. */
static void check(struct app *a)
{
    coulomb_stats stats;
    size_t heard = 0;

    memset(&stats, 0, sizeof(stats));
    stats.size = sizeof(stats);
    coulomb_client_stats(a->c, &stats);
    if (stats.queued_changes > 0)
        return;
    for (int id = 0; id < IDS; id++) {
        const coulomb_row *seen = coulomb_get(a->coll, coulomb_key_int(id));
        coulomb_meta meta;

        heard += a->told[id] != NULL;
        if (!seen != !a->told[id] || (seen && coulomb_row_equal(seen, a->told[id]) != 1))
            fault("what was heard is not what is visible", id);
        if (a->open == 0 && seen &&
            coulomb_row_meta(a->coll, coulomb_key_int(id), &meta) && !meta.synced)
            fault("a row is optimistic though all is settled", id);
    }
    if (heard != coulomb_size(a->coll))
        fault("another number of rows is visible than was heard", (long long)heard);
}

/* --- Writing ----------------------------------------------------------------------------------------- */

static void on_settled(coulomb_tx *tx, const coulomb_error *error, void *arg)
{
    struct app *a = arg;

    a->open--;
    if (coulomb_tx_status(tx) == COULOMB_TX_COMPLETED)
        a->written++;
    else if (error->code == COULOMB_E_REFUSED)
        a->refused++;
    else {
        a->failed++;
        printf("failed %s %s\n", coulomb_error_name(error->code), error->message);
    }
}

static int change(coulomb_draft *d, size_t index, void *arg)
{
    struct app *a = arg;
    char text[32];

    (void)index;
    snprintf(text, sizeof(text), "%llx", (unsigned long long)next(a));
    /* Now and then what the table does not take. */
    int code = coulomb_draft_set(d, "n", coulomb_int((int64_t)(next(a) % 1000) - 20));
    return code == COULOMB_OK && next(a) % 2
               ? coulomb_draft_set(d, "v", coulomb_text(text))
               : code;
}

static void write_one(struct app *a)
{
    int64_t id = (int64_t)(next(a) % IDS);
    coulomb_key key = coulomb_key_int(id);
    const coulomb_field fields[] = {{"id", coulomb_int(id)},
                                    {"v", coulomb_text("new")},
                                    {"n", coulomb_int((int64_t)(next(a) % 100))}};
    coulomb_tx *tx = NULL;
    coulomb_token token;
    int code;

    if (!coulomb_has(a->coll, key))
        code = coulomb_insert(a->coll, fields, 3, NULL, &tx);
    else if (next(a) % 4 == 0)
        code = coulomb_delete(a->coll, key, NULL, &tx);
    else
        code = coulomb_update(a->coll, key, change, a, NULL, &tx);
    must(code, a->c, "a write");
    if (coulomb_tx_status(tx) != COULOMB_TX_COMPLETED) {
        a->open++;
        must(coulomb_tx_on_settled(tx, on_settled, a, &token), a->c, "on_settled");
    }
    coulomb_tx_release(tx);
}

/* --- Commands ---------------------------------------------------------------------------------------- */

static int print_row(const coulomb_row *row, void *arg)
{
    coulomb_str v = coulomb_row_text(row, "v");

    (void)arg;
    printf("row {\"id\":%lld,\"v\":\"%.*s\",\"n\":%lld}\n",
           (long long)coulomb_row_int(row, "id", -1), (int)v.len, v.ptr,
           (long long)coulomb_row_int(row, "n", -1));
    return 0;
}

static void obey(struct app *a, const char *line)
{
    if (strncmp(line, "pause", 5) == 0) {
        a->writing = false;
        a->asked = true;
    } else if (strncmp(line, "go", 2) == 0) {
        a->writing = true;
    } else if (strncmp(line, "quit", 4) == 0) {
        a->quit = true;
    } else if (strncmp(line, "dump", 4) == 0) {
        must(coulomb_each(a->coll, print_row, NULL), a->c, "each");
        printf("end written=%lu refused=%lu failed=%lu\n", a->written, a->refused,
               a->failed);
        fflush(stdout);
    }
}

static void listen(struct app *a)
{
    static char line[64];
    static size_t len;
    ssize_t n;

    while ((n = read(STDIN_FILENO, line + len, 1)) == 1) {
        if (line[len] != '\n' && len < sizeof(line) - 2) {
            len++;
            continue;
        }
        line[len] = '\0';
        len = 0;
        obey(a, line);
    }
    a->quit = a->quit || n == 0;
}

/* --- The client -------------------------------------------------------------------------------------- */

static int read_token(struct app *a)
{
    char token[4096];
    int fd = open(a->token_file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, token, sizeof(token) - 1);

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return COULOMB_E_FAILED;
    token[n] = '\0';
    return coulomb_server_set_token(a->server, token);
}

static int sign_in(coulomb_server *server, coulomb_completion *done, void *arg)
{
    (void)server;
    (void)done;
    return read_token(arg);
}

static void on_status(coulomb_collection *coll, const coulomb_event *event, void *arg)
{
    (void)arg;
    if (event->status == COULOMB_ERROR) {
        printf("FAULT the collection's error: %s\n",
               coulomb_collection_error(coll)->message);
        fflush(stdout);
        exit(1);
    }
    printf("status %s\n", coulomb_status_name(event->status));
    fflush(stdout);
}

/* Whatever the faults, this client does not give up. */
static int on_error(coulomb_collection *coll, const coulomb_electric_error *e, void *arg)
{
    (void)coll;
    (void)arg;
    printf("error %s\n", e->message);
    fflush(stdout);
    return 1;
}

static void set_up(struct app *a, char **args, bool sse)
{
    static const coulomb_column columns[] = {{"id", COULOMB_INT64, COULOMB_ABSENT},
                                             {"v", COULOMB_TEXT, COULOMB_ABSENT},
                                             {"n", COULOMB_INT64, COULOMB_ABSENT}};
    coulomb_server_options so;
    coulomb_electric_options o;
    coulomb_sub_options sub;
    coulomb_token token;

    must(coulomb_client_open(NULL, &a->c), NULL, "open");
    coulomb_options_init(&so, sizeof(so));
    so.url = args[0];
    so.gatekeeper = 1;
    so.sign_in = sign_in;
    so.arg = a;
    so.retry_ms = COULOMB_NEVER;
    so.await_ms = COULOMB_NEVER;
    must(coulomb_server_new(a->c, &so, &a->server), a->c, "a server");
    must(read_token(a), a->c, "a token");
    coulomb_options_init(&o, sizeof(o));
    o.collection.size = sizeof(o.collection);
    o.collection.id = args[1];
    o.collection.columns = columns;
    o.collection.column_count = 3;
    o.collection.key_column = "id";
    o.table = args[1];
    o.on_error = on_error;
    o.sse = sse;
    must(coulomb_server_collection_open(a->server, &o, NULL, 0, &a->coll), a->c,
         "a shape");
    must(coulomb_collection_on(a->coll, COULOMB_EVENT_STATUS, on_status, a, &token), a->c,
         "on");
    coulomb_options_init(&sub, sizeof(sub));
    sub.initial = COULOMB_INITIAL_ROWS;
    must(coulomb_subscribe(a->coll, &sub, on_changes, a, &a->sub), a->c, "subscribe");
}

static void run(struct app *a)
{
    int64_t due_ms = now_ms();

    while (!a->quit) {
        struct pollfd p[] = {{.fd = coulomb_fd(a->c), .events = POLLIN},
                             {.fd = STDIN_FILENO, .events = POLLIN}};
        int ran = coulomb_poll(a->c);

        if (ran < 0)
            must(ran, a->c, "poll");
        check(a);
        if (a->writing && coulomb_collection_status(a->coll) == COULOMB_READY &&
            now_ms() >= due_ms) {
            write_one(a);
            due_ms = now_ms() + (int64_t)(next(a) % (2 * EVERY_MS));
        }
        if (a->asked && a->open == 0) {
            a->asked = false;
            printf("settled\n");
            fflush(stdout);
        }
        if (!coulomb_pending(a->c))
            poll(p, 2, 5);
        listen(a);
    }
}

int main(int argc, char **argv)
{
    struct app a = {.token_file = argc > 3 ? argv[3] : NULL};

    if (argc < 5) {
        fprintf(stderr, "usage: converge URL TABLE TOKEN-FILE SEED [sse]\n");
        return 2;
    }
    a.random = strtoull(argv[4], NULL, 10) * 0x9E3779B97F4A7C15ull | 1;
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    set_up(&a, argv + 1, argc > 5);
    run(&a);
    coulomb_unsubscribe(a.sub);
    for (int id = 0; id < IDS; id++)
        coulomb_row_release(a.told[id]);
    coulomb_collection_release(a.coll);
    coulomb_server_release(a.server);
    coulomb_client_close(a.c);
    printf("closed\n");
    return 0;
}
