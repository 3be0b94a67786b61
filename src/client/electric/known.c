#include "client/electric/known.h"

#include <string.h>

#include "client/collection/collection.h"

struct known_row {
    coulomb_key key;
    struct blob key_bytes;
    struct list gone; /* known.gone, while it is */
    uint32_t view;    /* that brought it, and nothing since; 0: none */
    bool has_txid;
    uint64_t txid; /* the log's last; 32 bits */
};

static coulomb_key key_of(const void *item)
{
    return ((const struct known_row *)item)->key;
}

void known_init(struct known *k, struct coulomb_collection *coll)
{
    memset(k, 0, sizeof(*k));
    k->coll = coll;
    ktab_init(&k->rows, coll->heap, key_of);
    list_init(&k->gone);
}

static void row_free_known(struct known *k, struct known_row *row)
{
    list_remove(&row->gone);
    blob_fini(k->coll->heap, &row->key_bytes);
    heap_free(k->coll->heap, row, sizeof(*row));
}

void known_clear(struct known *k)
{
    struct heap *h = k->coll->heap;
    struct kent *ent;
    size_t it = 0;

    while ((ent = ktab_next(&k->rows, &it)) != NULL)
        row_free_known(k, ent->item);
    ktab_fini(&k->rows);
    for (size_t i = 0; i < k->view_count; i++)
        view_fini(h, &k->views[i].view);
    heap_free(h, k->views, k->view_cap * sizeof(*k->views));
    k->views = NULL;
    k->view_count = k->view_cap = 0;
    k->gone_count = 0;
}

static struct known_row *find(const struct known *k, coulomb_key key)
{
    return ktab_get(&k->rows, key, coll_hash(k->coll, key));
}

/* NULL: no memory. */
static struct known_row *find_or_make(struct known *k, coulomb_key key)
{
    struct heap *h = k->coll->heap;
    uint32_t hash = coll_hash(k->coll, key);
    struct known_row *row = ktab_get(&k->rows, key, hash);

    if (row)
        return row;
    if (ktab_reserve(&k->rows, 1) != COULOMB_OK)
        return NULL;
    row = heap_zalloc(h, sizeof(*row));
    if (!row)
        return NULL;
    list_init(&row->gone);
    if (key_copy(h, key, &row->key_bytes, &row->key) != COULOMB_OK) {
        heap_free(h, row, sizeof(*row));
        return NULL;
    }
    ktab_put(&k->rows, row, hash);
    return row;
}

static bool is_gone(const struct known_row *row)
{
    return !list_empty(&row->gone);
}

/* Of those that are gone the oldest are forgotten. */
static void mark_gone(struct known *k, struct known_row *row)
{
    if (is_gone(row))
        return;
    list_push(&k->gone, &row->gone);
    if (++k->gone_count <= KNOWN_GONE_MAX)
        return;
    row = LIST_ENTRY(k->gone.next, struct known_row, gone);
    ktab_remove(&k->rows, ktab_find(&k->rows, row->key, coll_hash(k->coll, row->key)));
    row_free_known(k, row);
    k->gone_count--;
}

static void mark_there(struct known *k, struct known_row *row)
{
    if (!is_gone(row))
        return;
    list_remove(&row->gone);
    k->gone_count--;
}

int known_add(struct known *k, coulomb_key key)
{
    return find_or_make(k, key) ? COULOMB_OK : COULOMB_E_MEMORY;
}

bool known_has(const struct known *k, coulomb_key key)
{
    const struct known_row *row = find(k, key);

    return row && !is_gone(row);
}

/* --- The log ------------------------------------------------------------------------------------- */

static const struct known_view *find_view(const struct known *k, uint32_t number)
{
    for (size_t i = 0; i < k->view_count; i++) {
        if (k->views[i].number == number)
            return &k->views[i];
    }
    return NULL;
}

enum known_verdict known_ask(const struct known *k, coulomb_key key, bool insert,
                             const uint64_t *txids, size_t count)
{
    const struct known_row *row = find(k, key);
    const struct known_view *v = row ? find_view(k, row->view) : NULL;

    if (v && view_sees_all(&v->view, txids, count))
        return KNOWN_PASS;
    return insert || (row && !is_gone(row)) ? KNOWN_TAKE : KNOWN_PASS;
}

