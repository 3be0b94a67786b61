/*
 * Credentials for the public API: those of this module under public names, with the app's function
 * behind a small struct of its own.
 */

#include "coulomb/credentials.h"

#include "client/net/credentials.h"

struct supplier {
    struct heap *heap;
    coulomb_credentials_options options;
};

static int renew(struct credentials *cr, bool refused, void *arg)
{
    const struct supplier *s = arg;

    return s->options.renew((coulomb_credentials *)cr, refused, s->options.arg);
}

static void drop(void *arg)
{
    struct supplier *s = arg;
    struct heap *h = s->heap;

    if (s->options.drop)
        s->options.drop(s->options.arg);
    heap_free(h, s, sizeof(*s));
    heap_release(h);
}

int coulomb_credentials_new(coulomb_client *c, const coulomb_credentials_options *options,
                            coulomb_credentials **out)
{
    coulomb_credentials_options o;
    struct credentials_options inner_options = {.renew = renew, .drop = drop};
    struct credentials *cr;
    struct supplier *s;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &o, sizeof(o), options, "coulomb_credentials_new");
    if (code == COULOMB_OK && !o.renew)
        code = client_fail(c, COULOMB_E_ARGUMENT, "credentials need a renew function");
    if (code != COULOMB_OK)
        return code;
    s = heap_alloc(c->heap, sizeof(*s));
    if (!s)
        return client_no_memory(c);
    *s = (struct supplier){c->heap, o};
    heap_retain(c->heap);
    inner_options.arg = s;
    inner_options.each_request = o.each_request != 0;
    inner_options.refusals_max = o.refusals_max;
    code = credentials_new(c, &inner_options, &cr);
    if (code != COULOMB_OK) {
        s->options.drop = NULL; /* arg is the caller's still */
        drop(s);
        return code;
    }
    *out = (coulomb_credentials *)cr;
    return COULOMB_OK;
}

coulomb_credentials *coulomb_credentials_retain(coulomb_credentials *credentials)
{
    credentials_retain(credentials_inner(credentials));
    return credentials;
}

void coulomb_credentials_release(coulomb_credentials *credentials)
{
    credentials_release(credentials_inner(credentials));
}

int coulomb_credentials_header(coulomb_credentials *credentials, const char *name,
                               const char *value)
{
    return credentials_add_header(credentials_inner(credentials), name, value);
}

int coulomb_credentials_param(coulomb_credentials *credentials, const char *name,
                              const char *value)
{
    return credentials_add_param(credentials_inner(credentials), name, value);
}

void coulomb_credentials_expire_at(coulomb_credentials *credentials, int64_t deadline_ms)
{
    credentials_expire_at(credentials_inner(credentials), deadline_ms);
}

void coulomb_credentials_answer(coulomb_credentials *credentials, int code,
                                const char *message)
{
    credentials_answer(credentials_inner(credentials), code, message);
}
