/*
 * Metrics in constant memory.
 *
 * Every cell is an atomic with relaxed order: a number is right in itself, but two
 * numbers read one after the other need not belong to the same instant. A histogram's
 * count is therefore the sum of its buckets as read, never a cell of its own, so that the
 * line for +Inf always equals the count.
 */

#include "server/obs/obs.h"

#include "base/assert.h"

#define FIRST_BUCKET_US 100

struct metric {
    const char *name;
    const char *help;
};

struct reason {
    const char *name;
    const char *text;
};

#define METRIC(id, name, help) {name, help},

static const struct metric counters[OBS_COUNTER_COUNT] = {OBS_COUNTERS(METRIC)};
static const struct metric gauges[OBS_GAUGE_COUNT] = {OBS_GAUGES(METRIC)};
static const struct metric histograms[OBS_HISTOGRAM_COUNT] = {OBS_HISTOGRAMS(METRIC)};
static const struct reason shape_reasons[OBS_SHAPE_REASON_COUNT] = {
    OBS_SHAPE_REASONS(METRIC)};
static const struct reason refusals[OBS_REFUSAL_COUNT] = {OBS_REFUSALS(METRIC)};
static const struct reason stream_reasons[OBS_STREAM_REASON_COUNT] = {
    OBS_STREAM_REASONS(METRIC)};

/* Recording. */

static void zero(atomic_uint_fast64_t *cells, size_t count)
{
    for (size_t i = 0; i < count; i++)
        atomic_init(&cells[i], 0);
}

void obs_init(struct obs *o)
{
    zero(o->counter, OBS_COUNTER_COUNT);
    for (size_t i = 0; i < OBS_GAUGE_COUNT; i++)
        atomic_init(&o->gauge[i], 0);
    for (size_t i = 0; i < OBS_HISTOGRAM_COUNT; i++) {
        zero(o->histogram[i].bucket, OBS_BUCKETS + 1);
        atomic_init(&o->histogram[i].sum_us, 0);
    }
    zero(o->shapes_removed, OBS_SHAPE_REASON_COUNT);
    zero(o->refused, OBS_REFUSAL_COUNT);
    zero(o->stream_lost, OBS_STREAM_REASON_COUNT);
}

void obs_count(struct obs *o, enum obs_counter which, uint64_t n)
{
    ASSERT(which < OBS_COUNTER_COUNT);
    if (o)
        atomic_fetch_add_explicit(&o->counter[which], n, memory_order_relaxed);
}

void obs_set(struct obs *o, enum obs_gauge which, int64_t value)
{
    ASSERT(which < OBS_GAUGE_COUNT);
    if (o)
        atomic_store_explicit(&o->gauge[which], value, memory_order_relaxed);
}

void obs_add(struct obs *o, enum obs_gauge which, int64_t delta)
{
    ASSERT(which < OBS_GAUGE_COUNT);
    if (o)
        atomic_fetch_add_explicit(&o->gauge[which], delta, memory_order_relaxed);
}

/* The first bucket whose upper bound is not below us; OBS_BUCKETS stands for +Inf. */
static size_t bucket_of(uint64_t us)
{
    size_t i = 0;

    while (i < OBS_BUCKETS && us > (uint64_t)FIRST_BUCKET_US << i)
        i++;
    return i;
}

void obs_time(struct obs *o, enum obs_histogram which, int64_t us)
{
    uint64_t duration_us = us > 0 ? (uint64_t)us : 0;
    struct obs_histogram_cells *cells;

    ASSERT(which < OBS_HISTOGRAM_COUNT);
    if (!o)
        return;
    cells = &o->histogram[which];
    atomic_fetch_add_explicit(&cells->bucket[bucket_of(duration_us)], 1,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&cells->sum_us, duration_us, memory_order_relaxed);
}

void obs_shape_removed(struct obs *o, enum obs_shape_reason reason)
{
    ASSERT(reason < OBS_SHAPE_REASON_COUNT);
    if (o)
        atomic_fetch_add_explicit(&o->shapes_removed[reason], 1, memory_order_relaxed);
}

void obs_refused(struct obs *o, enum obs_refusal reason)
{
    ASSERT(reason < OBS_REFUSAL_COUNT);
    if (o)
        atomic_fetch_add_explicit(&o->refused[reason], 1, memory_order_relaxed);
}

void obs_stream_lost(struct obs *o, enum obs_stream_reason reason)
{
    ASSERT(reason < OBS_STREAM_REASON_COUNT);
    if (o)
        atomic_fetch_add_explicit(&o->stream_lost[reason], 1, memory_order_relaxed);
}

