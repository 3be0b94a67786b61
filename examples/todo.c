/* The tutorial of libcoulomb: a list of things to do, an optimistic change that the server accepts,
 * and one that it refuses. Build it against an installed library:
 *
 *     cc todo.c $(pkg-config --cflags --libs coulomb) -o todo && ./todo
 *
 * What a program needs is: a client; a collection, whose adapter hands over the server's rows; a
 * subscription, which hears of changes; a handler, which sends mutations to the server; and
 * coulomb_poll() in the loop. The server of this program is a few functions at the top. */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coulomb/coulomb.h>

/* Every call is checked; a real program would look at coulomb_last_error() where it can do
 * something about it. */
static coulomb_client *client;

static void must(int code)
{
    if (code < 0) {
        fprintf(stderr, "todo: %s\n", coulomb_last_error(client)->message);
        exit(1);
    }
}

/* --- 1. What a row has ----------------------------------------------------------------------- */

enum { ID, TITLE, DONE, COLUMNS };

static const coulomb_column columns[COLUMNS] = {{"id", COULOMB_INT64, COULOMB_ABSENT},
                                                {"title", COULOMB_TEXT, COULOMB_ABSENT},
                                                {"done", COULOMB_BOOL, COULOMB_ABSENT}};

/* --- 2. A server, played by this program -------------------------------------------------------- */

static coulomb_sync *sync_handle;         /* where its rows go */
static coulomb_tx *request;               /* what it was sent */
static coulomb_completion *request_waits; /* and who waits for the answer */

/* Called in coulomb_poll() when rows are first needed. A real adapter would begin to read from the
 * network here, and hand over rows as they come. */
static int start(coulomb_sync *sync, void *arg)
{
    coulomb_value first[COLUMNS];

    (void)arg;
    sync_handle = coulomb_sync_retain(sync);
    first[ID] = coulomb_int(1);
    first[TITLE] = coulomb_text("write a tutorial");
    first[DONE] = coulomb_bool(0);
    must(coulomb_sync_begin(sync, 0));
    must(coulomb_sync_insert(sync, first, NULL, 0));
    must(coulomb_sync_commit(sync));
    must(coulomb_sync_mark_ready(sync));
    return 0;
}

static const coulomb_adapter adapter = {.size = sizeof(coulomb_adapter), .start = start};

/* Sends a transaction's mutations. It answers later: COULOMB_PENDING. */
static int send_to_server(coulomb_tx *tx, coulomb_collection *todos,
                          coulomb_completion *done, void *arg)
{
    (void)todos;
    (void)arg;
    request = tx;
    request_waits = done;
    return COULOMB_PENDING;
}

/* The server takes rows with a title, and sends them back to everybody by sync. */
static void server_works(void)
{
    coulomb_completion *done = request_waits;
    coulomb_mutation m;
    coulomb_value row[COLUMNS];
    int i;

    if (!done)
        return;
    request_waits = NULL;
    must(coulomb_tx_mutation(request, 0, &m));
    if (coulomb_row_text(m.modified, "title").len == 0) {
        coulomb_fail(done, "a title can't be empty");
        return;
    }
    for (i = 0; i < COLUMNS; i++)
        row[i] = coulomb_row_at(m.modified, (size_t)i);
    must(coulomb_sync_begin(sync_handle, 0));
    must(coulomb_sync_update(sync_handle, row, NULL, 0));
    must(coulomb_sync_commit(sync_handle));
    coulomb_complete(done, COULOMB_OK, NULL);
}

/* --- 3. What the screen shows -------------------------------------------------------------------- */

static void changed(coulomb_collection *todos, const coulomb_change *changes,
                    size_t count, void *arg)
{
    static const char *const what[] = {"+", "~", "-"};
    size_t i;

    (void)todos;
    (void)arg;
    if (count == 0)
        printf("  (ready)\n");
    for (i = 0; i < count; i++) {
        coulomb_str title = coulomb_row_text(changes[i].row, "title");

        printf("  %s %d \"%.*s\"%s%s\n", what[changes[i].type], (int)changes[i].key.i,
               (int)title.len, title.ptr,
               coulomb_row_bool(changes[i].row, "done", 0) ? " done" : "",
               changes[i].meta.synced ? "" : " (not yet at the server)");
    }
}

static void settled(coulomb_tx *tx, const coulomb_error *error, void *arg)
{
    (void)arg;
    printf("  %s is %s%s%s\n", coulomb_tx_id(tx),
           coulomb_tx_state_name(coulomb_tx_status(tx)), error->code ? ": " : "",
           error->message);
}

/* --- 4. The loop ------------------------------------------------------------------------------------ */

/* One turn: waits until the client has something to do, if it has nothing, and does it. */
static void turn(void)
{
    struct pollfd p;

    p.fd = coulomb_fd(client);
    p.events = POLLIN;
    must(p.fd);
    if (poll(&p, 1, 10) > 0)
        must(coulomb_poll(client));
}

static void turns(void)
{
    int i;

    for (i = 0; i < 4; i++)
        turn();
}

int main(void)
{
    coulomb_collection_options options;
    coulomb_sub_options watch;
    coulomb_collection *todos;
    coulomb_sub *sub;
    coulomb_tx *tx;
    coulomb_field fresh[COLUMNS];
    coulomb_field title;

    if (coulomb_client_open(NULL, &client) != COULOMB_OK)
        return 1;
    coulomb_options_init(&options, sizeof(options));
    options.id = "todos";
    options.columns = columns;
    options.column_count = COLUMNS;
    options.key_column = "id";
    options.adapter = &adapter;
    options.on_insert = options.on_update = send_to_server;
    must(coulomb_collection_new(client, &options, &todos));

    printf("what is there:\n");
    coulomb_options_init(&watch, sizeof(watch));
    watch.initial = COULOMB_INITIAL_ROWS;
    must(coulomb_subscribe(todos, &watch, changed, NULL, &sub));
    turns();

    printf("an insert is seen at once, and again when the server has it:\n");
    fresh[ID].column = "id";
    fresh[ID].value = coulomb_int(2);
    fresh[TITLE].column = "title";
    fresh[TITLE].value = coulomb_text("have it read");
    fresh[DONE].column = "done";
    fresh[DONE].value = coulomb_bool(0);
    must(coulomb_insert(todos, fresh, COLUMNS, NULL, &tx));
    must(coulomb_tx_on_settled(tx, settled, NULL, NULL));
    turns();
    server_works();
    turns();
    coulomb_tx_release(tx);

    printf("what the server refuses is taken back:\n");
    title.column = "title";
    title.value = coulomb_text("");
    must(coulomb_set(todos, coulomb_key_int(1), &title, 1, NULL, &tx));
    must(coulomb_tx_on_settled(tx, settled, NULL, NULL));
    turns();
    server_works();
    turns();
    coulomb_tx_release(tx);

    coulomb_unsubscribe(sub);
    coulomb_sync_release(sync_handle);
    coulomb_collection_release(todos);
    coulomb_client_close(client);
    return 0;
}
