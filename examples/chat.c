/* A chat against a running server: what libcoulomb does when it syncs, in one file.
 *
 * In your database:
 *
 *     CREATE ROLE chat_user NOLOGIN;
 *     CREATE TABLE messages (
 *         id uuid PRIMARY KEY,
 *         author text NOT NULL DEFAULT current_setting('request.jwt.claims', true)::json ->> 'sub',
 *         body text NOT NULL CHECK (body <> '' AND length(body) < 500),
 *         at timestamptz NOT NULL DEFAULT now());
 *     GRANT SELECT, INSERT (id, body) ON messages TO chat_user;
 *
 * The server, and two who talk (each with a token that your sign-in makes; see docs/gatekeeper.md):
 *
 *     DATABASE_URL=… ELECTRIC_SECRET=… COULOMB_AUTH_SECRET=… COULOMB_SHAPE_SECRET=… \
 *         COULOMB_WRITE_ROLES=chat_user coulomb serve
 *     cc chat.c $(pkg-config --cflags --libs coulomb) -o chat
 *     ELECTRIC_SECRET=… COULOMB_TOKEN=… ./chat http://127.0.0.1:3000
 *
 * A line that you type is seen at once, marked as not sent, then sent, then at home in the database; one
 * that the database refuses is taken back, with its reason. Without a network the chat goes on: what
 * was typed is sent when the server can be reached again. */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <coulomb/coulomb.h>

enum { LINE_MAX_BYTES = 2000 };

static coulomb_client *client;
static coulomb_server *server;
static coulomb_collection *messages;

static void must(int code)
{
    if (code < 0) {
        fprintf(stderr, "chat: %s\n", client ? coulomb_last_error(client)->message : "");
        exit(1);
    }
}

/* --- 1. What a message has ------------------------------------------------------------------- */

static const coulomb_column columns[] = {{"id", COULOMB_UUID, COULOMB_ABSENT},
                                         {"author", COULOMB_TEXT, COULOMB_ABSENT},
                                         {"body", COULOMB_TEXT, COULOMB_ABSENT},
                                         {"at", COULOMB_TIMESTAMPTZ, COULOMB_ABSENT}};

/* --- 2. What is seen ----------------------------------------------------------------------------- */

static void print(const char *mark, const coulomb_row *row)
{
    coulomb_str author = coulomb_row_text(row, "author");
    coulomb_str body = coulomb_row_text(row, "body");

    printf("%s %.*s: %.*s\n", mark, author.len > 0 ? (int)author.len : 2,
           author.len > 0 ? author.ptr : "me", (int)body.len, body.ptr);
}

/* Called in coulomb_poll(). First with the messages that are there, then with what changes: one of
 * ours comes twice, as it is typed and, as an update, when it has come back from the database. */
static void changed(coulomb_collection *coll, const coulomb_change *changes, size_t count,
                    void *arg)
{
    size_t i;

    (void)coll;
    (void)arg;
    for (i = 0; i < count; i++) {
        if (changes[i].type == COULOMB_DELETE)
            print("-", changes[i].row);
        else if (!changes[i].meta.synced)
            print("?", changes[i].row);
        else
            print(changes[i].type == COULOMB_INSERT ? "+" : "=", changes[i].row);
    }
    fflush(stdout);
}

/* --- 3. What is said ----------------------------------------------------------------------------- */

static void settled(coulomb_tx *tx, const coulomb_error *error, void *arg)
{
    const coulomb_refusal *why = coulomb_tx_refusal(tx);

    (void)arg;
    if (coulomb_tx_status(tx) == COULOMB_TX_FAILED)
        printf("! not said: %s\n", why ? why->message : error->message);
    fflush(stdout);
}

static void random_id(unsigned char id[16])
{
    FILE *f = fopen("/dev/urandom", "rb");

    if (!f || fread(id, 1, 16, f) != 16) {
        fprintf(stderr, "chat: no random numbers\n");
        exit(1);
    }
    fclose(f);
    id[6] = (unsigned char)((id[6] & 0x0f) | 0x40);
    id[8] = (unsigned char)((id[8] & 0x3f) | 0x80);
}

