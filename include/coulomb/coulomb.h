/* libcoulomb: collections, optimistic mutations and transactions for C.
 *
 * docs/libcoulomb.3 tells how to begin; the parts are included here in the order of reading. */
#ifndef COULOMB_COULOMB_H
#define COULOMB_COULOMB_H

#include "coulomb/base.h"
#include "coulomb/client.h"
#include "coulomb/collection.h"
#include "coulomb/credentials.h"
#include "coulomb/electric.h"
#include "coulomb/kinds.h"
#include "coulomb/server.h"
#include "coulomb/sync.h"
#include "coulomb/tx.h"
#include "coulomb/value.h"

#endif
