/* sm.h -- table-driven state machines: the table is the specification.
 *
 * A table has one cell for each state and each message that the actor knows, and every such cell is written: there is no
 * default. ON(handler, states) names all states that the handler may return. What is not in the actor's list of messages
 * never reaches the table: the runtime refuses it. Invariant: sm_step holds the only line that writes a state. */
#ifndef RUNTIME_SM_H
#define RUNTIME_SM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/messages.h"

struct actor;
struct context;
struct message;

enum sm_kind {
	SM_HOLE,   /* nobody wrote this cell */
	SM_ON,     /* a handler */
	SM_DEFER,  /* kept, and handled after the next change of state; a full stash refuses */
	SM_IGNORE, /* known to be of no interest here */
	SM_REFUSE, /* a request that this state does not take: answered with MSG_REFUSED, -EAGAIN */
	SM_KINDS
};

/* Returns the next state, one of those that the cell names. */
typedef uint8_t sm_handler(struct actor *self, struct context *c, const struct message *m);

struct sm_cell {
	uint8_t kind;
	uint32_t to; /* bits of the states that `on` may return */
	sm_handler *on;
	const char *label;
};

#define SM_STATES_MAX 16

struct sm_def {
	const char *name;
	const char *const *states; /* names, as the diagrams show them */
	uint8_t n_states;
	uint8_t final;           /* an actor in this state ends; n_states: it never does */
	const uint8_t *messages; /* the types that the table has columns for */
	uint8_t n_messages;
	const struct sm_cell (*cells)[MSG_TYPES]; /* [n_states] */
};

#define SM_TO(state) (UINT32_C(1) << (unsigned)(state))
#define ON(handler, edges)                                                       \
	{                                                                        \
		.kind = SM_ON, .to = (edges), .on = (handler), .label = #handler \
	}
#define DEFER                                      \
	{                                          \
		.kind = SM_DEFER, .label = "defer" \
	}
#define IGNORE                                  \
	{                                       \
		.kind = SM_IGNORE, .label = "-" \
	}
#define REFUSE                                       \
	{                                            \
		.kind = SM_REFUSE, .label = "refuse" \
	}

/* True if the table has a column for this type. */
bool sm_knows(const struct sm_def *def, uint16_t type);
/* Handles one message; what it says other than SM_ON is for the runtime to carry out. */
enum sm_kind sm_step(const struct sm_def *def, uint8_t *state, struct actor *self, struct context *c,
		     const struct message *m);
/* NULL, or what is wrong with the table: a hole, an edge to no state, a cell outside of the columns. */
const char *sm_wrong(const struct sm_def *def, char *text, size_t size);
/* For the test that proves the tests: from now on this cell does nothing and stays in its state. NULL: none. */
void sm_blank(const struct sm_def *def, uint8_t state, uint8_t type);

#endif
