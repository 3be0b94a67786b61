/*
 * Regular expressions: the part of Postgres's advanced ones on whose meaning nothing else
 * has an influence.
 *
 *   regex   = branch *( "|" branch )
 *   branch  = 1*( "^" / "$" / atom [ ( "*" / "+" / "?" / bound ) ["?"] ] )
 *   bound   = "{" M [ "," [N] ] "}"                          at most 255
 *   atom    = "(" ["?:"] regex ")" / "." / "[" ["^"] set "]" / class / "\" sign / CHAR
 *   class   = "\d" / "\w" / "\s" / "\D" / "\W" / "\S"
 *   set     = 1*( CHAR [ "-" CHAR ] / class / "[:" name ":]" / "\" sign )
 *
 * Everything else (back references, lookahead, word boundaries, options, empty branches,
 * what Postgres finds wrong) is refused. So is what depends on a locale: classes, ranges
 * and folding of case beyond ASCII. Whether something matches does not depend on greed.
 *
 * The pattern becomes a tree, the tree a nondeterministic automaton, and that is followed
 * in all its states at once: time is at most states times text, whatever the pattern.
 * Groups nest at most DEPTH_MAX deep, which bounds the recursion.
 */

#include "sql/ops.h"

#define DEPTH_MAX  24
#define STATES_MAX 1000u
#define BOUND_MAX  255

enum kind {
    NODE_CHAR,
    NODE_SET,
    NODE_ANY,
    NODE_START,
    NODE_END,
    NODE_CAT,
    NODE_ALT,
    NODE_REPEAT
};

struct set {
    bool has[128];
    bool negated;
};

struct node {
    enum kind kind;
    uint32_t c;
    struct set *set;
    int min;
    int max;            /* -1: none */
    struct node *first; /* what it consists of */
    struct node *next;  /* its sibling */
};

enum state_kind {
    STATE_CHAR,
    STATE_SET,
    STATE_ANY,
    STATE_START,
    STATE_END,
    STATE_SPLIT,
    STATE_MATCH
};

struct state {
    enum state_kind kind;
    uint32_t c;
    const struct set *set;
    uint32_t next;
    uint32_t other; /* of a split */
    size_t seen;    /* the position at which it was last entered, and one */
};

struct regex {
    struct arena *arena;
    struct slice rest;
    bool fold;
    bool ascii_only; /* the text may have nothing else */
    bool memory;     /* ran out */
    struct state *states;
    uint32_t count;
};

/* ---- characters ---- */

/* The next character of well-formed UTF-8. */
static uint32_t take(struct slice *s)
{
    unsigned char lead = (unsigned char)s->ptr[0];
    size_t n = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    uint32_t c = lead;

    if (n > s->len)
        n = s->len;
    if (n > 1)
        c = lead & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++)
        c = c << 6 | ((unsigned char)s->ptr[i] & 0x3Fu);
    *s = slice_make(s->ptr + n, s->len - n);
    return c;
}

static char peek(const struct regex *r, size_t at)
{
    return at < r->rest.len ? r->rest.ptr[at] : '\0';
}

static void advance(struct regex *r, size_t n)
{
    r->rest = slice_make(r->rest.ptr + n, r->rest.len - n);
}

static uint32_t folded(uint32_t c)
{
    return c < 0x80 ? (uint32_t)sql_lower_ascii((char)c) : c;
}

static bool is_alnum(uint32_t c)
{
    return c < 0x80 && (sql_is_alpha((char)c) || sql_is_digit((char)c));
}

/* ---- sets ---- */

static bool in_class(const char *name, size_t len, uint32_t c)
{
    static const char *const names[] = {"alpha", "digit", "alnum", "upper",
                                        "lower", "space", "word",  "xdigit"};
    char ch = (char)c;
    char low = sql_lower_ascii(ch);
    size_t i = 0;

    while (i < sizeof(names) / sizeof(names[0]) &&
           (strlen(names[i]) != len || memcmp(names[i], name, len) != 0))
        i++;
    switch (i) {
    case 0:
        return sql_is_alpha(ch);
    case 1:
        return sql_is_digit(ch);
    case 2:
        return is_alnum(c);
    case 3:
        return sql_is_alpha(ch) && low != ch;
    case 4:
        return sql_is_alpha(ch) && low == ch;
    case 5:
        return sql_is_blank(ch);
    case 6:
        return is_alnum(c) || ch == '_';
    case 7:
        return sql_is_digit(ch) || (low >= 'a' && low <= 'f');
    default:
        return false;
    }
}

