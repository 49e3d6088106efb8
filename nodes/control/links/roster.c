#include "control/links/roster.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "control/control.h"
#include "core/clock.h"
#include "core/fd.h"
#include "core/log.h"

#define FAREWELL_MS 10000

static void dial(struct control *c, uint64_t node, struct str address)
{
	struct roster *r = &c->roster;
	struct err err = {0};
	unsigned i = 0;

	while (i < r->n_dialled && r->dialled[i] != node)
		i++;
	if (i == PEERS_MAX || peers_add(c->peers, node, address, &err) < 0)
		log_warn("node %" PRIu64 " cannot be reached: %s", node,
			 i == PEERS_MAX ? "too many nodes" : err.message);
	else if (i == r->n_dialled)
		r->dialled[r->n_dialled++] = node;
}

static void forget(struct roster *r, uint64_t node)
{
	for (unsigned i = 0; i < r->n_dialled; i++) {
		if (r->dialled[i] == node)
			r->dialled[i--] = r->dialled[--r->n_dialled];
	}
}

/* Numbers above the counter are of nodes that these tables have not heard of yet. */
static bool was_removed(const struct control *c, uint64_t node)
{
	return control_caught_up(c) && node <= state_cluster(c->state)->counter &&
	       !state_node_belongs(c->state, node);
}

/* `address` empty: it is dialled already. */
static void bid_farewell(struct control *c, uint64_t node, struct str address)
{
	struct roster *r = &c->roster;
	unsigned found = ROSTER_FAREWELLS_MAX;

	for (unsigned i = 0; i < ROSTER_FAREWELLS_MAX; i++) {
		if (r->farewells[i].node == node)
			return;
		if (r->farewells[i].node == 0)
			found = i;
	}
	if (found == ROSTER_FAREWELLS_MAX ||
	    str_copy(address, r->farewells[found].address, sizeof r->farewells[found].address) < 0)
		return; /* it will come again */
	r->farewells[found].node = node;
	r->farewells[found].until_ms = clock_boot_ms() + FAREWELL_MS;
}

int roster_open(struct control *c, struct err *err)
{
	const struct config *f = &c->config;
	struct sockaddr_storage socket;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < f->n_members; i++) {
		if (f->members[i].id == f->node_id)
			continue;
		r = mesh_address(f->members[i].control, &socket, err);
		if (r == 0 && state_node_belongs(c->state, f->members[i].id))
			dial(c, f->members[i].id, f->members[i].control);
	}
	c->roster.dirty = true;
	return r;
}

void roster_turn(struct control *c)
{
	struct roster *r = &c->roster;

	if (!r->dirty)
		return;
	r->dirty = false;
	for (const struct node_row *row = NULL; (row = state_next_node(c->state, row)) != NULL;) {
		if (row->id != c->config.node_id && row->control_address.n > 0)
			dial(c, row->id, row->control_address);
	}
	for (unsigned i = 0; i < r->n_dialled; i++) {
		uint64_t node = r->dialled[i];

		if (!was_removed(c, node))
			continue;
		log_info("node %" PRIu64 " was removed from the cluster", node);
		forget(r, node);
		i--;
		bid_farewell(c, node, STR_NONE);
		if (c->consensus != NULL)
			consensus_cut(c->consensus, node);
	}
}

void roster_tick(struct control *c, uint64_t boot_ms)
{
	struct roster *r = &c->roster;
	struct err err = {0};

	for (unsigned i = 0; i < ROSTER_FAREWELLS_MAX; i++) {
		uint64_t node = r->farewells[i].node;

		if (node == 0)
			continue;
		if (r->farewells[i].address[0] != '\0') {
			peers_add(c->peers, node, str_of(r->farewells[i].address), &err);
			r->farewells[i].address[0] = '\0';
		}
		peers_send(c->peers, node, PEER_REMOVED, NULL, 0);
		if (boot_ms < r->farewells[i].until_ms)
			continue;
		peers_remove(c->peers, node);
		r->farewells[i].node = 0;
	}
}

bool roster_knows(void *control, uint64_t node)
{
	return !was_removed(control, node);
}

bool roster_admits(void *control, uint64_t node, struct str address)
{
	struct control *c = control;

	if (!was_removed(c, node))
		return true;
	bid_farewell(c, node, address);
	return false;
}

static void marker_path(const struct control *c, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.*s/berthd/removed", STR_ARGS(c->config.state_dir));
}

/* Marks this node as one that does not belong any more, and ends it. */
static void end_for_good(struct control *c, uint64_t from, const char *why)
{
	char path[PATH_MAX];
	struct err err = {0};

	if (c->stopping)
		return;
	c->stopping = true;
	marker_path(c, path);
	if (fd_write_file(path, 0600, "removed\n", 8, &err) < 0)
		log_error("%s", err.message);
	log_error("%s, says node %" PRIu64 ": it ends", why, from);
	c->exit_status = EXIT_REMOVED;
	loop_stop(&c->loop);
}

/* It tells of the other incarnation by dialling; so each side hears of it, and the older one gives way. */
void roster_foreign(void *control, const struct peer_from *from, struct str address, uint64_t incarnation)
{
	struct control *c = control;

	if (incarnation < c->incarnation && !state_node_belongs(c->state, from->node))
		bid_farewell(c, from->node, address);
	else if (incarnation > c->incarnation && from->voter)
		end_for_good(c, from->node,
			     "this node was removed: the cluster was recovered or restored without it");
}

void roster_told(struct control *c, uint64_t from)
{
	end_for_good(c, from, "this node was removed from the cluster");
}

bool roster_was_removed(const struct control *c, struct err *err)
{
	char path[PATH_MAX];

	marker_path(c, path);
	if (access(path, F_OK) < 0)
		return false;
	err_set(err, -EPERM,
		"this node was removed from the cluster; end what is left of it with: berth node purge, and "
		"let "
		"it join anew");
	return true;
}
