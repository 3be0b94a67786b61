/* Numerics as digits: what numeric.c and numeric_ops.c share. Internal to sql/. */
#ifndef COULOMB_SQL_NUMERIC_H
#define COULOMB_SQL_NUMERIC_H

#include "sql/value.h"

#define NUMERIC_BASE       10000
#define NUMERIC_BASE_WIDTH 4     /* decimal digits of one digit */
#define NUMERIC_WEIGHT_MAX 32767 /* Postgres's format ends there */
#define NUMERIC_SCALE_MAX  16383

enum numeric_kind {
    NUMERIC_MINUS_INFINITY,
    NUMERIC_FINITE,
    NUMERIC_INFINITY,
    NUMERIC_NAN
};

/* digits[0] counts NUMERIC_BASE ^ weight. Neither the first nor the last digit is 0, and
 * zero has none: so equal values have equal digits, whatever their scale. */
struct sql_numeric {
    enum numeric_kind kind;
    bool negative;
    int32_t weight;
    int32_t scale; /* decimal digits shown behind the point */
    int32_t count;
    const uint16_t *digits;
};

/* Digits being worked on: as above, not yet normalised. */
struct numeric_work {
    bool negative;
    int32_t weight;
    int32_t scale;
    int32_t count;
    uint16_t *digits;
};

/* -1, 0, 1. Not for NaN. */
int numeric_sign(const struct sql_numeric *n);
/* Room for count digits, zeroed; false when there is no memory. */
bool numeric_work_init(struct numeric_work *w, struct arena *arena, int32_t count);
/* A copy with one digit of room in front, for a carry. */
bool numeric_work_copy(struct numeric_work *w, struct arena *arena,
                       const struct sql_numeric *n);
/* To scale decimal digits (which may be negative), half away from zero or cut. */
void numeric_work_round(struct numeric_work *w, int32_t scale, bool cut);
/* Normalises. */
struct sql_numeric numeric_work_value(struct numeric_work *w);
/* Normalises, too; the digits stay where they are. "value overflows numeric format". */
int numeric_work_done(struct numeric_work *w, struct arena *arena, struct sql_value *out,
                      struct err *err);
int numeric_special(enum numeric_kind kind, struct arena *arena, struct sql_value *out,
                    struct err *err);

#endif
