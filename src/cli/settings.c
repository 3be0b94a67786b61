/* Settings: reading flags and environment, and saying what is wrong with them.
 *
 * Problem: a server that starts with half of what its operator meant is worse than one
 * that does not start. Approach: every name that looks like ours must be known (a
 * misspelt one is met with its nearest neighbour), every value must be of its kind and
 * range, and every complaint names the setting as the user gave it. Values that are
 * secrets are never repeated. Rejected: getopt_long, whose abbreviations make a new flag
 * break old scripts. */
#include "cli/settings.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"

#define NAME_MAX_CHARS 64
#define NEAR_ENOUGH    3
#define VALUE_SHOWN    80

static const struct setting_info infos[SETTING_COUNT] = {
#define X(id, group, env, older, flag, kind, least, most, fallback, help)                \
    [SETTING_##id] = {SETTING_GROUP_##group,                                             \
                      env,                                                               \
                      older,                                                             \
                      flag,                                                              \
                      SETTING_##kind##_KIND,                                             \
                      least,                                                             \
                      most,                                                              \
                      fallback,                                                          \
                      help},
    SETTINGS(X)
#undef X
};

static const struct ignored {
    const char *name;
    enum log_level level;
    const char *why;
} ignored[] = {
#define X(name, level, why) {name, level, why},
    SETTINGS_IGNORED(X)
#undef X
};

#define IGNORED_COUNT (sizeof(ignored) / sizeof(ignored[0]))

const struct setting_info *setting_info(enum setting_id id)
{
    return &infos[id];
}

const char *setting_group_title(enum setting_group group)
{
    static const char *const titles[] = {
#define X(id, title) [SETTING_GROUP_##id] = title,
        SETTING_GROUPS(X)
#undef X
    };
    return titles[group];
}

const char *setting_kind_argument(enum setting_kind kind)
{
    static const char *const arguments[] = {
#define X(id, argument, right) [SETTING_##id##_KIND] = argument,
        SETTING_KINDS(X)
#undef X
    };
    return arguments[kind];
}

const char *setting_kind_right(enum setting_kind kind)
{
    static const char *const rights[] = {
#define X(id, argument, right) [SETTING_##id##_KIND] = right,
        SETTING_KINDS(X)
#undef X
    };
    return rights[kind];
}

/* --- Complaints --- */

static bool hidden(enum setting_kind kind)
{
    return kind == SETTING_SECRET_KIND || kind == SETTING_URL_KIND;
}

void setting_put_given(struct buf *out, enum setting_id id, const struct setting_value *v)
{
    const char *name = v->name ? v->name : infos[id].env;
    buf_puts(out, name);
    if (hidden(infos[id].kind) || !v->text)
        return;
    buf_putc(out, name[0] == '-' ? ' ' : '=');
    struct slice text = slice_of(v->text);
    size_t shown = text.len;
    if (shown > VALUE_SHOWN)
        shown = slice_utf8_prefix(slice_make(text.ptr, VALUE_SHOWN));
    buf_put(out, text.ptr, shown);
    if (shown < text.len)
        buf_puts(out, "...");
}

static int refuse(enum setting_id id, const struct setting_value *v, const char *why,
                  struct err *err)
{
    struct buf given;
    buf_init(&given, 512);
    setting_put_given(&given, id, v);
    int rc = err_set(err, ERR_INVALID, "%.*s: %s", (int)given.len,
                     given.len ? given.ptr : "", why);
    buf_fini(&given);
    return rc;
}

/* --- Values --- */

static bool is_address(const char *text)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static bool is_word(const char *text, const char *one, const char *other)
{
    return strcmp(text, one) == 0 || strcmp(text, other) == 0;
}

