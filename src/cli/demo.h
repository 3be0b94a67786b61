/* The demo of `coulomb dev`: its table, its page and the page's writes. */
#ifndef COULOMB_CLI_DEMO_H
#define COULOMB_CLI_DEMO_H

#include "server/server.h"

#define DEMO_DATABASE "demo"
#define DEMO_PATH     "/demo/"

/* Makes the database and, once, the table todos with its rows. url_of_postgres names the
 * database "postgres" of the same cluster, url the demo's. */
int demo_create(const char *url_of_postgres, const char *url, struct err *err);

/* Finds the page's folder: `given` if not NULL, else beside the program or its checkout.
 * ERR_NOT_FOUND with where it was looked for. */
int demo_find_page(const char *given, char *out, size_t room, struct err *err);
/* The npm package is installed in the page's folder. */
bool demo_has_client(const char *page_dir);

struct demo {
    const char *page_dir;
    const struct log *log;
};

/* /demo/, its files, and /demo/api/todos. *demo must outlive the server. */
struct http_extra demo_routes(struct demo *demo);

/* The page's files: fills the response, 404 for any other path. */
void demo_page_get(const struct demo *demo, const char *path,
                   struct http_extra_response *response);
/* POST /demo/api/todos {"text":…}, PUT /demo/api/todos/<id> {"text":…,"done":…}, DELETE
 * /demo/api/todos/<id>: answers {"success":true,"txid":…} or {"success":false,"error":…}.
 * conn NULL: the database can't be reached. */
void demo_api_call(PGconn *conn, const struct http_extra_request *request,
                   struct http_extra_response *response);
/* May a request with these headers write? Only the demo's own page and tools that say
 * application/json: *why is the sentence otherwise. */
bool demo_api_allowed(const struct http_extra_request *request, const char **why);

#endif
