/* What libevent allocates.
 *
 * evhttp takes no notice of an allocation that fails in the middle of a request: it goes on
 * without the header, or reads through a null pointer. There is nothing to be saved then, but
 * the truth: so the process ends, with a sentence, and a supervisor starts it again. What our
 * own code allocates for a request fails like any other error. */
#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/evloop/parts.h"

static const char sentence[] =
    "coulomb: out of memory in the HTTP server: give the process more, or lower "
    "ELECTRIC_MAX_CONCURRENT_REQUESTS\n";

static _Noreturn void end(void)
{
    if (write(STDERR_FILENO, sentence, sizeof(sentence) - 1) < 0)
        abort();
    _exit(1);
}

static void *allocate(size_t size)
{
    void *memory = malloc(size);

    if (!memory && size > 0)
        end();
    return memory;
}

static void *reallocate(void *memory, size_t size)
{
    void *grown = realloc(memory, size);

    if (!grown && size > 0)
        end();
    return grown;
}

void memory_init(void)
{
    event_set_mem_functions(allocate, reallocate, free);
}
