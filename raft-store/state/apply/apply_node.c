/* apply_node.c -- the cluster, its nodes, their leases and images. */
#include <errno.h>
#include <inttypes.h>

#include "state/apply/apply.h"

static const char *settings_fault(const struct settings *x)
{
	if (x->queue_ms > APPLY_DURATION_MAX || x->lease_ms > APPLY_DURATION_MAX ||
	    x->lost_ms > APPLY_DURATION_MAX || x->operation_kept_ms > APPLY_DURATION_MAX ||
	    x->cooldown_ms_min > APPLY_DURATION_MAX || x->pull_retry_ms > APPLY_DURATION_MAX ||
	    x->start_ms > APPLY_DURATION_MAX)
		return "settings: a duration is above a hundred years";
	if (x->lease_ms == 0 || x->lost_ms < x->lease_ms)
		return "settings: lease_ms must be above 0 and lost_ms at least lease_ms";
	if (x->overcommit_cpu < 1 || x->overcommit_cpu > 1000 || x->overcommit_memory < 1 ||
	    x->overcommit_memory > 1000)
		return "settings: overcommit_cpu and overcommit_memory are allowed from 1 to 1000";
	return NULL;
}

void apply_cluster_init(struct apply *a, const void *body)
{
	const struct cmd_cluster_init *c = body;
	const char *fault = settings_fault(&c->settings);

	if (a->cluster.id.n != 0) {
		apply_refuse(a, -EEXIST, "the cluster is initialised already");
		return;
	}
	if (fault == NULL && c->feature_level > FEATURE_LEVEL)
		fault = "feature_level: above the program's";
	if (c->id.n == 0 || fault != NULL) {
		apply_refuse(a, -EINVAL, "%s", fault != NULL ? fault : "id: empty");
		return;
	}
	for (uint32_t i = 0; i < c->n_keys; i++) {
		fault = apply_key_fault(&c->keys[i]);
		for (uint32_t k = 0; k < i && fault == NULL; k++)
			fault = c->keys[k].kind == c->keys[i].kind ? "two keys of a kind" : NULL;
		if (fault != NULL) {
			apply_refuse(a, -EINVAL, "keys[%u]: %s", i, fault);
			return;
		}
	}
	a->cluster.id = c->id;
	a->cluster.settings = c->settings;
	a->cluster.incarnation = 1;
	a->cluster.feature_level = c->feature_level != 0 ? c->feature_level : FEATURE_LEVEL;
	a->cluster.counter = APPLY_FIRST_ID;
	for (uint32_t i = 0; i < c->n_keys; i++)
		apply_key_found(a, &c->keys[i]);
}

/* A level above this program's comes with a row of this node that has it: then this is another program. */
void apply_cluster_level(struct apply *a, const void *body)
{
	const struct msg_cluster_level *c = body;

	for (const struct node_row *node = NULL; (node = state_next_node(a->s, node)) != NULL;) {
		if (node->feature_level >= c->feature_level)
			continue;
		apply_refuse(a, -EBUSY, "node \"%.*s\" (version %.*s) has feature level %u, not %u",
			     STR_ARGS(node->name), STR_ARGS(node->version), node->feature_level,
			     c->feature_level);
		return;
	}
	if (c->feature_level > FEATURE_LEVEL) {
		apply_refuse(a, -EPROTO, "feature level %u: this version has %d", c->feature_level,
			     FEATURE_LEVEL);
		return;
	}
	if (c->feature_level > a->cluster.feature_level)
		a->cluster.feature_level = c->feature_level;
	a->result->id = a->cluster.feature_level;
}

static void forget_results(struct apply *a, uint64_t node)
{
	const struct result_row *row;

	while ((row = store_next(&a->s->rows[KIND_RESULTS], node, NULL)) != NULL)
		store_remove(a->s, KIND_RESULTS, row);
}

/* A node that comes back smaller counts as large as what it still runs needs. */
static uint64_t at_least(uint64_t capacity, uint64_t reserved, uint32_t overcommit)
{
	uint64_t needed = (reserved + overcommit - 1) / overcommit;

	return capacity < needed ? needed : capacity;
}

