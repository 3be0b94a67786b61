/* Names of tables and columns as requests write them (shape-protocol.md 1.4, 1.5): unquoted
 * parts fold ASCII letters to lower case; quoted ones are taken as they are, "" for a quote. */
#ifndef COULOMB_SERVER_HTTP_IDENT_H
#define COULOMB_SERVER_HTTP_IDENT_H

#include "base/arena.h"

#define IDENT_MAX_CHARS 63 /* characters, not bytes */

struct ident_relation {
    struct slice schema; /* "public" unless given */
    struct slice name;
};

/* The functions return false with *error set to the text for the client, or to NULL when the
 * arena is full. Results live in the arena. */
bool ident_relation_parse(struct slice text, struct arena *arena,
                          struct ident_relation *out, const char **error);

struct ident_list {
    struct slice *names;
    size_t count;
};

/* Comma-separated; commas inside quotes do not split. */
bool ident_list_parse(struct slice text, struct arena *arena, struct ident_list *out,
                      const char **error);
/* The same for names that came one by one. */
bool ident_list_add(struct slice text, struct arena *arena, struct ident_list *list,
                    const char **error);

#endif
