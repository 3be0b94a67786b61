/* What the holder of a JSON Web Token may read of it: its payload. Nothing is verified, the server decides;
 * a text that is no such token says nothing. */

#include <stdlib.h>
#include <string.h>

#include "base/base64url.h"
#include "client/server/server.h"
#include "json/json.h"

#define TOKEN_BYTES_MAX (64u * 1024)

static bool read_payload(const char *token, struct buf *out)
{
    const char *from = strchr(token, '.');
    const char *to = from ? strchr(from + 1, '.') : NULL;

    return to && base64url_decode(slice_make(from + 1, (size_t)(to - from - 1)), out);
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

char *token_bearer(struct heap *h, const char *token)
{
    static const char scheme[] = "Bearer ";
    size_t len = strlen(token);
    char *value = heap_alloc(h, sizeof(scheme) + len);

    if (value) {
        memcpy(value, scheme, sizeof(scheme) - 1);
        memcpy(value + sizeof(scheme) - 1, token, len + 1);
    }
    return value;
}
