/*
 * The wiring: a client is the loop with collections and transactions hung into it.
 */

#include "client/tx/tx.h"

#include <string.h>

int coulomb_client_open(const coulomb_client_options *options, coulomb_client **out)
{
    coulomb_client *c;
    int code = client_new(options, &c);

    if (code != COULOMB_OK)
        return code;
    c->close = coulomb_client_close;
    c->deliver = deliver_batches;
    c->tx_hold = tx_hold;
    c->tx_progress = tx_progress;
    *out = c;
    return COULOMB_OK;
}

/* Mutations hold collections and what is kept holds mutations: the layers go first. */
void coulomb_client_close(coulomb_client *c)
{
    if (!c || c->closed)
        return;
    if (c->polling) {
        c->closing = true;
        return;
    }
    paced_close_all(c);
    for (struct list *l = c->collections.next; l != &c->collections;) {
        struct coulomb_collection *coll = LIST_ENTRY(l, struct coulomb_collection, link);

        collection_hold(coll);
        collection_shut(coll);
        l = l->next;
        collection_drop(coll);
    }
    c->closed = true;
    tx_close_all(c);
    while (!list_empty(&c->batches)) {
        struct batch *b = LIST_ENTRY(list_pop(&c->batches), struct batch, link);

        c->queued_changes -= b->count;
        batch_free(b);
    }
    if (c->servers_close)
        c->servers_close(c);
    if (c->net)
        c->net_close(c);
    client_release(c);
}

void coulomb_client_stats(const coulomb_client *c, coulomb_stats *stats)
{
    coulomb_stats now = {.size = stats->size,
                         .collections = c->collection_count,
                         .transactions = c->tx_count,
                         .subscriptions = c->sub_count,
                         .rows = c->heap->rows,
                         .registrations = c->registration_count,
                         .queued_changes = c->queued_changes,
                         .bytes = c->heap->bytes};

    memcpy(stats, &now, stats->size < sizeof(now) ? stats->size : sizeof(now));
}
