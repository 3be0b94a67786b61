/*
 * What can be told without a client: names, texts, versions, options.
 */

#include <string.h>

#include "client/loop/loop.h"
#include "coulomb_version.h"

const char *coulomb_version(void)
{
    return COULOMB_VERSION;
}

void coulomb_options_init(void *options, size_t size)
{
    memset(options, 0, size);
    memcpy(options, &size, sizeof(size));
}

const char *coulomb_error_name(int code)
{
    switch (code) {
    case COULOMB_OK:
        return "COULOMB_OK";
    case COULOMB_PENDING:
        return "COULOMB_PENDING";
#define NAME(name, number, text, upstream)                                               \
    case number:                                                                         \
        return "COULOMB_E_" #name;
        COULOMB_ERROR_TABLE(NAME)
#undef NAME
    default:
        return NULL;
    }
}

const char *coulomb_error_text(int code)
{
    switch (code) {
#define TEXT(name, number, text, upstream)                                               \
    case number:                                                                         \
        return text;
        COULOMB_ERROR_TABLE(TEXT)
#undef TEXT
    default:
        return "";
    }
}

void coulomb_issue(coulomb_issues *issues, const char *column, const char *message)
{
    struct issue *to;

    if (issues->count >= ISSUES_MAX)
        return;
    to = &issues->items[issues->count++];
    memset(to, 0, sizeof(*to));
    if (column)
        memcpy(to->column, column, strnlen(column, sizeof(to->column) - 1));
    if (message)
        memcpy(to->message, message, strnlen(message, sizeof(to->message) - 1));
}

size_t coulomb_issue_count(const coulomb_client *c)
{
    return c->issues.count;
}

const char *coulomb_issue_message(const coulomb_client *c, size_t i, const char **column)
{
    if (i >= c->issues.count)
        return NULL;
    if (column)
        *column = c->issues.items[i].column;
    return c->issues.items[i].message;
}
