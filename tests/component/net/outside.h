/* outside.h -- what lies beyond the machine: a host in a network namespace of its own, with a public address, a resolver's, a
 * private one and the clouds' metadata address. It answers each datagram with its text, and remembers it. */
#ifndef NET_STAGE_OUTSIDE_H
#define NET_STAGE_OUTSIDE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define OUTSIDE_PUBLIC   0xc6336402u /* 198.51.100.2 */
#define OUTSIDE_RESOLVER 0xc6336435u /* 198.51.100.53 */
#define OUTSIDE_PRIVATE  0x0a090902u /* 10.9.9.2 */
#define OUTSIDE_METADATA 0xa9fea9feu /* 169.254.169.254 */
#define OUTSIDE_OF_HOST  0xc6336401u /* 198.51.100.1: the machine's own address towards it */
#define OUTSIDE_PORT     7777

struct outside {
	pid_t pid;
	int saw; /* the texts, each with a newline */
};

/* Into a new network namespace of this process, which the machine then is. -1: not possible. */
int outside_open(struct outside *o);
void outside_close(struct outside *o);
/* Until then. */
bool outside_saw(struct outside *o, const char *text, int ms);
/* A datagram from the machine itself, as a control that there is somebody: was it answered? */
bool outside_answers_host(uint32_t to, uint16_t port);
int outside_shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
