#include "sql/value.h"
int sql_jsonb_in(struct slice s, struct arena *a, struct sql_value *o, struct err *e)
{
    (void)s;
    (void)a;
    (void)o;
    return err_set(e, ERR_UNSUPPORTED, "not yet");
}
int sql_jsonb_cmp(const struct sql_value *a, const struct sql_value *b)
{
    (void)a;
    (void)b;
    return 0;
}
uint64_t sql_jsonb_hash(const struct sql_value *v, uint64_t s)
{
    (void)v;
    return s;
}
int sql_array_in(struct sql_type type, struct slice text, struct arena *arena,
                 struct sql_value *out, struct err *err)
{
    (void)type;
    (void)text;
    (void)arena;
    (void)out;
    return err_set(err, ERR_UNSUPPORTED, "not yet");
}
void sql_array_out(struct sql_type type, const struct sql_value *v, struct buf *out)
{
    (void)type;
    (void)v;
    (void)out;
}
int sql_array_cmp(struct sql_type type, const struct sql_value *a,
                  const struct sql_value *b)
{
    (void)type;
    (void)a;
    (void)b;
    return 0;
}
uint64_t sql_array_hash(struct sql_type type, const struct sql_value *v, uint64_t seed)
{
    (void)type;
    (void)v;
    return seed;
}
