/*
 * The end of a process that has a bug. Nothing here allocates or takes a stdio lock: the
 * state of the process is not to be trusted any more.
 */

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void assert_failed(const char *what, const char *file, int line)
{
    char text[512];
    int n =
        snprintf(text, sizeof(text), "%s:%d: assertion failed: %s\n", file, line, what);

    if (n > 0) {
        size_t len = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;

        text[len - 1] = '\n';
        if (write(STDERR_FILENO, text, len) < 0)
            abort();
    }
    abort();
}