int known_logged(struct known *k, coulomb_key key, bool gone, const uint64_t *txids,
                 size_t count)
{
    struct known_row *row = find_or_make(k, key);

    if (!row)
        return COULOMB_E_MEMORY;
    /* From here on it follows the log, also where that has brought back what the view is past. */
    row->view = 0;
    row->has_txid = count > 0;
    row->txid = count > 0 ? txids[count - 1] : 0;
    if (gone)
        mark_gone(k, row);
    else
        mark_there(k, row);
    return COULOMB_OK;
}

/* --- Snapshots ------------------------------------------------------------------------------------ */

/* Nothing that comes from here on is seen by it. */
static void drop_view(struct known *k, size_t i)
{
    view_fini(k->coll->heap, &k->views[i].view);
    k->view_count--;
    memmove(&k->views[i], &k->views[i + 1], (k->view_count - i) * sizeof(*k->views));
}

/* An idle database gives the same view again. */
static struct known_view *same_view(struct known *k, const struct stream_snapshot *s)
{
    struct known_view *v = k->view_count > 0 ? &k->views[k->view_count - 1] : NULL;

    if (!v || !v->has_lsn || !s->has_lsn || v->lsn != s->database_lsn ||
        v->view.xmin != s->xmin || v->view.xmax != s->xmax ||
        v->view.xip_count != s->xip_count)
        return NULL;
    return s->xip_count == 0 ||
                   memcmp(v->view.xip, s->xip, s->xip_count * sizeof(*s->xip)) == 0
               ? v
               : NULL;
}

int known_view(struct known *k, const struct stream_snapshot *snapshot, uint32_t *number)
{
    struct heap *h = k->coll->heap;
    struct known_view *v = same_view(k, snapshot);
    void *views = k->views;
    int code;

    if (v) {
        *number = v->number;
        return COULOMB_OK;
    }
    if (k->view_count == KNOWN_VIEWS_MAX)
        drop_view(k, 0);
    code = heap_grow(h, &views, &k->view_cap, k->view_count + 1, sizeof(*k->views));
    k->views = views;
    if (code != COULOMB_OK)
        return code;
    v = &k->views[k->view_count];
    code = view_copy(h, &v->view, snapshot);
    if (code != COULOMB_OK)
        return code;
    v->number = ++k->last_view;
    v->has_lsn = snapshot->has_lsn;
    v->lsn = snapshot->database_lsn;
    k->view_count++;
    *number = v->number;
    return COULOMB_OK;
}

/* The row is of a later state than the view: by the log, or by another view. */
static bool is_older(const struct known *k, const struct known_view *v,
                     const struct known_row *row)
{
    const struct known_view *had = find_view(k, row->view);

    if (row->has_txid && !view_sees(&v->view, row->txid))
        return true;
    return had && had != v && had->view.xmin >= v->view.xmax;
}

int known_loaded(struct known *k, coulomb_key key, uint32_t view,
                 enum known_verdict *verdict)
{
    const struct known_view *v = find_view(k, view);
    struct known_row *row = find_or_make(k, key);

    if (!row)
        return COULOMB_E_MEMORY;
    *verdict = v && is_older(k, v, row) ? KNOWN_PASS : KNOWN_TAKE;
    if (*verdict == KNOWN_PASS)
        return COULOMB_OK;
    row->view = view;
    mark_there(k, row);
    return COULOMB_OK;
}

void known_passed(struct known *k, const uint64_t *txids, size_t count)
{
    for (size_t i = k->view_count; i-- > 0;) {
        bool past = false;

        for (size_t t = 0; t < count; t++)
            past = past || view_is_past(&k->views[i].view, txids[t]);
        if (past)
            drop_view(k, i);
    }
}

void known_reached(struct known *k, uint64_t lsn)
{
    for (size_t i = k->view_count; i-- > 0;) {
        if (k->views[i].has_lsn && lsn >= k->views[i].lsn)
            drop_view(k, i);
    }
}
