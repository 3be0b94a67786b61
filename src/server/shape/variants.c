/* Which shapes get the same messages.
 *
 * Shapes that differ only in which rows they have (or in how their log begins) encode a change
 * alike: same table, columns and replica mode. They share a *class*. In a class each of the
 * messages that a change can become is encoded and staged at most once, however many of its
 * shapes the change concerns. */
#include <stdlib.h>

#include "base/map.h"
#include "server/shape/internal.h"

#define KEY_MAX (8u << 20)

void variants_init(struct variants *v)
{
    *v = (struct variants){.serial = 0};
    map_init(&v->classes);
}

void variants_fini(struct variants *v)
{
    map_fini(&v->classes);
}

static struct slice class_key(struct buf *key, const struct shape_def *def)
{
    buf_put_le32(key, def->table->oid);
    encode_plan_put_identity(key, def->plan);
    return buf_slice(key);
}

int variants_share(struct variants *v, struct shape_def *def, struct shape_def **out,
                   struct err *err)
{
    const struct variant_class *class;
    struct buf key;

    buf_init(&key, KEY_MAX);
    class_key(&key, def);
    class = key.failed ? NULL : map_get(&v->classes, buf_slice(&key));
    buf_fini(&key);
    if (class != NULL && shape_columns_same(class->columns, def->columns))
        return shape_def_on(def, class->columns, out, err);
    *out = shape_def_retain(def);
    return 0;
}

struct variant_class *variants_join(struct variants *v, const struct shape_def *def)
{
    struct variant_class *class;
    struct buf key;

    buf_init(&key, KEY_MAX);
    class_key(&key, def);
    class = key.failed ? NULL : map_get(&v->classes, buf_slice(&key));
    if (class == NULL && !key.failed) {
        class = calloc(1, sizeof *class);
        if (class != NULL && map_put(&v->classes, buf_slice(&key), class, NULL) < 0) {
            free(class);
            class = NULL;
        }
    }
    buf_fini(&key);
    if (class != NULL) {
        struct shape_columns *before = class->columns;
        class->columns = shape_columns_retain(def->columns);
        shape_columns_release(before);
        class->shapes++;
    }
    return class;
}

void variants_leave(struct variants *v, struct variant_class *class,
                    const struct shape_def *def)
{
    struct buf key;

    if (--class->shapes > 0)
        return;
    buf_init(&key, KEY_MAX);
    class_key(&key, def);
    /* Without memory for its key it stays, empty, for the next one of its kind. */
    if (!key.failed && map_del(&v->classes, buf_slice(&key)) == class) {
        shape_columns_release(class->columns);
        free(class);
    }
    buf_fini(&key);
}

void variants_next_change(struct variants *v)
{
    v->serial++;
}

struct variant_memo *variants_memo(struct variants *v, struct variant_class *class,
                                   enum variant_kind kind)
{
    struct variant_memo *memo = &class->memo[kind];

    memo->known = memo->known && memo->serial == v->serial;
    memo->serial = v->serial;
    return memo;
}