/* Of its kind? Fills v->v. *why may get a better sentence than the kind's own. */
static bool parse(enum setting_kind kind, struct setting_value *v, const char **why)
{
    struct slice text = slice_of(v->text);
    switch (kind) {
    case SETTING_BOOL_KIND:
        return setting_parse_bool(text, &v->v.flag);
    case SETTING_PORT_KIND:
        if (strncmp(v->text, "tcp://", 6) == 0)
            *why = "a port is a number from 0 to 65535. Kubernetes sets this one for a "
                   "service of that name: set enableServiceLinks: false, or use the flag";
        return setting_parse_port(text, &v->v.number);
    case SETTING_COUNT_KIND:
        return slice_to_u64(text, &v->v.number);
    case SETTING_DURATION_KIND:
        return setting_parse_duration(text, &v->v.ms);
    case SETTING_SIZE_KIND:
        return setting_parse_size(text, &v->v.number);
    case SETTING_LIMITS_KIND:
        return setting_parse_limits(v->text, &v->v.limits, why);
    case SETTING_LEVEL_KIND:
        return log_level_parse(text, &v->v.level);
    case SETTING_ADDRESS_KIND:
        return is_address(v->text);
    case SETTING_STORAGE_KIND:
        if (strcmp(v->text, "FILE") == 0)
            *why = "the storage FILE is no longer there: use FAST_FILE";
        return is_word(v->text, "FAST_FILE", "MEMORY");
    case SETTING_STATE_KIND:
        return is_word(v->text, "FILE", "MEMORY");
    case SETTING_TEXT_KIND:
    case SETTING_SECRET_KIND:
    case SETTING_URL_KIND:
    case SETTING_PATH_KIND:
        break;
    }
    return true;
}

static bool ranged(enum setting_kind kind)
{
    return kind == SETTING_COUNT_KIND || kind == SETTING_DURATION_KIND ||
           kind == SETTING_SIZE_KIND;
}

static bool in_range(const struct setting_info *info, const struct setting_value *v)
{
    if (!ranged(info->kind))
        return true;
    if (info->kind == SETTING_DURATION_KIND)
        return v->v.ms >= info->least && v->v.ms <= info->most;
    return v->v.number >= (uint64_t)info->least && v->v.number <= (uint64_t)info->most;
}

static int take(struct settings *s, enum setting_id id, enum setting_source source,
                const char *name, const char *text, struct err *err)
{
    const struct setting_info *info = &infos[id];
    struct setting_value v = {.source = source, .name = name, .text = text};
    const char *why = NULL;
    char sentence[256];
    if (!parse(info->kind, &v, &why)) {
        snprintf(sentence, sizeof(sentence), "it must be %s",
                 setting_kind_right(info->kind));
        return refuse(id, &v, why ? why : sentence, err);
    }
    if (!in_range(info, &v)) {
        snprintf(sentence, sizeof(sentence),
                 "it must be from %" PRId64 " to %" PRId64 "%s", info->least, info->most,
                 info->kind == SETTING_DURATION_KIND ? " ms"
                 : info->kind == SETTING_SIZE_KIND   ? " bytes"
                                                     : "");
        return refuse(id, &v, sentence, err);
    }
    s->values[id] = v;
    return 0;
}

void settings_init(struct settings *s)
{
    *s = (struct settings){0};
    for (int i = 0; i < SETTING_COUNT; i++) {
        struct setting_value *v = &s->values[i];
        const char *why;
        v->name = infos[i].env;
        v->text = infos[i].fallback;
        ASSERT(!v->text || parse(infos[i].kind, v, &why)); /* which takes no memory */
    }
}

/* --- Names --- */

/* Levenshtein's distance, for short names. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[NAME_MAX_CHARS + 1];
    size_t len_b = strlen(b);
    if (strlen(a) > NAME_MAX_CHARS || len_b > NAME_MAX_CHARS)
        return UINT32_MAX;
    for (unsigned j = 0; j <= len_b; j++)
        row[j] = j;
    for (unsigned i = 0; a[i]; i++) {
        unsigned diagonal = row[0];
        row[0] = i + 1;
        for (unsigned j = 0; j < len_b; j++) {
            unsigned best = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (diagonal + 1 < best)
                best = diagonal + 1;
            row[j + 1] = best;
        }
    }
    return row[len_b];
}

static int refuse_unknown(const char *name, bool is_flag, struct err *err)
{
    const char *nearest = NULL;
    unsigned best = NEAR_ENOUGH + 1;
    for (int i = 0; i < SETTING_COUNT; i++) {
        const char *known = is_flag ? infos[i].flag : infos[i].env;
        unsigned d = distance(is_flag ? name + 2 : name, known);
        if (d < best) {
            best = d;
            nearest = known;
        }
    }
    const char *dashes = is_flag ? "--" : "";
    if (nearest)
        return err_set(err, ERR_INVALID,
                       "%.*s: there is no such setting; did you mean %s%s?", 80, name,
                       dashes, nearest);
    return err_set(err, ERR_INVALID,
                   "%.*s: there is no such setting; `coulomb help settings` lists them",
                   80, name);
}

/* --- The environment --- */