/* Its machine was booted since: nothing that ran there does, and nobody knows since when but not later than its last lease. */
static bool was_booted(const struct node_row *old, const struct cmd_node_join *c)
{
	return old != NULL && old->state == NODE_UP && old->boot.n > 0 && c->boot.n > 0 &&
	       !str_eq(old->boot, c->boot);
}

/* Refuses what names nothing, or more than this version knows. */
static bool isolations_are_sound(struct apply *a, uint32_t isolations)
{
	if (isolations != 0 && isolations >> ISOLATIONS == 0)
		return true;
	apply_refuse(a, -EINVAL, "node %" PRIu64 ": isolations: %#x, allowed 1 to %#x", a->command->node,
		     isolations, (1u << ISOLATIONS) - 1);
	return false;
}

static void take_isolations(struct node_row *row, uint32_t isolations, struct str no_vm)
{
	row->isolations = isolations;
	row->no_vm = (isolations & 1u << ISOLATION_VM) != 0 ? STR_NONE : no_vm;
}

void apply_node_able(struct apply *a, const void *body)
{
	const struct cmd_node_able *c = body;
	const struct node_row *node = state_node(a->s, a->command->node);
	struct node_row row;

	if (node == NULL) {
		apply_refuse(a, -ENOENT, "no node %" PRIu64, a->command->node);
		return;
	}
	if (!isolations_are_sound(a, c->isolations))
		return;
	row = *node;
	take_isolations(&row, c->isolations, c->no_vm);
	store_put(a->s, KIND_NODES, &row);
}

void apply_node_join(struct apply *a, const void *body)
{
	const struct cmd_node_join *c = body;
	const struct node_row *old = state_node(a->s, c->id);
	struct node_row row = {.id = c->id};

	if (c->id == 0 || c->id > a->cluster.counter) {
		apply_refuse(a, -EINVAL, "id: %" PRIu64 ", allowed below %d or from the cluster's counter",
			     c->id, APPLY_FIRST_ID);
		return;
	}
	if (c->id != a->command->node) {
		apply_refuse(a, -EPERM, "node %" PRIu64 " does not join for itself", c->id);
		return;
	}
	if (!state_node_belongs(a->s, c->id)) {
		apply_refuse(a, -ENOENT, "node %" PRIu64 ": was removed, or never admitted", c->id);
		return;
	}
	if (c->cpu_milli == 0 || c->memory_bytes == 0 || c->cpu_milli > UINT32_MAX ||
	    c->memory_bytes > 1ull << 50) {
		apply_refuse(a, -EINVAL,
			     "node %" PRIu64
			     ": cpu_milli and memory_bytes must be above 0 and below 4,294,967,296 and 2^50",
			     c->id);
		return;
	}
	if (a->command->epoch != 0 && (old == NULL || old->epoch != a->command->epoch)) {
		apply_refuse(a, -ESTALE, "node %" PRIu64 ": joined again since epoch %" PRIu64, c->id,
			     a->command->epoch);
		return;
	}
	if (c->isolations != 0 && !isolations_are_sound(a, c->isolations))
		return;
	if (was_booted(old, c)) {
		apply_node_ends(a, old);
		old = state_node(a->s, c->id);
	}
	if (old != NULL) {
		row = *old;
	} else { /* the cluster is made with it */
		row.voter = c->voter;
		row.member = c->voter ? MEMBER_VOTER : MEMBER_NONE;
	}
	row.name = c->name;
	row.raft_address = c->raft_address;
	row.control_address = c->control_address;
	row.peer_address = c->peer_address;
	row.api_address = c->api_address;
	row.labels = c->labels;
	row.version = c->version;
	row.feature_level = c->feature_level;
	row.boot = c->boot;
	if (c->isolations != 0)
		take_isolations(&row, c->isolations, c->no_vm);
	else if (row.isolations == 0)
		row.isolations = 1u << ISOLATION_CONTAINER;
	row.cpu_milli = at_least(c->cpu_milli, row.cpu_reserved, a->cluster.settings.overcommit_cpu);
	row.memory_bytes =
		at_least(c->memory_bytes, row.memory_reserved, a->cluster.settings.overcommit_memory);
	row.state = NODE_UP;
	row.epoch = apply_next_id(a);
	row.sequence = 0;
	row.renewed_ms = a->now_ms;
	forget_results(a, c->id);
	store_put(a->s, KIND_NODES, &row);
	a->result->id = row.epoch;
	a->result->created = old == NULL;
}

