/* The recorded pgoutput streams of tests/unit/server/decode/captures, one message a line
 * in hexadecimal. Tests run in the source directory. */
#ifndef COULOMB_TESTS_SUPPORT_CAPTURE_H
#define COULOMB_TESTS_SUPPORT_CAPTURE_H

#include "base/slice.h"

#define CAPTURE_DIR "tests/unit/server/decode/captures/"

/* All names, NULL-terminated. */
extern const char *const capture_names[];

/* Calls fn with each message of a capture, in order; the bytes are an allocation of
 * exactly their size. Gives their number; ends the program when the file can't be read.
 */
size_t capture_each(const char *name, void (*fn)(void *ctx, struct slice message),
                    void *ctx);

#endif
