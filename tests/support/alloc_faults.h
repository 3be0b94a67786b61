/* Makes chosen allocations of one source file fail.
 *
 * Include this after the system headers and then the .c file under test: its calls of
 * malloc, calloc and realloc become calls of the functions here. Production code stays
 * plain, no linker or loader feature is needed, and the sanitizers keep working, because
 * the memory is the real allocator's. The test then takes the file's symbols from its own
 * object, and the linker leaves the library's member alone. */
#ifndef COULOMB_TESTS_SUPPORT_ALLOC_FAULTS_H
#define COULOMB_TESTS_SUPPORT_ALLOC_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

static struct {
    size_t calls;   /* allocations asked for since the last alloc_fail_nth */
    size_t fail_at; /* this one fails, counted from 1; 0: none */
} alloc_faults;

/* The n-th allocation from here on fails, once; 0 for none. */
static inline void alloc_fail_nth(size_t n)
{
    alloc_faults.calls = 0;
    alloc_faults.fail_at = n;
}

static inline bool alloc_faulty(void)
{
    return ++alloc_faults.calls == alloc_faults.fail_at;
}

static inline void *alloc_faults_malloc(size_t n)
{
    return alloc_faulty() ? NULL : malloc(n);
}

static inline void *alloc_faults_calloc(size_t count, size_t size)
{
    return alloc_faulty() ? NULL : calloc(count, size);
}

static inline void *alloc_faults_realloc(void *ptr, size_t n)
{
    return alloc_faulty() ? NULL : realloc(ptr, n);
}

#define malloc(n)           alloc_faults_malloc(n)
#define calloc(count, size) alloc_faults_calloc((count), (size))
#define realloc(ptr, n)     alloc_faults_realloc((ptr), (n))

#endif