void apply_node_renew(struct apply *a, const void *body)
{
	const struct cmd_node_renew *c = body;

	for (uint32_t i = 0; i < c->n_renewals; i++) {
		const struct node_row *node = state_node(a->s, c->renewals[i].node);
		struct node_row row;

		if (node == NULL || node->state != NODE_UP || node->epoch != c->renewals[i].epoch)
			continue;
		row = *node;
		row.renewed_ms = a->now_ms;
		row.disk = c->renewals[i].disk;
		store_put(a->s, KIND_NODES, &row);
		a->result->id++;
	}
}

static void forget_images(struct apply *a, uint64_t node)
{
	const struct image_row *image;

	while ((image = store_next(&a->s->rows[KIND_IMAGES], node, NULL)) != NULL)
		store_remove(a->s, KIND_IMAGES, image);
}

void apply_node_forget(struct apply *a, uint64_t node)
{
	forget_images(a, node);
	forget_results(a, node);
}

/* A worker, should it be in strange hands, says nothing about who belongs to the cluster, or about its keys. */
bool apply_by_voter(struct apply *a)
{
	const struct node_row *node = state_node(a->s, a->command->node);

	if (node != NULL && node->voter)
		return true;
	apply_refuse(a, -EPERM, "node %" PRIu64 ": only voters may ask for that", a->command->node);
	return false;
}

/* Everything that ran there stopped when its lease ended. */
void apply_node_ends(struct apply *a, const struct node_row *node)
{
	uint64_t end = node->renewed_ms + a->cluster.settings.lease_ms;
	const struct sandbox_row *sandbox;

	while ((sandbox = state_next_node_sandbox(a->s, node->id, NULL)) != NULL) {
		if (sandbox->state == SANDBOX_BOUND)
			apply_session_end(a, state_session_by_generation(a->s, sandbox->generation), end,
					  false, REAP_DEAD);
		else
			apply_sandbox_end(a, sandbox, end);
	}
	apply_arrivals_end(a, node->id);
}

void apply_node_lost(struct apply *a, const void *body)
{
	const struct cmd_node_lost *c = body;
	const struct node_row *node = state_node(a->s, c->node);
	struct node_row row;

	if (node == NULL) {
		apply_refuse(a, -ENOENT, "no node %" PRIu64, c->node);
		return;
	}
	if (node->state == NODE_LOST || node->epoch != c->epoch || node->renewed_ms != c->renewed_ms) {
		apply_refuse(a, -ESTALE, "node %" PRIu64 ": judged by a renewal that is not its last",
			     c->node);
		return;
	}
	if (a->now_ms < node->renewed_ms + a->cluster.settings.lost_ms) {
		apply_refuse(a, -EAGAIN, "node %" PRIu64 ": renewed less than %" PRIu64 " ms ago", c->node,
			     a->cluster.settings.lost_ms);
		return;
	}
	apply_node_ends(a, node);
	forget_images(a, c->node);
	row = *state_node(a->s, c->node); /* its reservations went with the sandboxes */
	row.state = NODE_LOST;
	store_put(a->s, KIND_NODES, &row);
}

void apply_node_images(struct apply *a, const void *body)
{
	const struct cmd_node_images *c = body;

	if (c->node != a->command->node) {
		apply_refuse(a, -EPERM, "images: node %" PRIu64 " does not speak for itself", c->node);
		return;
	}
	for (uint32_t i = 0; i < c->n_digests; i++) {
		if (c->digests[i].n == 0 || c->digests[i].n > DIGEST_MAX) {
			apply_refuse(a, -EINVAL, "digests: one is empty or longer than %d bytes", DIGEST_MAX);
			return;
		}
	}
	forget_images(a, c->node);
	for (uint32_t i = 0; i < c->n_digests; i++)
		store_put(a->s, KIND_IMAGES, &(struct image_row){.node = c->node, .digest = c->digests[i]});
}
