/* CRC-32C (Castagnoli), by the SSE4.2 / ARMv8 instruction where the processor has it. */
#ifndef COULOMB_BASE_CRC32C_H
#define COULOMB_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues crc (0 to begin) over n bytes. Any thread. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t n);

#endif