static bool is_class_name(const char *name, size_t len)
{
    for (uint32_t c = 0; c < 0x80; c++) {
        if (in_class(name, len, c))
            return true;
    }
    return false;
}

static void add_class(struct set *set, const char *name, size_t len, bool negated)
{
    for (uint32_t c = 0; c < 0x80; c++)
        set->has[c] = set->has[c] || in_class(name, len, c) != negated;
}

/* \d and its like; false when it is none. */
static bool add_escape_class(struct set *set, char letter)
{
    switch (letter) {
    case 'd':
    case 'D':
        add_class(set, "digit", 5, letter == 'D');
        return true;
    case 'w':
    case 'W':
        add_class(set, "word", 4, letter == 'W');
        return true;
    case 's':
    case 'S':
        add_class(set, "space", 5, letter == 'S');
        return true;
    default:
        return false;
    }
}

/* One character of a set, a backslash before it or not; false when it is more than that. */
static bool take_set_char(struct regex *r, uint32_t *c)
{
    if (peek(r, 0) == '\\') {
        advance(r, 1);
        if (r->rest.len == 0 || is_alnum((unsigned char)peek(r, 0)))
            return false;
    } else if (peek(r, 0) == '[' && strchr(":.=", peek(r, 1)) && peek(r, 1)) {
        return false;
    }
    *c = take(&r->rest);
    return *c < 0x80;
}

static bool take_set_item(struct regex *r, struct set *set)
{
    uint32_t low;
    uint32_t high;

    if (peek(r, 0) == '[' && peek(r, 1) == ':') {
        size_t len = 0;

        advance(r, 2);
        while (sql_is_alpha(peek(r, len)))
            len++;
        if (peek(r, len) != ':' || peek(r, len + 1) != ']' ||
            !is_class_name(r->rest.ptr, len))
            return false;
        add_class(set, r->rest.ptr, len, false);
        advance(r, len + 2);
        r->ascii_only = true;
        return peek(r, 0) != '-' || peek(r, 1) == ']';
    }
    if (peek(r, 0) == '\\' && add_escape_class(set, peek(r, 1))) {
        if (peek(r, 1) < 'a')
            return false; /* \D in brackets: not in every version */
        advance(r, 2);
        r->ascii_only = true;
        return peek(r, 0) != '-' || peek(r, 1) == ']';
    }
    if (!take_set_char(r, &low))
        return false;
    high = low;
    if (peek(r, 0) == '-' && peek(r, 1) != ']') {
        advance(r, 1);
        if (r->rest.len == 0 || peek(r, 0) == '[' || !take_set_char(r, &high) ||
            high < low)
            return false;
    }
    for (uint32_t c = low; c <= high; c++)
        set->has[c] = true;
    return true;
}

/* Behind the opening bracket. */
static bool take_set(struct regex *r, struct set *set)
{
    bool first = true;

    if (peek(r, 0) == '^') {
        set->negated = true;
        advance(r, 1);
    }
    for (; r->rest.len > 0; first = false) {
        if (peek(r, 0) == ']' && !first) {
            advance(r, 1);
            return true;
        }
        if (peek(r, 0) == '-' && !first && peek(r, 1) != ']')
            return false;
        if (!take_set_item(r, set))
            return false;
    }
    return false;
}

static bool in_set(const struct set *set, uint32_t c, bool fold)
{
    bool has = c < 0x80 && set->has[c];

    if (fold && c < 0x80 && sql_is_alpha((char)c))
        has = has || set->has[c ^ 0x20];
    return has != set->negated;
}

/* ---- the tree ---- */

static struct node *new_node(struct regex *r, enum kind kind)
{
    struct node *n = arena_zalloc(r->arena, sizeof(*n));

    if (n)
        n->kind = kind;
    else
        r->memory = true;
    return n;
}

static struct node *new_set(struct regex *r)
{
    struct node *n = new_node(r, NODE_SET);

    if (!n)
        return NULL;
    n->set = arena_zalloc(r->arena, sizeof(*n->set));
    r->memory = r->memory || !n->set;
    return n->set ? n : NULL;
}

