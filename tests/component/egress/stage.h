/* stage.h -- what the tests of egress share: sandboxes of either kind in a network namespace of this process; the outside is a host
 * in another one, with a public address (198.51.100.2), a resolver's (198.51.100.53), a private (10.9.9.2) and the clouds'
 * metadata address, that serves HTTP on each; the machine serves on port 8888. Fails the test that calls it. */
#ifndef EGRESS_STAGE_STAGE_H
#define EGRESS_STAGE_STAGE_H

#include "drivers_net/egress.h"
#include "drivers_world/world.h"

/* In a script: `get NAME ADDRESS PORT` says "NAME reached" or "NAME blocked". */
#define STAGE_PROBE                                                                                 \
	"get() { r=blocked; printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox timeout 8 nc -w 4 $2 $3 " \
	"2>/dev/null | grep -q "                                                                    \
	"answer && "                                                                                \
	"r=reached; echo $1 $r; }; "

extern struct world stage_world;
extern struct world_start stage_start; /* of what began last */
extern char stage_text[65536];         /* of the log that was read last */

const char *stage_lacks(enum world_kind kind);
int stage_open(enum world_kind kind);
int stage_close(void);
void stage_shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
int stage_shell_status(const char *command);
struct driver_instance *stage_begin(const char *script, bool egress);
void stage_stop(struct driver_instance *i);
/* Each of these (NULL ends them) comes up in its log. */
void stage_expect(struct driver_instance *i, const char *const *wanted);
bool stage_restored(void);
void stage_nothing_is_left(void **state);

#endif
