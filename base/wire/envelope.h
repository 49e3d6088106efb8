/* envelope.h -- every message between actors, gateways and the control loop, on one node and between nodes alike.
 *
 * A request carries a correlation that its sender chose; it ends in exactly one reply with the same correlation, or in
 * a timeout that the sender's runtime makes at the deadline. Correlation 0: nobody waits for an answer. */
#ifndef WIRE_ENVELOPE_H
#define WIRE_ENVELOPE_H

#include "core/codec.h"

#define ENVELOPE_BODY_MAX (768u * 1024)
#define NODE_LEADER       0 /* as address.node: whichever node leads when the envelope is sent */

/* Who can be written to. `key` tells them apart within a node. */
enum address_kind {
	ADDRESS_NONE,
	ADDRESS_PLACEMENT,  /* key 0; acts on the leader */
	ADDRESS_MEMBERSHIP, /* key 0; acts on the leader */
	ADDRESS_POOL,       /* key: pool uid, 0 for one that does not exist yet; acts on the leader */
	ADDRESS_CACHE,      /* key: pool uid; on every node: has the pool's images here */
	ADDRESS_SANDBOX,    /* key: sandbox id; on the sandbox's node */
	ADDRESS_SESSION,    /* key: generation; on the owner */
	ADDRESS_REAPER,     /* key 0; on every node */
	ADDRESS_GATEWAY,    /* key: loop; not an actor: the gateway loops of a node */
	ADDRESS_API,        /* key: request; not an actor: the management API of a node */
	ADDRESS_CONTROL,    /* key 0; not an actor: what executes effects */
	ADDRESS_IMAGES,     /* key 0; on every node: says which images this node holds */
	ADDRESS_ORPHANS,    /* key 0; on every node: what runs here without a row */
	ADDRESS_DRAIN,      /* key 0; takes orders about nodes; on the leader it empties them */
	ADDRESS_ARRIVAL,    /* key: sandbox id; on the node that it moves to */
	ADDRESS_KINDS
};

struct address {
	uint8_t kind;
	uint64_t node, key;
};

struct envelope {
	struct address to, from;
	uint16_t type;        /* enum message_type, messages.h */
	uint64_t correlation; /* 0: no reply wanted */
	uint64_t
		deadline_ms; /* here: CLOCK_BOOTTIME of this node; between nodes: milliseconds left; 0 = none */
	uint64_t incarnation; /* of the cluster; another one is refused */
	struct str trace;     /* W3C traceparent, or empty */
	struct str body;      /* the struct that messages.h names for the type */
};

extern const struct codec_type address_codec, envelope_codec;
extern const char *const address_kind_name[ADDRESS_KINDS];

#endif
