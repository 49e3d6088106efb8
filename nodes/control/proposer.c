#include "proposer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/must.h"

#define WAITING_MAX    512 /* below RESULTS_KEPT: a retry must still find its result */
#define RESEND_MS      1500
#define NO_EPOCH(type) ((type) == COMMAND_NODE_JOIN || (type) == COMMAND_CLUSTER_INIT)

/* A command of this node that is not answered yet. */
struct waiting {
	struct waiting *next;
	struct address to;
	uint64_t correlation, deadline_ms;
	uint64_t sequence;
	uint64_t sent_ms; /* 0: not sent to the present leader */
	unsigned tries;
	uint8_t type;
	struct buf body;
};

/* A command of another node, until the next entry. */
struct foreign {
	struct foreign *next;
	struct arena memory;
	struct command command;
};

struct proposer {
	struct proposer_options o;
	uint64_t epoch, sequence, leader;
	bool leads;
	struct waiting *first, **last;
	unsigned n_waiting;
	struct foreign *foreign, **foreign_last;
	unsigned n_foreign;
	/* Cluster time: a term starts at max(last applied, wall clock) and goes on by CLOCK_BOOTTIME. */
	uint64_t base_ms, base_boot_ms;
};

static const struct codec_field forward_fields[] = {
	CODEC_LIST(struct forward, commands, ENTRY_COMMANDS_MAX, &command_codec),
};
const struct codec_type forward_codec = CODEC_TYPE(struct forward, "forward", forward_fields);

static const struct codec_field refusal_fields[] = {
	CODEC_LIST(struct refusal, commands, ENTRY_COMMANDS_MAX, &command_codec),
	CODEC_STR(struct refusal, message, 512),
};
const struct codec_type refusal_codec = CODEC_TYPE(struct refusal, "refusal", refusal_fields);

struct proposer *proposer_new(const struct proposer_options *options)
{
	struct proposer *p = calloc(1, sizeof *p);

	must(p != NULL);
	p->o = *options;
	p->last = &p->first;
	p->foreign_last = &p->foreign;
	return p;
}

static void waiting_free(struct waiting *w)
{
	buf_done(&w->body);
	free(w);
}

static void drop_foreign(struct proposer *p)
{
	while (p->foreign != NULL) {
		struct foreign *f = p->foreign;

		p->foreign = f->next;
		arena_done(&f->memory);
		free(f);
	}
	p->foreign_last = &p->foreign;
	p->n_foreign = 0;
}

void proposer_free(struct proposer *p)
{
	if (p == NULL)
		return;
	while (p->first != NULL) {
		struct waiting *w = p->first;

		p->first = w->next;
		waiting_free(w);
	}
	drop_foreign(p);
	free(p);
}

/* What may be proposed: what this program knows and all others too. */
static uint16_t level(const struct proposer *p)
{
	uint32_t replicated = state_cluster(p->o.state)->feature_level;

	return (uint16_t)(replicated < FEATURE_LEVEL ? replicated : FEATURE_LEVEL);
}

/* -- Coming in ------------------------------------------------------------------------------------------- */

static const char *why_full(const struct proposer *p, uint8_t type)
{
	return p->o.full == NULL || command_ends(type) ? NULL : p->o.full(p->o.context);
}

void proposer_submit(struct proposer *p, uint8_t type, const void *body, const struct address *to,
		     uint64_t correlation, uint64_t deadline_ms)
{
	struct waiting *w;

	if (p->n_waiting >= WAITING_MAX) {
		p->o.done(p->o.context, to, correlation, -ENOBUFS, NULL);
		return;
	}
	w = calloc(1, sizeof *w);
	must(w != NULL);
	*w = (struct waiting){
		.to = *to, .correlation = correlation, .deadline_ms = deadline_ms, .type = type};
	if (body != NULL)
		codec_encode(&w->body, command_body_codec[type], body);
	struct command command = {.type = type, .node = p->o.node, .body = buf_str(&w->body)};
	const char *why = p->o.refuses != NULL ? p->o.refuses(p->o.context, p->o.node, &command) : NULL;
	struct result refused = {.code = -EPERM};

	if (why == NULL && p->leads) {
		why = why_full(p, type);
		refused.code = -ENOSPC;
	}
	if (why != NULL) {
		refused.message = str_of(why);
		waiting_free(w);
		p->o.done(p->o.context, to, correlation, refused.code, &refused);
		return;
	}
	*p->last = w;
	p->last = &w->next;
	p->n_waiting++;
}

