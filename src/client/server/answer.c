/* What the write path and the gatekeeper answer: small JSON objects (docs/writing.md, "Refusals"). */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/server/server.h"
#include "json/json.h"

static void copy(char *out, size_t cap, struct slice text)
{
    snprintf(out, cap, "%.*s", (int)(text.len < cap ? text.len : cap), text.ptr);
}

static void read_text(struct write_answer *a, const char *name, struct slice text)
{
    coulomb_refusal *r = &a->refusal;
    char number[32];

    if (strcmp(name, "code") == 0) {
        copy(r->code, sizeof(r->code), text);
    } else if (strcmp(name, "message") == 0) {
        copy(r->message, sizeof(r->message), text);
    } else if (strcmp(name, "table") == 0) {
        copy(r->table, sizeof(r->table), text);
    } else if (strcmp(name, "column") == 0) {
        copy(r->column, sizeof(r->column), text);
    } else if (strcmp(name, "constraint") == 0) {
        copy(r->constraint, sizeof(r->constraint), text);
    } else if (strcmp(name, "lsn") == 0) {
        copy(number, sizeof(number), text);
        a->lsn = strtoull(number, NULL, 10);
    }
}

static void read_number(struct write_answer *a, const char *name, struct slice text)
{
    char number[32];

    copy(number, sizeof(number), text);
    if (strcmp(name, "txid") == 0) {
        a->has_txid = true;
        a->txid = (uint32_t)strtoul(number, NULL, 10);
    } else if (strcmp(name, "mutation") == 0) {
        a->refusal.mutation = (int)strtol(number, NULL, 10);
    }
}

/* One member's value; false: the text is no JSON. */
static bool read_member(struct json_reader *r, struct write_answer *a, bool *success)
{
    char name[32];

    copy(name, sizeof(name), r->text);
    enum json_event event = json_next(r);
    if (event == JSON_STRING)
        read_text(a, name, r->text);
    else if (event == JSON_NUMBER)
        read_number(a, name, r->text);
    else if (strcmp(name, "success") == 0 && (event == JSON_TRUE || event == JSON_FALSE))
        *success = true, a->success = event == JSON_TRUE;
    else if (event == JSON_OBJECT_BEGIN || event == JSON_ARRAY_BEGIN)
        return json_skip(r, event);
    return event != JSON_ERROR && event != JSON_END;
}

/* Behind its brace. */
static bool read_object(struct json_reader *r, struct write_answer *a)
{
    bool success = false;

    *a = (struct write_answer){.refusal = {.mutation = -1}};
    for (;;) {
        enum json_event event = json_next(r);

        if (event == JSON_OBJECT_END)
            return success;
        if (event != JSON_NAME || !read_member(r, a, &success))
            return false;
    }
}

bool answer_read(struct heap *h, struct slice body, struct write_answer *out)
{
    struct json_reader r;

    json_reader_init_from(&r, body, &h->mem);
    bool good = json_next(&r) == JSON_OBJECT_BEGIN && read_object(&r, out);
    json_reader_fini(&r);
    return good;
}

/* To the value of a member of the outermost object; JSON_END: it has none. */
static enum json_event find_member(struct json_reader *r, const char *name)
{
    if (json_next(r) != JSON_OBJECT_BEGIN)
        return JSON_END;
    while (json_next(r) == JSON_NAME) {
        if (slice_eq(r->text, slice_of(name)))
            return json_next(r);
        if (!json_skip(r, JSON_NAME))
            return JSON_END;
    }
    return JSON_END;
}

bool answer_read_list(struct heap *h, struct slice body, struct write_answer *out,
                      size_t max, size_t *count)
{
    struct json_reader r;
    enum json_event event = JSON_ERROR;

    *count = 0;
    json_reader_init_from(&r, body, &h->mem);
    if (find_member(&r, "transactions") == JSON_ARRAY_BEGIN)
        while ((event = json_next(&r)) == JSON_OBJECT_BEGIN && *count < max &&
               read_object(&r, &out[*count]))
            ++*count;
    json_reader_fini(&r);
    return event == JSON_ARRAY_END;
}

char *answer_string(struct heap *h, struct slice body, const char *name)
{
    struct json_reader r;
    char *text = NULL;

    json_reader_init_from(&r, body, &h->mem);
    if (find_member(&r, name) == JSON_STRING && !memchr(r.text.ptr, 0, r.text.len)) {
        text = heap_alloc(h, r.text.len + 1);
        if (text) {
            memcpy(text, r.text.ptr, r.text.len);
            text[r.text.len] = '\0';
        }
    }
    json_reader_fini(&r);
    return text;
}
