/* stage.h -- what the tests of taps share: the machine with its outside, an egress, a service of the machine itself, and what must
 * never be reached. Fails the test that calls it. */
#ifndef NET_STAGE_STAGE_H
#define NET_STAGE_STAGE_H

#include "guest.h"
#include "outside.h"

#define STAGE_BASE      0x64400000u /* 100.64.0.0 */
#define STAGE_TABLE     "inet berth_00abcd"
#define STAGE_HEARD_MS  5000
#define STAGE_SILENT_MS 300
#define STAGE_HOST_PORT 8888

extern struct outside stage_world;
extern struct egress *stage_egress;
extern int stage_host; /* a service of the machine itself, on all its addresses */

const char *stage_lacks(void); /* why taps cannot be tested here, or NULL */
int stage_open(void **state);
int stage_close(void **state);
void stage_open_egress(void);
void stage_detach(struct guest *g);
int stage_host_service(uint16_t port);
bool stage_host_got(int s, const char *text, int ms);
void stage_host_says(uint32_t to, uint16_t port, const char *text);
bool stage_reaches(struct guest *g, uint32_t to, uint16_t port, const char *text);
void stage_never_reaches(struct guest *g);
void stage_settled(void); /* nothing is to be repaired */
void stage_restored(const char *after);
void stage_nothing_is_left(void **state);

#endif
