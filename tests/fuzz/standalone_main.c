/*
 * Replays a corpus through a fuzz target without libFuzzer, so that every input
 * that once mattered is an ordinary test on any compiler.
 *
 * Usage: replay_<name> FILE|DIRECTORY...  Each file is one input; a directory
 * stands for the regular files in it. The empty input is always tried first. A
 * directory that does not exist is an error: a corpus that moved must not pass.
 */

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define INPUT_MAX_BYTES (16u * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_bytes(const char *path, FILE *in, size_t size)
{
    /* Exactly as long as the input, so that a sanitizer sees one byte too many. */
    uint8_t *data = malloc(size ? size : 1);
    int rc = -1;

    if (!data) {
        fprintf(stderr, "%s: out of memory\n", path);
        return -1;
    }
    if (fread(data, 1, size, in) != size) {
        fprintf(stderr, "%s: short read\n", path);
        goto out;
    }
    LLVMFuzzerTestOneInput(data, size);
    rc = 0;
out:
    free(data);
    return rc;
}

static int replay_file(const char *path, size_t size)
{
    FILE *in;
    int rc;

    if (size > INPUT_MAX_BYTES) {
        fprintf(stderr, "%s: larger than %u bytes\n", path, INPUT_MAX_BYTES);
        return -1;
    }
    in = fopen(path, "rb");
    if (!in) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    rc = replay_bytes(path, in, size);
    fclose(in);
    return rc;
}

static int replay_directory(const char *path, unsigned *inputs)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    int rc = 0;

    if (!dir) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        char child[4096];
        struct stat st;
        int len = snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);

        if (len < 0 || (size_t)len >= sizeof(child)) {
            fprintf(stderr, "%s/%s: path too long\n", path, entry->d_name);
            rc = -1;
        } else if (stat(child, &st) != 0) {
            fprintf(stderr, "%s: %s\n", child, strerror(errno));
            rc = -1;
        } else if (S_ISREG(st.st_mode)) {
            rc = replay_file(child, (size_t)st.st_size);
            (*inputs)++;
        }
    }
    closedir(dir);
    return rc;
}

int main(int argc, char **argv)
{
    unsigned inputs = 0;

    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE|DIRECTORY...\n", argv[0]);
        return 2;
    }
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        struct stat st;
        int rc;

        if (stat(argv[i], &st) != 0) {
            fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
            return 1;
        }
        if (S_ISDIR(st.st_mode)) {
            rc = replay_directory(argv[i], &inputs);
        } else {
            rc = replay_file(argv[i], (size_t)st.st_size);
            inputs++;
        }
        if (rc != 0)
            return 1;
    }
    printf("%u inputs replayed\n", inputs);
    return inputs > 0 ? 0 : 1;
}
