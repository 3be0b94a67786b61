/* See jwks.h. What was fetched once stays in use while the address can't be reached: an outage of
 * the identity provider must not lock everybody out, and a withdrawn key goes with the next fetch
 * that works. */
#include "server/gate/jwks.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"

#define SET_MAX_BYTES   (256u * 1024)
#define FETCH_TIMEOUT_S 10L

struct jwks {
    struct jwks_config config;
    char *url;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t wake;
    struct token_keys *keys;
    bool asked;
    bool closing;
    int64_t fetched_ms; /* the last attempt */
};

static size_t take(char *bytes, size_t size, size_t count, void *ctx)
{
    struct buf *out = ctx;

    buf_put(out, bytes, size * count);
    return out->failed ? 0 : size * count;
}

/* curl's own, so that a shutdown need not wait for a slow answer. */
static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct jwks *j = ctx;

    (void)a, (void)b, (void)c, (void)d;
    pthread_mutex_lock(&j->lock);
    bool closing = j->closing;
    pthread_mutex_unlock(&j->lock);
    return closing;
}

static int fetch(struct jwks *j, struct buf *out, struct err *err)
{
    CURL *curl = curl_easy_init();
    long status = 0;

    if (!curl)
        return err_set(err, ERR_MEMORY, "no memory for a request");
    curl_easy_setopt(curl, CURLOPT_URL, j->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR,
                     strncmp(j->url, "https:", 6) == 0 ? "https" : "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, FETCH_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, out);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, j);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    if (code != CURLE_OK)
        return err_set(err, ERR_RETRY, "%s", curl_easy_strerror(code));
    if (status != 200)
        return err_set(err, ERR_RETRY, "the answer's status is %ld, not 200", status);
    return 0;
}

static void refresh(struct jwks *j)
{
    struct token_keys *keys = NULL;
    struct token_keys *before = NULL;
    struct err err = {0};
    struct buf text;

    buf_init(&text, SET_MAX_BYTES);
    int rc = fetch(j, &text, &err);
    if (rc == 0)
        rc = token_keys_of_text(buf_slice(&text), false, &keys, &err);
    buf_fini(&text);
    pthread_mutex_lock(&j->lock);
    j->fetched_ms = clock_mono_ms();
    bool closing = j->closing;
    if (rc == 0) {
        before = j->keys;
        j->keys = keys;
    }
    pthread_mutex_unlock(&j->lock);
    token_keys_release(before);
    if (rc == 0 && j->config.changed)
        j->config.changed(j->config.ctx);
    if (rc != 0 && !closing)
        log_event(j->config.log, LOG_WARNING, "gate.keys_not_fetched",
                  LOG_TEXT("reason", err.message));
    else if (rc == 0 && !before)
        log_write(j->config.log, LOG_INFO, "gate.keys_fetched", NULL, 0);
}

/* Under the lock: until when to sleep. */
static int64_t next_ms(const struct jwks *j)
{
    return j->fetched_ms +
           (j->asked || !j->keys ? j->config.ask_again_ms : j->config.refresh_ms);
}

/* Under the lock: true when it is time to fetch, false when closing. */
static bool await_turn(struct jwks *j)
{
    while (!j->closing) {
        int64_t left_ms = j->fetched_ms == 0 ? 0 : next_ms(j) - clock_mono_ms();
        struct timespec until;

        if (left_ms <= 0)
            return true;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += left_ms / 1000;
        until.tv_nsec += left_ms % 1000 * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&j->wake, &j->lock, &until);
    }
    return false;
}

static void *work(void *arg)
{
    struct jwks *j = arg;

    pthread_mutex_lock(&j->lock);
    while (await_turn(j)) {
        j->asked = false;
        pthread_mutex_unlock(&j->lock);
        refresh(j);
        pthread_mutex_lock(&j->lock);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

static void init_sync(struct jwks *j)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int jwks_new(const struct jwks_config *config, struct jwks **out, struct err *err)
{
    struct jwks *j;
    sigset_t all;
    sigset_t before;

    *out = NULL;
    if (strncmp(config->url, "https://", 8) != 0 &&
        strncmp(config->url, "http://", 7) != 0)
        return err_set(err, ERR_INVALID, "it is no address that begins with https://");
    j = calloc(1, sizeof *j);
    if (j)
        j->url = slice_dup(slice_of(config->url));
    if (!j || !j->url) {
        free(j);
        return err_set(err, ERR_MEMORY, "no memory for the keys");
    }
    j->config = *config;
    init_sync(j);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    j->running = pthread_create(&j->thread, NULL, work, j) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!j->running) {
        jwks_free(j);
        return err_set(err, ERR_MEMORY, "no thread could be made to fetch keys");
    }
    *out = j;
    return 0;
}

void jwks_free(struct jwks *j)
{
    if (!j)
        return;
    pthread_mutex_lock(&j->lock);
    j->closing = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
    if (j->running)
        pthread_join(j->thread, NULL);
    token_keys_release(j->keys);
    pthread_cond_destroy(&j->wake);
    pthread_mutex_destroy(&j->lock);
    free(j->url);
    free(j);
}

struct token_keys *jwks_keys(struct jwks *j)
{
    pthread_mutex_lock(&j->lock);
    struct token_keys *keys = j->keys ? token_keys_retain(j->keys) : NULL;
    pthread_mutex_unlock(&j->lock);
    return keys;
}

void jwks_ask(struct jwks *j)
{
    pthread_mutex_lock(&j->lock);
    j->asked = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
}
