#include "support/capture.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"

const char *const capture_names[] = {"types", "identity", "transactions", NULL};

static unsigned nibble(int c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static struct slice unhex(const char *text, size_t len)
{
    char *bytes = malloc(len / 2);

    ASSERT(bytes && len % 2 == 0);
    for (size_t i = 0; i < len / 2; i++)
        bytes[i] =
            (char)(unsigned char)(nibble(text[2 * i]) << 4 | nibble(text[2 * i + 1]));
    return slice_make(bytes, len / 2);
}

size_t capture_each(const char *name, void (*fn)(void *ctx, struct slice message),
                    void *ctx)
{
    char path[256];
    char *line = NULL;
    size_t cap = 0;
    size_t count = 0;
    ssize_t len;
    FILE *file;

    snprintf(path, sizeof(path), CAPTURE_DIR "%s.hex", name);
    file = fopen(path, "r");
    if (!file) {
        perror(path);
        exit(1);
    }
    while ((len = getline(&line, &cap, file)) > 1) {
        struct slice message = unhex(line, (size_t)len - (line[len - 1] == '\n'));

        fn(ctx, message);
        free((void *)(uintptr_t)message.ptr);
        count++;
    }
    free(line);
    fclose(file);
    return count;
}