/* The text format, version 0.0.4. */

static uint64_t load(const atomic_uint_fast64_t *cell)
{
    return atomic_load_explicit(cell, memory_order_relaxed);
}

static void put_head(struct buf *out, const char *name, const char *help,
                     const char *type)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Microseconds as seconds, without trailing zeros: 0.0001, 13.1072, 2. */
static void put_seconds(struct buf *out, uint64_t us)
{
    uint64_t fraction = us % 1000000;
    uint64_t unit = 100000;

    buf_put_u64(out, us / 1000000);
    if (fraction > 0)
        buf_putc(out, '.');
    for (; fraction > 0; unit /= 10) {
        buf_putc(out, (char)('0' + fraction / unit));
        fraction %= unit;
    }
}

static void put_histogram(struct buf *out, const struct metric *metric,
                          const struct obs_histogram_cells *cells)
{
    uint64_t count = 0;

    put_head(out, metric->name, metric->help, "histogram");
    for (size_t i = 0; i <= OBS_BUCKETS; i++) {
        count += load(&cells->bucket[i]);
        buf_printf(out, "%s_bucket{le=\"", metric->name);
        if (i < OBS_BUCKETS)
            put_seconds(out, (uint64_t)FIRST_BUCKET_US << i);
        else
            buf_puts(out, "+Inf");
        buf_puts(out, "\"} ");
        buf_put_u64(out, count);
        buf_putc(out, '\n');
    }
    buf_printf(out, "%s_sum ", metric->name);
    put_seconds(out, load(&cells->sum_us));
    buf_printf(out, "\n%s_count ", metric->name);
    buf_put_u64(out, count);
    buf_putc(out, '\n');
}

static void put_reasons(struct buf *out, const char *name, const char *help,
                        const struct reason *reasons, const atomic_uint_fast64_t *cells,
                        size_t count)
{
    put_head(out, name, help, "counter");
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "%s{reason=\"%s\"} ", name, reasons[i].name);
        buf_put_u64(out, load(&cells[i]));
        buf_putc(out, '\n');
    }
}

static void put_gauge(struct buf *out, size_t which, int64_t value)
{
    if (which == OBS_G_LAG_MS && value >= 0)
        put_seconds(out, (uint64_t)value * 1000);
    else
        buf_put_i64(out, value);
}

void obs_render(const struct obs *o, struct buf *out)
{
    for (size_t i = 0; i < OBS_COUNTER_COUNT; i++) {
        put_head(out, counters[i].name, counters[i].help, "counter");
        buf_printf(out, "%s ", counters[i].name);
        buf_put_u64(out, load(&o->counter[i]));
        buf_putc(out, '\n');
    }
    for (size_t i = 0; i < OBS_GAUGE_COUNT; i++) {
        put_head(out, gauges[i].name, gauges[i].help, "gauge");
        buf_printf(out, "%s ", gauges[i].name);
        put_gauge(out, i, atomic_load_explicit(&o->gauge[i], memory_order_relaxed));
        buf_putc(out, '\n');
    }
    for (size_t i = 0; i < OBS_HISTOGRAM_COUNT; i++)
        put_histogram(out, &histograms[i], &o->histogram[i]);
    put_reasons(out, "coulomb_shapes_removed_total", "Shapes removed, by reason",
                shape_reasons, o->shapes_removed, OBS_SHAPE_REASON_COUNT);
    put_reasons(out, "coulomb_http_refused_total", "HTTP requests refused, by reason",
                refusals, o->refused, OBS_REFUSAL_COUNT);
    put_reasons(out, "coulomb_replication_lost_total",
                "Replication streams ended, by reason", stream_reasons, o->stream_lost,
                OBS_STREAM_REASON_COUNT);
}

/* Words of the reasons. */

const char *obs_shape_reason_name(enum obs_shape_reason reason)
{
    ASSERT(reason < OBS_SHAPE_REASON_COUNT);
    return shape_reasons[reason].name;
}

const char *obs_shape_reason_text(enum obs_shape_reason reason)
{
    ASSERT(reason < OBS_SHAPE_REASON_COUNT);
    return shape_reasons[reason].text;
}

const char *obs_refusal_name(enum obs_refusal reason)
{
    ASSERT(reason < OBS_REFUSAL_COUNT);
    return refusals[reason].name;
}

const char *obs_stream_reason_name(enum obs_stream_reason reason)
{
    ASSERT(reason < OBS_STREAM_REASON_COUNT);
    return stream_reasons[reason].name;
}
