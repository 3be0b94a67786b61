/* fuzz: server/snapshot */
/* A line of COPY text: must stay within the line, whatever it holds. The first byte of
 * the input is the number of fields that are expected. What was parsed is escaped again
 * the way Postgres does and must parse to the same values. */
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/buf.h"
#include "server/snapshot/copytext.h"

#define FIELDS_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_field(struct buf *out, struct value v)
{
    static const char plain[] = "\b\f\n\r\t\v\\";
    static const char letters[] = "bfnrtv\\";

    if (v.kind == VALUE_NULL) {
        buf_puts(out, "\\N");
        return;
    }
    for (uint32_t i = 0; i < v.len; i++) {
        const char *at = v.ptr[i] ? strchr(plain, v.ptr[i]) : NULL;

        if (at)
            buf_putc(out, '\\');
        buf_putc(out, at ? letters[at - plain] : v.ptr[i]);
    }
}

static void check_round_trip(const struct value *row, const uint16_t *columns,
                             size_t count)
{
    struct value again[FIELDS_MAX];
    struct buf line;

    buf_init(&line, SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_putc(&line, '\t');
        put_field(&line, row[columns[i]]);
    }
    buf_putc(&line, '\n');
    ASSERT(!line.failed);
    ASSERT(copytext_parse(line.ptr, line.len, columns, count, again, NULL) == 0);
    for (size_t i = 0; i < count; i++)
        ASSERT(value_eq(row[columns[i]], again[columns[i]]));
    buf_fini(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint16_t columns[FIELDS_MAX];
    struct value row[FIELDS_MAX];
    size_t count;
    char *line;

    if (size == 0)
        return 0;
    count = 1 + data[0] % FIELDS_MAX;
    for (size_t i = 0; i < count; i++)
        columns[i] = (uint16_t)(count - 1 - i);
    /* Exactly as long as the line, so that a sanitizer sees one byte too many. */
    line = malloc(size > 1 ? size - 1 : 1);
    if (!line)
        return 0;
    memcpy(line, data + 1, size - 1);
    if (copytext_parse(line, size - 1, columns, count, row, NULL) == 0)
        check_round_trip(row, columns, count);
    free(line);
    return 0;
}
