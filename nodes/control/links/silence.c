#include "control/links/silence.h"

static uint32_t find(const struct silence *s, uint64_t node)
{
	uint32_t i = 0;

	while (i < s->n && s->nodes[i].node != node)
		i++;
	return i;
}

bool silence_look(struct silence *s, const struct state *state, uint64_t self, uint64_t boot_ms)
{
	uint64_t lease_ms = state_cluster(state)->settings.lease_ms;
	bool changed = false;

	for (const struct node_row *row = NULL; (row = state_next_node(state, row)) != NULL;) {
		uint32_t i = find(s, row->id);

		if (row->id == self || i == SILENCE_NODES_MAX)
			continue;
		if (i == s->n || s->nodes[i].renewed_ms != row->renewed_ms) {
			s->n += i == s->n;
			s->nodes[i].node = row->id;
			s->nodes[i].renewed_ms = row->renewed_ms;
			s->nodes[i].seen_boot_ms = boot_ms;
		}
		bool silent = row->state != NODE_UP || boot_ms - s->nodes[i].seen_boot_ms >= lease_ms;

		changed |= silent != s->nodes[i].silent;
		s->nodes[i].silent = silent;
	}
	return changed;
}

bool silence_of(const struct silence *s, uint64_t node)
{
	uint32_t i = find(s, node);

	return i < s->n && s->nodes[i].silent;
}
