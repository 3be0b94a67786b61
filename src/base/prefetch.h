/* Memory that will be read soon. */
#ifndef COULOMB_BASE_PREFETCH_H
#define COULOMB_BASE_PREFETCH_H

#define CACHE_LINE_BYTES 64

/* Any address will do, also NULL. */
#define PREFETCH(address) __builtin_prefetch(address)

#endif
