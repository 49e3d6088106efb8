/* handover.h -- descriptors for a QEMU that libvirt starts: sandboxd's end of the socket that berth-qemu asks.
 *
 * Happy path: handover_offer() for the uid that the QEMU will run as; virDomainCreateXML(), whose domain has berth-qemu as
 * its <emulator> and <qemu:env name='BERTH_HANDOVER' value='<path>'/>; berth-qemu connects, the kernel tells its uid
 * (SO_PEERCRED), and it gets that uid's descriptors, which become EMULATOR_FD_FIRST and following ones in QEMU;
 * handover_withdraw().
 * An offer is handed out once, to that uid alone, and not after its time. Nothing that a peer sends is read, and nothing waits for it.
 * Owns: the socket, a thread that serves it, copies of what is offered. Thread: any. */
#ifndef CLONE_HANDOVER_H
#define CLONE_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"
#include "emulator.h"

struct handover;

/* A socket at this path, in place of what was there; anybody may connect, so that its folder decides who can reach it. */
int handover_new(const char *path, struct handover **ret, struct err *err);
void handover_free(struct handover *h);
/* -EBUSY: this uid has an offer already. */
int handover_offer(struct handover *h, uid_t uid, const int *fds, size_t n_fds, uint64_t timeout_ms,
		   struct err *err);
/* Ends the offer, if there still is one. True: it was handed out. */
bool handover_withdraw(struct handover *h, uid_t uid);

#endif
