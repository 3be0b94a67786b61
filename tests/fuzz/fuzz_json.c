/* fuzz: json base */

/*
 * The reader over arbitrary bytes. Whatever it accepts is written out again from its
 * events; that text must be accepted too and give the same text once more. Whatever it
 * refuses must have a reason and a position inside of the input or at its end.
 */

#include "base/assert.h"
#include "base/err.h"
#include "json/json.h"

#define INPUT_MAX_BYTES (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_event(struct buf *out, const struct json_reader *r, enum json_event event)
{
    switch (event) {
    case JSON_OBJECT_BEGIN:
    case JSON_ARRAY_BEGIN:
        buf_putc(out, event == JSON_OBJECT_BEGIN ? '{' : '[');
        break;
    case JSON_OBJECT_END:
    case JSON_ARRAY_END:
        buf_putc(out, event == JSON_OBJECT_END ? '}' : ']');
        break;
    case JSON_NAME:
    case JSON_STRING:
        ASSERT(slice_is_utf8(r->text));
        json_put_string(out, r->text);
        if (event == JSON_NAME)
            buf_putc(out, ':');
        break;
    case JSON_NUMBER:
        buf_put_slice(out, r->text);
        break;
    case JSON_TRUE:
        buf_puts(out, "true");
        break;
    case JSON_FALSE:
        buf_puts(out, "false");
        break;
    case JSON_NULL:
        buf_puts(out, "null");
        break;
    case JSON_END:
    case JSON_ERROR:
        break;
    }
}

/* True when a comma goes between two events that follow each other. */
static bool comma_between(enum json_event before, enum json_event event)
{
    if (before == JSON_END || before == JSON_NAME || before == JSON_OBJECT_BEGIN ||
        before == JSON_ARRAY_BEGIN)
        return false;
    return event != JSON_OBJECT_END && event != JSON_ARRAY_END && event != JSON_END;
}

/* Reads in and writes it to out; true when it was well formed. */
static bool rewrite(struct slice in, struct buf *out)
{
    enum json_event before = JSON_END;
    enum json_event event;
    struct json_reader r;

    json_reader_init(&r, in);
    while ((event = json_next(&r)) != JSON_END && event != JSON_ERROR) {
        if (comma_between(before, event))
            buf_putc(out, ',');
        put_event(out, &r, event);
        ASSERT(r.depth <= JSON_DEPTH_MAX);
        before = event;
    }
    if (event == JSON_ERROR) {
        ASSERT(r.error && r.error_pos <= in.len);
        ASSERT(json_next(&r) == JSON_ERROR);
    }
    json_reader_fini(&r);
    return event == JSON_END;
}

/* Skipping over everything comes to the same verdict as looking at everything. */
static bool skip_all(struct slice in)
{
    struct json_reader r;
    bool ok;

    json_reader_init(&r, in);
    ok = json_skip(&r, json_next(&r)) && json_next(&r) == JSON_END;
    json_reader_fini(&r);
    return ok;
}

static void check_writer(struct slice in, struct buf *out)
{
    struct json_reader r;

    json_put_untrusted(out, in);
    json_reader_init(&r, buf_slice(out));
    ASSERT(json_next(&r) == JSON_STRING);
    ASSERT(!slice_is_utf8(in) || slice_eq(r.text, in));
    ASSERT(json_next(&r) == JSON_END);
    json_reader_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_make((const char *)data, size);
    struct buf once;
    struct buf twice;

    if (size > INPUT_MAX_BYTES)
        return 0;
    buf_init(&once, 8 * (size_t)INPUT_MAX_BYTES);
    buf_init(&twice, 8 * (size_t)INPUT_MAX_BYTES);
    if (rewrite(in, &once)) {
        ASSERT(!once.failed);
        ASSERT(rewrite(buf_slice(&once), &twice));
        ASSERT(slice_eq(buf_slice(&once), buf_slice(&twice)));
        ASSERT(skip_all(in));
    } else {
        ASSERT(!skip_all(in));
    }
    buf_reset(&once, SIZE_MAX);
    check_writer(in, &once);
    buf_fini(&once);
    buf_fini(&twice);
    return 0;
}