static struct node *parse_regex(struct regex *r, int depth);

static struct node *parse_escape(struct regex *r)
{
    static const char letters[] = "ntr";
    static const char bytes[] = "\n\t\r";
    char letter = peek(r, 0);
    const char *found = letter ? strchr(letters, letter) : NULL;
    struct node *n;

    if (r->rest.len == 0)
        return NULL;
    if (is_alnum((unsigned char)letter) && !found) {
        n = new_set(r);
        r->ascii_only = true;
        if (!n || !add_escape_class(n->set, letter))
            return NULL;
        advance(r, 1);
        return n;
    }
    n = new_node(r, NODE_CHAR);
    if (!n)
        return NULL;
    n->c = take(&r->rest);
    if (found)
        n->c = (unsigned char)bytes[found - letters];
    return n;
}

/* NOLINTNEXTLINE(misc-no-recursion): at most DEPTH_MAX deep */
static struct node *parse_atom(struct regex *r, int depth)
{
    char c = peek(r, 0);
    struct node *n;

    if (strchr("*+?{|)", c) && c)
        return NULL;
    if (c == '(') {
        advance(r, 1);
        if (peek(r, 0) == '?') {
            if (peek(r, 1) != ':')
                return NULL;
            advance(r, 2);
        }
        n = depth < DEPTH_MAX ? parse_regex(r, depth + 1) : NULL;
        if (!n || peek(r, 0) != ')')
            return NULL;
        advance(r, 1);
        return n;
    }
    if (c == '\\') {
        advance(r, 1);
        return parse_escape(r);
    }
    if (c == '[') {
        advance(r, 1);
        n = new_set(r);
        return n && take_set(r, n->set) ? n : NULL;
    }
    n = new_node(r, c == '.' ? NODE_ANY : NODE_CHAR);
    if (n)
        n->c = take(&r->rest);
    return n;
}

static bool take_bound(struct regex *r, int *out)
{
    size_t n = 0;

    *out = 0;
    while (n < 4 && sql_is_digit(peek(r, n)))
        *out = *out * 10 + (peek(r, n++) - '0');
    advance(r, n);
    return n > 0 && *out <= BOUND_MAX;
}

/* The quantifier behind an atom, if there is one. */
static struct node *parse_quantifier(struct regex *r, struct node *atom)
{
    char c = peek(r, 0);
    struct node *n;

    if (!c || !strchr("*+?{", c))
        return atom;
    n = new_node(r, NODE_REPEAT);
    if (!n)
        return NULL;
    n->first = atom;
    n->min = c == '+';
    n->max = c == '?' ? 1 : -1;
    advance(r, 1);
    if (c == '{') {
        if (!take_bound(r, &n->min))
            return NULL;
        n->max = n->min;
        if (peek(r, 0) == ',') {
            advance(r, 1);
            n->max = -1;
            if (peek(r, 0) != '}' && !take_bound(r, &n->max))
                return NULL;
        }
        if (peek(r, 0) != '}' || (n->max >= 0 && n->max < n->min))
            return NULL;
        advance(r, 1);
    }
    if (peek(r, 0) == '?')
        advance(r, 1);
    c = peek(r, 0);
    return c && strchr("*+?{", c) ? NULL : n;
}

/* NOLINTNEXTLINE(misc-no-recursion): at most DEPTH_MAX deep */
static struct node *parse_branch(struct regex *r, int depth)
{
    struct node *cat = new_node(r, NODE_CAT);
    struct node **last = cat ? &cat->first : NULL;

    if (!cat)
        return NULL;
    while (r->rest.len > 0 && peek(r, 0) != '|' && peek(r, 0) != ')') {
        char c = peek(r, 0);
        struct node *n;

        if (c == '^' || c == '$') {
            n = new_node(r, c == '^' ? NODE_START : NODE_END);
            advance(r, 1);
            if (peek(r, 0) && strchr("*+?{", peek(r, 0)))
                return NULL;
        } else {
            n = parse_atom(r, depth);
            if (n)
                n = parse_quantifier(r, n);
        }
        if (!n)
            return NULL;
        *last = n;
        last = &n->next;
    }
    return cat->first ? cat : NULL;
}

/* NOLINTNEXTLINE(misc-no-recursion): at most DEPTH_MAX deep */
static struct node *parse_regex(struct regex *r, int depth)
{
    struct node *alt = new_node(r, NODE_ALT);
    struct node **last = alt ? &alt->first : NULL;