static const struct ignored *find_ignored(struct slice name)
{
    for (size_t i = 0; i < IGNORED_COUNT; i++) {
        struct slice pattern = slice_of(ignored[i].name);
        bool prefix = pattern.ptr[pattern.len - 1] == '*';
        struct slice head = prefix ? slice_make(pattern.ptr, pattern.len - 1) : pattern;
        if (name.len < head.len || (!prefix && name.len != head.len))
            continue;
        if (memcmp(name.ptr, head.ptr, head.len) == 0)
            return &ignored[i];
    }
    return NULL;
}

/* *older tells which of its two names it was. */
static int find_env(struct slice name, bool *older)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        *older = infos[i].older_env && slice_eq(name, slice_of(infos[i].older_env));
        if (*older || slice_eq(name, slice_of(infos[i].env)))
            return i;
    }
    return -1;
}

static bool looks_like_ours(struct slice name)
{
    return (name.len > 9 && memcmp(name.ptr, "ELECTRIC_", 9) == 0) ||
           (name.len > 8 && memcmp(name.ptr, "COULOMB_", 8) == 0);
}

static int read_variable(struct settings *s, const char *variable, struct err *err)
{
    const char *equals = strchr(variable, '=');
    if (!equals || equals[1] == '\0')
        return 0;
    struct slice name = slice_make(variable, (size_t)(equals - variable));
    bool older;
    int id = find_env(name, &older);
    if (id < 0) {
        if (!looks_like_ours(name) || find_ignored(name))
            return 0;
        char copy[NAME_MAX_CHARS + 16];
        snprintf(copy, sizeof(copy), "%.*s", (int)name.len, name.ptr);
        return refuse_unknown(copy, false, err);
    }
    const struct setting_info *info = &infos[id];
    struct setting_value *now = &s->values[id];
    if (now->source == SETTING_FLAG)
        return 0;
    /* The newer name wins, whatever their order. */
    if (older && now->source == SETTING_ENVIRONMENT)
        return 0;
    return take(s, (enum setting_id)id, SETTING_ENVIRONMENT,
                older ? info->older_env : info->env, equals + 1, err);
}

int settings_read_env(struct settings *s, char *const *env, struct err *err)
{
    for (; *env; env++) {
        int rc = read_variable(s, *env, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

void settings_log_ignored(const struct log *log, char *const *env)
{
    bool older;
    for (; *env; env++) {
        const char *equals = strchr(*env, '=');
        if (!equals || equals[1] == '\0')
            continue;
        struct slice name = slice_make(*env, (size_t)(equals - *env));
        if (!looks_like_ours(name) || find_env(name, &older) >= 0)
            continue;
        const struct ignored *found = find_ignored(name);
        if (found)
            log_event(log, found->level, "setting.ignored", LOG_SLICE("name", name),
                      LOG_TEXT("reason", found->why));
    }
}

/* --- Flags --- */

static int find_flag(struct slice name)
{
    for (int i = 0; i < SETTING_COUNT; i++)
        if (slice_eq(name, slice_of(infos[i].flag)))
            return i;
    return -1;
}

/* The flag's name with its dashes, from the table, so that it outlives argv's "=value".
 */
static const char *flag_name(enum setting_id id)
{
    static const char *const names[] = {
#define X(id, group, env, older, flag, ...) [SETTING_##id] = "--" flag,
        SETTINGS(X)
#undef X
    };
    return names[id];
}

int settings_read_flag(struct settings *s, char *const *args, int count, int *at,
                       struct err *err)
{
    const char *arg = args[*at];
    if (strncmp(arg, "--", 2) != 0 || arg[2] == '\0')
        return ERR_NOT_FOUND;
    struct slice name = slice_make(arg + 2, strcspn(arg + 2, "="));
    const char *value = name.ptr[name.len] == '=' ? name.ptr + name.len + 1 : NULL;
    int found = find_flag(name);
    if (found < 0) {
        char copy[NAME_MAX_CHARS + 16];
        snprintf(copy, sizeof(copy), "--%.*s", (int)name.len, name.ptr);
        return refuse_unknown(copy, true, err);
    }
    enum setting_id id = (enum setting_id)found;
    (*at)++;
    bool is_bool = infos[id].kind == SETTING_BOOL_KIND;
    bool next; /* "--insecure true" is as good as "--insecure" */
    if (!value && is_bool &&
        (*at >= count || !setting_parse_bool(slice_of(args[*at]), &next)))
        value = "true";
    else if (!value && *at < count)
        value = args[(*at)++];
    if (!value || value[0] == '\0')
        return err_set(err, ERR_INVALID, "%s: it needs a value, %s", flag_name(id),
                       setting_kind_right(infos[id].kind));
    return take(s, id, SETTING_FLAG, flag_name(id), value, err);
}
