/* talk.h -- between sandboxd (guest_shim.c) and berth-vmshim: messages of fixed size over a SOCK_SEQPACKET connection that
 * sandboxd makes, also after a restart. The shim tells its status at once and whenever it changes; requests have no replies. */
#ifndef LIBVIRT_SHIM_TALK_H
#define LIBVIRT_SHIM_TALK_H

#include "libvirt_guest/protocol.h"

#define TALK_LISTEN_FD \
	3 /* of the shim when it is executed; its standard error tells why it could not begin */
#define TALK_AGENT_FD 4

enum talk_request_type {
	TALK_START, /* with a memfd that holds the whole frame */
	TALK_SIGNAL,
	TALK_CLOCK,
	TALK_NETWORK, /* likewise */
	TALK_REQUESTS
};

struct talk_request {
	uint32_t type;
	int32_t signal;
};

enum talk_state {
	TALK_SILENT,  /* no HELLO yet */
	TALK_IDLE,    /* HELLO; START may be under way */
	TALK_RUNNING, /* the program does */
	TALK_FAILED,  /* it could not be executed, the message says why */
	TALK_OVER,    /* EXIT */
	TALK_BROKEN,  /* the guest did not keep to the protocol, the message says how */
	TALK_STATES
};

struct talk_status {
	uint32_t state;
	char release[GUEST_RELEASE_BYTES + 1]; /* of the guest's kernel */
	char message[GUEST_MESSAGE_BYTES + 1];
};

#endif