static void take_foreign(struct proposer *p, const struct command *c)
{
	struct foreign *f = calloc(1, sizeof *f);

	must(f != NULL);
	struct command *copy = codec_clone(&f->memory, &command_codec, c);

	must(copy != NULL);
	f->command = *copy;
	*p->foreign_last = f;
	p->foreign_last = &f->next;
	p->n_foreign++;
}

static void send_refusal(struct proposer *p, uint64_t to, const struct refusal *refusal)
{
	CLEANUP_BUF struct buf bytes = {0};

	codec_encode(&bytes, &refusal_codec, refusal);
	if (p->o.refuse != NULL && !buf_failed(&bytes))
		p->o.refuse(p->o.context, to, bytes.p, bytes.n);
}

int proposer_forwarded(struct proposer *p, uint64_t from, const void *bytes, size_t n, struct err *err)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct forward forward;
	struct command refused[ENTRY_COMMANDS_MAX];
	struct refusal refusal = {.commands = refused};
	int r = codec_decode(bytes, n, &forward_codec, &arena, &forward, err);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < forward.n_commands; i++) {
		const struct command *c = &forward.commands[i];

		if (c->node != from)
			return err_set(err, -EPERM, "node %llu sent a command in the name of node %llu",
				       (unsigned long long)from, (unsigned long long)c->node);
		const char *why = p->o.refuses != NULL ? p->o.refuses(p->o.context, from, c) : NULL;

		if (why != NULL)
			return err_set(err, -EPERM, "command of type %u: %s", c->type, why);
		/* In the log it would stop every node that does not know it, and each of its restarts. */
		if (c->type >= COMMAND_TYPES || c->feature > level(p))
			return err_set(
				err, -EPROTO,
				"node %llu sent command type %u of feature level %u, the cluster's is %u",
				(unsigned long long)from, c->type, c->feature, level(p));
		if (p->leader != p->o.node || p->n_foreign >= 4 * ENTRY_COMMANDS_MAX)
			continue;
		why = why_full(p, c->type);
		if (why == NULL) {
			take_foreign(p, c);
			continue;
		}
		refusal.message = str_of(why);
		refused[refusal.n_commands] = *c;
		refused[refusal.n_commands++].body = STR_NONE;
	}
	if (refusal.n_commands > 0)
		send_refusal(p, from, &refusal);
	return 0;
}

void proposer_leader(struct proposer *p, uint64_t leader, bool self)
{
	if (leader == p->leader && self == p->leads)
		return;
	if (self && !p->leads)
		p->base_ms = 0;
	p->leader = leader;
	p->leads = self;
	for (struct waiting *w = p->first; w != NULL; w = w->next)
		w->sent_ms = 0;
	if (leader != p->o.node)
		drop_foreign(p);
}

/* -- Answers ---------------------------------------------------------------------------------------------- */

static void unlink_waiting(struct proposer *p, struct waiting **at)
{
	struct waiting *w = *at;

	*at = w->next;
	if (p->last == &w->next)
		p->last = at;
	p->n_waiting--;
}

static bool answers(const struct proposer *p, const struct command *c, const struct waiting *w)
{
	if (c->node != p->o.node || c->type != w->type || w->sequence == 0)
		return false;
	return NO_EPOCH(c->type) ? c->sequence == w->sequence
				 : c->epoch == p->epoch && c->sequence == w->sequence;
}

