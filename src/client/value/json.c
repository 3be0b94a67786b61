/* Values as JSON. */
#include <math.h>

#include "client/value/value.h"
#include "json/json.h"

void value_put_json(struct buf *b, const coulomb_value *v, struct arena *arena)
{
    struct sql_value x;
    struct err err;
    struct buf text;
    coulomb_type element = v->type == COULOMB_ARRAY ? v->v.array->element : COULOMB_NULL;
    bool bare = v->type == COULOMB_INT64 || v->type == COULOMB_JSON ||
                (v->type == COULOMB_DOUBLE && isfinite(v->v.f));

    if (v->type == COULOMB_NULL) {
        buf_puts(b, "null");
        return;
    }
    if (v->type == COULOMB_BOOL) {
        buf_puts(b, v->v.b ? "true" : "false");
        return;
    }
    if (value_is_bytes(v->type) && v->type != COULOMB_BYTES) {
        if (bare)
            buf_put_slice(b, value_slice(v));
        else
            json_put_string(b, value_slice(v));
        return;
    }
    buf_init_from(&text, VALUE_BYTES_MAX, b->mem);
    if (value_to_sql(v, arena, &x, &err) == COULOMB_OK)
        sql_value_out(value_sql_type(v->type, element), &x, &text);
    else
        text.failed = ERR_MEMORY;
    if (text.failed != 0)
        b->failed = text.failed;
    else if (bare)
        buf_put_slice(b, buf_slice(&text));
    else
        json_put_string(b, buf_slice(&text));
    buf_fini(&text);
}
