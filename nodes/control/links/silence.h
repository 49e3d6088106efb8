/* silence.h -- which other nodes have not renewed their lease for so long that they no longer serve: what waits for them
 * has waited enough.
 * Counted on this node's own clock from when it saw each renewal applied; so a node that is cut off itself finds all others
 * silent at about the time when its own lease ends. Owns: a fixed table. Thread: the control loop. */
#ifndef CONTROL_SILENCE_H
#define CONTROL_SILENCE_H

#include "state/state.h"

#define SILENCE_NODES_MAX 256

struct silence {
	struct {
		uint64_t node, renewed_ms, seen_boot_ms;
		bool silent;
	} nodes[SILENCE_NODES_MAX];
	uint32_t n;
};

/* Looks at the tables. True when a node fell silent or came back since the last look. */
bool silence_look(struct silence *s, const struct state *state, uint64_t self, uint64_t boot_ms);
/* False for nodes that were never looked at. */
bool silence_of(const struct silence *s, uint64_t node);

#endif