void proposer_applied(struct proposer *p, const struct applied *applied)
{
	for (uint32_t i = 0; i < applied->n_results; i++) {
		const struct command *c = &applied->commands[i];

		for (struct waiting **at = &p->first; *at != NULL; at = &(*at)->next) {
			struct waiting *w = *at;

			if (!answers(p, c, w))
				continue;
			unlink_waiting(p, at);
			p->o.done(p->o.context, &w->to, w->correlation, applied->results[i].code,
				  &applied->results[i]);
			waiting_free(w);
			break;
		}
	}
}

static void refuse_one(struct proposer *p, const struct command *c, struct str message)
{
	for (struct waiting **at = &p->first; *at != NULL; at = &(*at)->next) {
		struct waiting *w = *at;

		if (!answers(p, c, w))
			continue;
		/* Another copy may be in the log, or on its way there. */
		struct result refused = {.code = w->tries > 1 ? -EINPROGRESS : -ENOSPC, .message = message};

		unlink_waiting(p, at);
		p->o.done(p->o.context, &w->to, w->correlation, refused.code, &refused);
		waiting_free(w);
		return;
	}
}

int proposer_refused(struct proposer *p, const void *bytes, size_t n, struct err *err)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct refusal refusal;
	int r = codec_decode(bytes, n, &refusal_codec, &arena, &refusal, err);

	for (uint32_t i = 0; r == 0 && i < refusal.n_commands; i++)
		refuse_one(p, &refusal.commands[i], refusal.message);
	return r;
}

/* What was sent in the epoch before may have been carried out, and its result is forgotten with that epoch: sent once more it
 * could be carried out twice. */
void proposer_joined(struct proposer *p, uint64_t epoch)
{
	struct waiting **at = &p->first;

	p->epoch = epoch;
	p->sequence = 0;
	while (*at != NULL) {
		struct waiting *w = *at;

		if (NO_EPOCH(w->type) || w->sequence == 0) {
			at = &w->next;
			continue;
		}
		unlink_waiting(p, at);
		p->o.done(p->o.context, &w->to, w->correlation, -EINPROGRESS, NULL);
		waiting_free(w);
	}
}

static void answer_late(struct proposer *p, uint64_t now_ms)
{
	struct waiting **at = &p->first;

	while (*at != NULL) {
		struct waiting *w = *at;

		if (w->deadline_ms == 0 || now_ms < w->deadline_ms) {
			at = &w->next;
			continue;
		}
		unlink_waiting(p, at);
		p->o.done(p->o.context, &w->to, w->correlation, -EINPROGRESS, NULL);
		waiting_free(w);
	}
}

/* -- Going out ------------------------------------------------------------------------------------------- */

uint64_t proposer_time_ms(const struct proposer *p, uint64_t boot_ms)
{
	uint64_t applied = state_cluster(p->o.state)->time_ms;
	uint64_t now = p->base_ms == 0 ? 0 : p->base_ms + (boot_ms - p->base_boot_ms);

	return now > applied ? now : applied;
}

static void set_base(struct proposer *p, uint64_t boot_ms, uint64_t wall_ms)
{
	uint64_t applied = state_cluster(p->o.state)->time_ms;

	if (p->base_ms != 0 && p->leads)
		return;
	p->base_ms = applied > wall_ms ? applied : wall_ms;
	p->base_boot_ms = boot_ms;
}

static bool due(const struct proposer *p, const struct waiting *w, uint64_t now_ms)
{
	if (!NO_EPOCH(w->type) && p->epoch == 0)
		return false;
	return w->sent_ms == 0 || now_ms - w->sent_ms >= RESEND_MS;
}

