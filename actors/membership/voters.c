/* Voters.
 *
 * Happy path: the tables say what should be done next (voters_next); MEMBER_BEGIN notes it as an operation, the log is
 * changed, MEMBER_END notes how that went. Then the next one.
 * Failure modes: what is not known (leadership moved, a time-out) is asked of the log again, which finds it done or does it; the
 * next leader goes on with the operation that it finds. A node that does not catch up ends its operation as failed; after a
 * pause there is another.
 * Invariants: an operation is in the tables before the log changes. A voter that is lost makes room before another is promoted. The
 * number of voters is even only between two changes, or while there is nobody to make it odd. */
#include "voters.h"

#include <errno.h>

#define PROPOSE_MS 5000
#define CHANGE_MS  90000 /* ten rounds of catching up, five seconds each, and more */
#define AGAIN_MS   2000
#define FAILED_MS  10000

/* -- Policy --------------------------------------------------------------------------------------------------------- */

static bool has_nothing(const struct state *s, const struct node_row *row)
{
	return row->state == NODE_LOST || state_next_node_sandbox(s, row->id, NULL) == NULL;
}

struct count {
	uint32_t voters, standbys, able;                    /* able: standbys that may be promoted */
	const struct node_row *goes, *lost, *comes, *rises; /* the first of each */
};

static void count_row(const struct state *s, const struct node_row *row, struct count *n)
{
	bool able = row->member == MEMBER_STANDBY && row->state == NODE_UP && !row->leaving && row->voter;

	n->voters += row->member == MEMBER_VOTER;
	n->standbys += row->member == MEMBER_STANDBY;
	n->able += able;
	if (able && n->rises == NULL)
		n->rises = row;
	if (n->goes == NULL && row->leaving && row->member != MEMBER_NONE && has_nothing(s, row))
		n->goes = row;
	if (n->lost == NULL && row->member == MEMBER_VOTER && row->state == NODE_LOST)
		n->lost = row;
	if (n->comes == NULL && row->member == MEMBER_NONE && row->voter && !row->leaving &&
	    row->state != NODE_LOST)
		n->comes = row;
}

bool voters_next(const struct state *s, struct cmd_member_begin *ret)
{
	struct count n = {0};

	for (const struct node_row *row = NULL; (row = state_next_node(s, row)) != NULL;)
		count_row(s, row, &n);
	if (n.goes != NULL)
		*ret = (struct cmd_member_begin){n.goes->id, MEMBER_NONE};
	else if (n.lost != NULL && n.able > 0)
		*ret = (struct cmd_member_begin){n.lost->id, MEMBER_NONE};
	else if (n.comes != NULL &&
		 (n.voters + n.standbys < VOTERS_MAX || (n.lost != NULL && n.standbys == 0)))
		*ret = (struct cmd_member_begin){n.comes->id, MEMBER_STANDBY};
	else if (n.rises != NULL && n.voters < VOTERS_MAX && (n.voters % 2 == 0 || n.able >= 2))
		*ret = (struct cmd_member_begin){n.rises->id, MEMBER_VOTER};
	else
		return false;
	return true;
}

static const struct node_row *to_drop(const struct state *s)
{
	for (const struct node_row *row = NULL; (row = state_next_node(s, row)) != NULL;) {
		if (row->leaving && row->member == MEMBER_NONE &&
		    state_next_node_sandbox(s, row->id, NULL) == NULL)
			return row;
	}
	return NULL;
}

/* -- Doing it ------------------------------------------------------------------------------------------------------- */

static void go_on(struct voters *v, struct context *c, uint64_t operation)
{
	const struct operation_row *row = state_operation(c->state, operation);

	if (row == NULL)
		return;
	v->operation = operation;
	v->doing = VOTERS_CHANGING;
	v->request = context_member(c, row->node, row->role, CHANGE_MS);
}

static void begin(struct voters *v, struct context *c)
{
	const struct node_row *drop = to_drop(c->state);
	struct cmd_member_begin next;

	if (voters_next(c->state, &next)) {
		/* The log cannot let go its leader; this asks for another one. */
		bool own = next.node == c->node && next.role == MEMBER_NONE;

		v->doing = own ? VOTERS_DROPPING : VOTERS_BEGINNING;
		v->request = own ? context_member(c, c->node, MEMBER_NONE, PROPOSE_MS)
				 : context_propose(c, COMMAND_MEMBER_BEGIN, &next, PROPOSE_MS);
	} else if (drop != NULL) {
		v->doing = VOTERS_DROPPING;
		v->request =
			context_propose(c, COMMAND_NODE_DROP, &(struct cmd_node_drop){drop->id}, PROPOSE_MS);
	}
}

void voters_tick(struct voters *v, struct context *c)
{
	uint64_t operation = state_cluster(c->state)->member_operation;

	if (v->doing != VOTERS_IDLE || c->now_ms < v->pause_until_ms)
		return;
	if (operation != 0)
		go_on(v, c, operation);
	else
		begin(v, c);
}

static void pause(struct voters *v, struct context *c, uint64_t ms)
{
	v->doing = VOTERS_IDLE;
	v->pause_until_ms = c->now_ms + ms;
}

static void changed(struct voters *v, struct context *c, int32_t code, struct str message)
{
	struct cmd_member_end end = {.operation = v->operation};

	if (code == -EAGAIN || code == -ETIMEDOUT || code == -EINPROGRESS) {
		pause(v, c, AGAIN_MS);
		return;
	}
	if (code != 0)
		end.message = message.n > 0 ? message : STR("the log refused it");
	v->pause_until_ms = code != 0 ? c->now_ms + FAILED_MS : 0;
	v->doing = VOTERS_ENDING;
	v->request = context_propose(c, COMMAND_MEMBER_END, &end, PROPOSE_MS);
}

bool voters_outcome(struct voters *v, struct context *c, uint64_t request, int32_t code, struct str message)
{
	if (v->doing == VOTERS_IDLE || v->request != request)
		return false;
	v->request = 0;
	if (v->doing == VOTERS_CHANGING) {
		changed(v, c, code, message);
		return true;
	}
	v->doing = VOTERS_IDLE;
	if (code != 0)
		pause(v, c, AGAIN_MS);
	voters_tick(v, c);
	return true;
}

void voters_clear(struct voters *v)
{
	*v = (struct voters){0};
}
