/* Names and values of headers or query parameters: a small list, each name once. Owner's thread. */
#ifndef COULOMB_CLIENT_NET_FIELDS_H
#define COULOMB_CLIENT_NET_FIELDS_H

#include "client/net/net.h"

struct net_fields {
    struct net_header *items;
    size_t count;
    size_t cap;
};

/* Copies. A name that is there gets the value; value NULL takes it out. COULOMB_E_MEMORY. */
int net_fields_set(struct heap *h, struct net_fields *f, const char *name,
                   const char *value);
/* NULL: none. */
const char *net_fields_get(const struct net_fields *f, const char *name);
void net_fields_clear(struct heap *h, struct net_fields *f);
void net_fields_fini(struct heap *h, struct net_fields *f);

#endif
