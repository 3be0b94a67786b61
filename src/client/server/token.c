/* What the holder of a JSON Web Token may read of it: its payload. Nothing is verified, the server decides;
 * a text that is no such token says nothing. */

#include <stdlib.h>
#include <string.h>

#include "client/server/server.h"
#include "json/json.h"

#define TOKEN_BYTES_MAX (64u * 1024)

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* base64url without padding; false: it is none. */
static bool decode(struct slice text, struct buf *out)
{
    uint32_t bits = 0;
    unsigned have = 0;

    for (size_t i = 0; i < text.len; i++) {
        int digit = digit_of(text.ptr[i]);

        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        have += 6;
        if (have >= 8) {
            have -= 8;
            buf_putc(out, (char)(bits >> have & 0xff));
        }
    }
    return !out->failed;
}

static bool read_payload(const char *token, struct buf *out)
{
    const char *from = strchr(token, '.');
    const char *to = from ? strchr(from + 1, '.') : NULL;

    return to && decode(slice_make(from + 1, (size_t)(to - from - 1)), out);
}

static int64_t read_exp(struct heap *h, struct slice payload)
{
    struct json_reader r;
    int64_t exp = 0;

    json_reader_init_from(&r, payload, &h->mem);
    if (json_next(&r) == JSON_OBJECT_BEGIN) {
        while (json_next(&r) == JSON_NAME) {
            bool found = slice_eq(r.text, slice_of("exp"));

            if (!found && json_skip(&r, JSON_NAME))
                continue;
            if (found && json_next(&r) == JSON_NUMBER) {
                char number[32];
                size_t n = r.text.len < 31 ? r.text.len : 31;

                memcpy(number, r.text.ptr, n);
                number[n] = '\0';
                exp = strtoll(number, NULL, 10);
            }
            break;
        }
    }
    json_reader_fini(&r);
    return exp;
}

int64_t token_end_s(struct heap *h, const char *token)
{
    struct buf payload;
    int64_t exp = 0;

    buf_init_from(&payload, TOKEN_BYTES_MAX, &h->mem);
    if (read_payload(token, &payload))
        exp = read_exp(h, buf_slice(&payload));
    buf_fini(&payload);
    return exp;
}

char *token_subject(struct heap *h, const char *token)
{
    struct buf payload;
    char *subject = NULL;

    buf_init_from(&payload, TOKEN_BYTES_MAX, &h->mem);
    if (read_payload(token, &payload))
        subject = answer_string(h, buf_slice(&payload), "sub");
    buf_fini(&payload);
    return subject;
}
