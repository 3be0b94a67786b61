/* What the streams of a client remember of shapes, by their keys: the handle that expired last, and
 * when and at which cursor the shape was up to date last. Owner's thread. At most 250 of each are kept,
 * the least recently used goes. */
#ifndef COULOMB_CLIENT_STREAM_SHAPES_H
#define COULOMB_CLIENT_STREAM_SHAPES_H

#include "base/slice.h"
#include "client/loop/loop.h"

#define SHAPES_MAX       250
#define SHAPES_REPLAY_MS 60000 /* caches may replay answers for so long */

/* All of these find the client's memory, making it if need be; without memory for it nothing is
 * remembered, which costs a request at worst. */
const char *shapes_expired(coulomb_client *c, struct slice key); /* NULL: none */
void shapes_mark_expired(coulomb_client *c, struct slice key, struct slice handle);
void shapes_forget(coulomb_client *c, struct slice key);
/* The cursor of an up-to-date less than a minute ago; NULL: none. */
const char *shapes_cursor(coulomb_client *c, struct slice key);
void shapes_up_to_date(coulomb_client *c, struct slice key, struct slice cursor);

#endif
