#include "sm.h"

#include <stdio.h>

#include "actor.h"
#include "core/must.h"

static struct {
	const struct sm_def *def;
	uint8_t state, type;
} blanked;

void sm_blank(const struct sm_def *def, uint8_t state, uint8_t type)
{
	blanked.def = def;
	blanked.state = state;
	blanked.type = type;
}

bool sm_knows(const struct sm_def *def, uint16_t type)
{
	for (uint8_t i = 0; i < def->n_messages; i++) {
		if (def->messages[i] == type)
			return true;
	}
	return false;
}

enum sm_kind sm_step(const struct sm_def *def, uint8_t *state, struct actor *self, struct context *c,
		     const struct message *m)
{
	must(*state < def->n_states);
	const struct sm_cell *cell = &def->cells[*state][m->envelope->type];

	must(cell->kind != SM_HOLE);
	if (cell->kind != SM_ON)
		return cell->kind;
	if (blanked.def == def && blanked.state == *state && blanked.type == m->envelope->type)
		return SM_IGNORE;

	uint8_t next = cell->on(self, c, m);

	must(next < def->n_states && (cell->to & SM_TO(next)) != 0);
	*state = next;
	return SM_ON;
}

static const char *wrong_cell(const struct sm_def *def, uint8_t state, uint16_t type)
{
	const struct sm_cell *cell = &def->cells[state][type];

	if (!sm_knows(def, type))
		return cell->kind == SM_HOLE ? NULL : "is written, but the message is not in the list";
	if (cell->kind == SM_HOLE)
		return "is a hole";
	if (cell->kind != SM_ON)
		return cell->to == 0 && cell->on == NULL ? NULL : "has edges without a handler";
	if (cell->on == NULL || cell->to == 0)
		return "has no handler or no edge";
	if (cell->to >> def->n_states != 0)
		return "has an edge to a state that is not there";
	return NULL;
}

const char *sm_wrong(const struct sm_def *def, char *text, size_t size)
{
	if (def->n_states == 0 || def->n_states > SM_STATES_MAX || def->final > def->n_states) {
		snprintf(text, size, "%s: %u states, final %u", def->name, def->n_states, def->final);
		return text;
	}
	for (uint8_t state = 0; state < def->n_states; state++) {
		if (def->states[state] == NULL) {
			snprintf(text, size, "%s: state %u has no name", def->name, state);
			return text;
		}
		for (unsigned type = 0; type < MSG_TYPES; type++) {
			const char *what = wrong_cell(def, state, (uint16_t)type);

			if (what != NULL) {
				snprintf(text, size, "%s: %s x %s %s", def->name, def->states[state],
					 message_type_name[type], what);
				return text;
			}
		}
	}
	return NULL;
}
