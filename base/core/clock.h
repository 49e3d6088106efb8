/* clock.h -- the two clocks: CLOCK_BOOTTIME for durations and leases, wall time for people and bills.
 * actors and raft-store never call these: time comes to them in messages and commands. */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include <stdint.h>

uint64_t clock_boot_ms(void);
uint64_t clock_wall_ms(void);

#define CLOCK_BOOT_ID_SIZE 40
/* What the kernel calls this boot of the machine: clock_boot_ms() counts from its beginning. Empty if it does not tell. */
void clock_boot_id(char ret[CLOCK_BOOT_ID_SIZE]);

#define CLOCK_TEXT_SIZE 32
/* "2026-01-02T03:04:05.678Z" (RFC 3339). Returns text. */
const char *clock_text(uint64_t wall_ms, char text[CLOCK_TEXT_SIZE]);
/* The same back, with or without a fraction; offset Z only. -EINVAL. */
int clock_parse(const char *text, uint64_t *ret_wall_ms);

#endif
