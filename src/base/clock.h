/* Clocks. Any thread. */
#ifndef COULOMB_BASE_CLOCK_H
#define COULOMB_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
int64_t clock_wall_us(void); /* since 1970-01-01T00:00:00Z */
void clock_sleep_ms(int64_t ms);
void clock_sleep_us(int64_t us);

#endif