    if (!alt)
        return NULL;
    for (;;) {
        *last = parse_branch(r, depth);
        if (!*last)
            return NULL;
        last = &(*last)->next;
        if (peek(r, 0) != '|')
            return alt;
        advance(r, 1);
    }
}

/* ---- the automaton ---- */

/* States are made from the last to the first: each knows what follows it. 0 is a match;
 * STATES_MAX stands for none. */
static uint32_t new_state(struct regex *r, enum state_kind kind, uint32_t next)
{
    if (r->count == STATES_MAX || next == STATES_MAX)
        return STATES_MAX;
    r->states[r->count] = (struct state){.kind = kind, .next = next};
    return r->count++;
}

static uint32_t new_split(struct regex *r, uint32_t next, uint32_t other)
{
    uint32_t s = new_state(r, STATE_SPLIT, next);

    if (s == STATES_MAX || other == STATES_MAX)
        return STATES_MAX;
    r->states[s].other = other;
    return s;
}

static uint32_t build(struct regex *r, const struct node *n, uint32_t next);

/* The items in order: from the last, which is found anew each time, to the first. */
/* NOLINTNEXTLINE(misc-no-recursion): at most DEPTH_MAX groups deep */
static uint32_t build_cat(struct regex *r, const struct node *cat, uint32_t next)
{
    const struct node *done = NULL;

    while (done != cat->first && next != STATES_MAX) {
        const struct node *n = cat->first;

        while (n->next != done)
            n = n->next;
        next = build(r, n, next);
        done = n;
    }
    return next;
}

/* NOLINTNEXTLINE(misc-no-recursion): at most DEPTH_MAX groups deep */
static uint32_t build_repeat(struct regex *r, const struct node *n, uint32_t next)
{
    uint32_t start = next;

    if (n->max < 0) {
        uint32_t loop = new_split(r, next, next);
        uint32_t body = loop == STATES_MAX ? loop : build(r, n->first, loop);

        if (body == STATES_MAX)
            return STATES_MAX;
        r->states[loop].next = body;
        start = loop;
    }
    for (int i = n->min; i < n->max && start != STATES_MAX; i++)
        start = new_split(r, build(r, n->first, start), next);
    for (int i = 0; i < n->min && start != STATES_MAX; i++)
        start = build(r, n->first, start);
    return start;
}

/* NOLINTNEXTLINE(misc-no-recursion): at most DEPTH_MAX groups deep */
static uint32_t build(struct regex *r, const struct node *n, uint32_t next)
{
    static const enum state_kind kinds[] = {
        [NODE_CHAR] = STATE_CHAR,   [NODE_SET] = STATE_SET, [NODE_ANY] = STATE_ANY,
        [NODE_START] = STATE_START, [NODE_END] = STATE_END, [NODE_CAT] = STATE_SPLIT};
    uint32_t s;

    if (n->kind == NODE_CAT)
        return build_cat(r, n, next);
    if (n->kind == NODE_REPEAT)
        return build_repeat(r, n, next);
    if (n->kind == NODE_ALT) {
        s = build(r, n->first, next);
        for (const struct node *b = n->first->next; b && s != STATES_MAX; b = b->next)
            s = new_split(r, s, build(r, b, next));
        return s;
    }
    s = new_state(r, kinds[n->kind], next);
    if (s != STATES_MAX) {
        r->states[s].c = n->c;
        r->states[s].set = n->set;
    }
    return s;
}

/* ---- matching ---- */

struct run {
    uint32_t *now;  /* states that want a character */
    uint32_t *then; /* those of the next position */
    uint32_t *stack;
    size_t count;
    size_t position;
    bool at_end;
    bool matched;
};

/* s and all that can be entered from it without a character. */
static void enter(struct regex *r, struct run *run, uint32_t start, uint32_t *list,
                  size_t *count)
{
    size_t top = 0;

    run->stack[top++] = start;
    while (top > 0) {
        uint32_t at = run->stack[--top];
        struct state *s = &r->states[at];

        if (s->seen == run->position + 1)
            continue;
        s->seen = run->position + 1;
        if (s->kind == STATE_MATCH) {
            run->matched = true;
        } else if (s->kind == STATE_SPLIT) {
            run->stack[top++] = s->other;
            run->stack[top++] = s->next;
        } else if (s->kind == STATE_START || s->kind == STATE_END) {
            if (s->kind == STATE_START ? run->position == 0 : run->at_end)
                run->stack[top++] = s->next;
        } else {
            list[(*count)++] = at;
        }
    }
}