/* Fills `commands` with what is due; marks it sent. Bodies are borrowed. */
static uint32_t gather(struct proposer *p, struct command *commands, uint32_t n, uint64_t now_ms,
		       size_t *bytes)
{
	for (struct waiting *w = p->first; w != NULL && n < ENTRY_COMMANDS_MAX; w = w->next) {
		if (!due(p, w, now_ms) || (n > 0 && *bytes + w->body.n + 64 > CODEC_BYTES_MAX / 2))
			continue;
		if (w->sequence == 0)
			w->sequence = ++p->sequence;
		w->sent_ms = now_ms;
		w->tries++;
		*bytes += w->body.n + 64;
		commands[n++] = (struct command){.type = w->type,
						 .feature = level(p),
						 .node = p->o.node,
						 .epoch = NO_EPOCH(w->type) ? 0 : p->epoch,
						 .sequence = w->sequence,
						 .body = buf_str(&w->body)};
	}
	return n;
}

static void forget_sent(struct proposer *p)
{
	for (struct waiting *w = p->first; w != NULL; w = w->next)
		w->sent_ms = 0;
}

static void send_entry(struct proposer *p, uint64_t boot_ms)
{
	struct command commands[ENTRY_COMMANDS_MAX];
	CLEANUP_BUF struct buf bytes = {0};
	uint32_t n = 0;
	size_t size = 0;

	for (struct foreign *f = p->foreign; f != NULL && n < ENTRY_COMMANDS_MAX / 2; f = f->next) {
		if (n > 0 && size + f->command.body.n + 64 > CODEC_BYTES_MAX / 2)
			break;
		size += f->command.body.n + 64;
		commands[n++] = f->command;
	}
	uint32_t taken = n;

	n = gather(p, commands, n, boot_ms, &size);
	if (n == 0)
		return;
	struct entry entry = {.incarnation = state_cluster(p->o.state)->incarnation,
			      .time_ms = proposer_time_ms(p, boot_ms),
			      .commands = commands,
			      .n_commands = n};

	codec_encode(&bytes, &entry_codec, &entry);
	if (p->o.propose(p->o.context, bytes.p, bytes.n) < 0) {
		forget_sent(p);
		return;
	}
	for (uint32_t i = 0; i < taken; i++) {
		struct foreign *f = p->foreign;

		p->foreign = f->next;
		if (p->foreign == NULL)
			p->foreign_last = &p->foreign;
		p->n_foreign--;
		arena_done(&f->memory);
		free(f);
	}
}

static void send_forward(struct proposer *p, uint64_t boot_ms)
{
	struct command commands[ENTRY_COMMANDS_MAX];
	CLEANUP_BUF struct buf bytes = {0};
	size_t size = 0;
	struct forward forward = {.commands = commands, .n_commands = gather(p, commands, 0, boot_ms, &size)};

	if (forward.n_commands == 0)
		return;
	codec_encode(&bytes, &forward_codec, &forward);
	if (p->o.forward(p->o.context, p->leader, bytes.p, bytes.n) < 0)
		forget_sent(p);
}

void proposer_turn(struct proposer *p, uint64_t boot_ms, uint64_t wall_ms)
{
	set_base(p, boot_ms, wall_ms);
	answer_late(p, boot_ms);
	if (p->leads)
		send_entry(p, boot_ms);
	else if (p->leader != 0 && p->leader != p->o.node)
		send_forward(p, boot_ms);
}

uint64_t proposer_next_ms(const struct proposer *p)
{
	uint64_t next = UINT64_MAX;

	for (const struct waiting *w = p->first; w != NULL; w = w->next) {
		uint64_t resend = w->sent_ms == 0 ? UINT64_MAX : w->sent_ms + RESEND_MS;

		if (w->deadline_ms != 0 && w->deadline_ms < next)
			next = w->deadline_ms;
		if (resend < next)
			next = resend;
	}
	return next;
}

uint64_t proposer_epoch(const struct proposer *p)
{
	return p->epoch;
}
