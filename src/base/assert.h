/* Assertions for bugs: they stay on in release builds and stop the process with context.
 */
#ifndef COULOMB_BASE_ASSERT_H
#define COULOMB_BASE_ASSERT_H

_Noreturn void assert_failed(const char *what, const char *file, int line);

#define ASSERT(condition)                                                                \
    ((condition) ? (void)0 : assert_failed(#condition, __FILE__, __LINE__))

#endif