static bool accepts(const struct regex *r, const struct state *s, uint32_t c)
{
    if (s->kind == STATE_ANY)
        return true;
    if (s->kind == STATE_SET)
        return in_set(s->set, c, r->fold);
    return r->fold ? folded(s->c) == folded(c) : s->c == c;
}

static bool search(struct regex *r, struct run *run, uint32_t start, struct slice text)
{
    run->at_end = text.len == 0;
    enter(r, run, start, run->now, &run->count);
    while (!run->matched && text.len > 0) {
        uint32_t c = take(&text);
        uint32_t *list = run->then;
        size_t count = 0;

        run->position++;
        run->at_end = text.len == 0;
        for (size_t i = 0; i < run->count; i++) {
            const struct state *s = &r->states[run->now[i]];

            if (accepts(r, s, c))
                enter(r, run, s->next, list, &count);
        }
        enter(r, run, start, list, &count);
        run->then = run->now;
        run->now = list;
        run->count = count;
    }
    return run->matched;
}

static enum sql_failure no_memory(struct sql_call *call)
{
    sql_no_memory(call->err);
    return SQL_FAILED;
}

static enum sql_failure unclear(struct sql_call *call, struct slice pattern)
{
    return sql_refuse(call, "the regular expression \"%.*s\" is not supported here",
                      (int)(pattern.len > 200 ? 200 : pattern.len),
                      pattern.len > 0 ? pattern.ptr : "");
}

static enum sql_failure match(struct sql_call *call, const struct sql_value *args,
                              bool fold, bool negated, struct sql_value *out)
{
    struct slice pattern = args[1].s;
    struct regex r = {.arena = call->arena, .rest = pattern, .fold = fold};
    struct run run = {.position = 0};
    struct node *tree = NULL;
    uint32_t start;

    if (pattern.len >= 3 && memcmp(pattern.ptr, "***", 3) == 0)
        return unclear(call, pattern);
    if (pattern.len > STATES_MAX)
        return sql_refuse(call, "the regular expression is too large");
    if (pattern.len == 0)
        return sql_bool_result(out, !negated); /* found in front of any text */
    if (slice_is_utf8(pattern))
        tree = parse_regex(&r, 0);
    if (r.memory)
        return no_memory(call);
    if (!tree || r.rest.len > 0)
        return unclear(call, pattern);
    r.ascii_only = r.ascii_only || fold;
    if (r.ascii_only && (!sql_is_ascii(args[0].s) || !sql_is_ascii(pattern)))
        return sql_refuse(call, "classes and the case of letters beyond ASCII depend on "
                                "the database's collation, which is not known here");
    r.states = arena_alloc(call->arena, STATES_MAX * sizeof(*r.states));
    run.now = arena_alloc(call->arena, STATES_MAX * sizeof(uint32_t));
    run.then = arena_alloc(call->arena, STATES_MAX * sizeof(uint32_t));
    run.stack = arena_alloc(call->arena, (2 * STATES_MAX + 2) * sizeof(uint32_t));
    if (!r.states || !run.now || !run.then || !run.stack)
        return no_memory(call);
    (void)new_state(&r, STATE_MATCH, 0);
    start = build(&r, tree, 0);
    if (start == STATES_MAX)
        return sql_refuse(call, "the regular expression is too large");
    return sql_bool_result(out, search(&r, &run, start, args[0].s) != negated);
}

enum sql_failure sql_regex(struct sql_call *call, const struct sql_value *args,
                           struct sql_value *out)
{
    return match(call, args, false, false, out);
}

enum sql_failure sql_not_regex(struct sql_call *call, const struct sql_value *args,
                               struct sql_value *out)
{
    return match(call, args, false, true, out);
}

enum sql_failure sql_iregex(struct sql_call *call, const struct sql_value *args,
                            struct sql_value *out)
{
    return match(call, args, true, false, out);
}

enum sql_failure sql_not_iregex(struct sql_call *call, const struct sql_value *args,
                                struct sql_value *out)
{
    return match(call, args, true, true, out);
}