/* Author and time are the database's to say: what is left out of an insert gets its default there. */
static void say(const char *text)
{
    unsigned char id[16];
    coulomb_field fields[2];
    coulomb_tx *tx;
    coulomb_token token;

    random_id(id);
    fields[0].column = "id";
    fields[0].value = coulomb_uuid(id);
    fields[1].column = "body";
    fields[1].value = coulomb_text(text);
    must(coulomb_insert(messages, fields, 2, NULL, &tx));
    must(coulomb_tx_on_settled(tx, settled, NULL, &token));
    coulomb_tx_release(tx);
}

/* --- 4. The server ------------------------------------------------------------------------------- */

static int lost(coulomb_collection *coll, const coulomb_electric_error *error, void *arg)
{
    (void)coll;
    (void)arg;
    fprintf(stderr, "chat: %s\n", error->message);
    return 0; /* what no retry cures: give up */
}

static void sign_in(const char *url)
{
    coulomb_server_options so;
    coulomb_electric_options o;
    coulomb_sub_options sub;
    coulomb_sub *subscription;

    coulomb_options_init(&so, sizeof(so));
    so.url = url;
    so.auth_token = getenv("COULOMB_TOKEN");
    so.secret = getenv("ELECTRIC_SECRET");
    so.retry_ms = COULOMB_NEVER; /* a message waits for the network as long as it takes */
    must(coulomb_server_new(client, &so, &server));

    coulomb_options_init(&o, sizeof(o));
    o.collection.size = sizeof(o.collection);
    o.collection.id = "messages";
    o.collection.columns = columns;
    o.collection.column_count = sizeof(columns) / sizeof(columns[0]);
    o.collection.key_column = "id";
    o.table = "messages";
    o.on_error = lost;
    must(coulomb_server_collection_open(server, &o, NULL, 0, &messages));

    coulomb_options_init(&sub, sizeof(sub));
    sub.initial = COULOMB_INITIAL_ROWS;
    must(coulomb_subscribe(messages, &sub, changed, NULL, &subscription));
}

/* --- 5. The loop ---------------------------------------------------------------------------------- */

static long until_ms(int64_t deadline)
{
    struct timespec now;
    int64_t left;

    if (deadline == INT64_MAX)
        return -1;
    clock_gettime(CLOCK_MONOTONIC, &now);
    left = deadline - ((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    return left < 0 ? 0 : left > 60000 ? 60000 : (long)left;
}

/* 0 at the end of what is typed. */
static int read_line(void)
{
    static char line[LINE_MAX_BYTES];
    static size_t len;
    ssize_t n = read(STDIN_FILENO, line + len, sizeof(line) - 1 - len);
    char *end;

    if (n <= 0)
        return n < 0 && errno == EINTR;
    len += (size_t)n;
    while ((end = memchr(line, '\n', len)) != NULL || len == sizeof(line) - 1) {
        size_t used = end ? (size_t)(end - line) + 1 : len;

        line[end ? used - 1 : len] = '\0';
        say(line);
        len -= used;
        memmove(line, line + used, len);
    }
    return 1;
}

int main(int argc, char **argv)
{
    struct pollfd waits[2];
    int typing = 1;

    if (argc != 2) {
        fprintf(stderr, "usage: chat URL (COULOMB_TOKEN says who you are)\n");
        return 2;
    }
    must(coulomb_client_open(NULL, &client));
    sign_in(argv[1]);
    waits[0].fd = coulomb_fd(client);
    waits[0].events = POLLIN;
    waits[1].fd = STDIN_FILENO;
    waits[1].events = POLLIN;
    while (typing) {
        must(coulomb_poll(client));
        if (coulomb_pending(client))
            continue;
        poll(waits, 2, (int)until_ms(coulomb_next_deadline(client)));
        if (waits[1].revents)
            typing = read_line();
    }
    coulomb_collection_release(messages);
    coulomb_server_release(server);
    coulomb_client_close(client);
    return 0;
}
