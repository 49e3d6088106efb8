/* Effects of actors become calls: of the log (proposer), of sandboxd, of a probe, or a message on its way. The outcome
 * is delivered as an envelope to the actor that emitted the effect, in a later turn. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/control.h"
#include "control/keys/secrets.h"
#include "control/keys/unsealing.h"
#include "control/moving/copies.h"
#include "control/links/probe.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/must.h"
#include "crypto/digest.h"
#include "records/events.h"

/* Whom an outcome goes to. */
struct outcome {
	struct control *control;
	struct address to;
	uint64_t correlation;
};

static void deliver(struct control *c, const struct address *to, uint64_t correlation, uint16_t type,
		    const void *body)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct envelope e = control_message(c, &bytes, *to, type, body);

	e.correlation = correlation;
	control_deliver(c, &e);
}

/* -- The log ------------------------------------------------------------------------------------------------ */

void effects_proposed(void *control, const struct address *to, uint64_t correlation, int code,
		      const struct result *result)
{
	struct control *c = control;
	struct msg_proposed body = {.code = code};

	if (to->kind == ADDRESS_CONTROL) {
		if (correlation == c->join_correlation && c->joining) {
			c->joining = false;
			if (code == 0 && result != NULL) {
				proposer_joined(c->proposer, result->id);
				runtime_joined(c->runtime, result->id, clock_boot_ms());
				/* The first list may have come before the log was applied: rows that it had no actor for. */
				sandboxd_client_list(c->sandboxd);
				log_info("joined the cluster: node %.*s, epoch %llu",
					 STR_ARGS(c->config.node_name), (unsigned long long)result->id);
			}
			control_kick(c);
		}
		return;
	}
	if (correlation == 0)
		return;
	if (result != NULL) {
		body.message = result->message;
		body.index = result->index;
		body.id = result->id;
		body.session = result->session;
		body.created = result->created;
		body.operation = result->operation;
		body.waiting = result->waiting;
	}
	deliver(c, to, correlation, MSG_PROPOSED, &body);
}

/* -- sandboxd ----------------------------------------------------------------------------------------------- */

static void on_driven(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	struct outcome *o = arg;

	(void)context;
	if (fd >= 0)
		close(fd);
	if (o->correlation != 0)
		deliver(o->control, &o->to, o->correlation, MSG_DRIVEN, reply);
	free(o);
}

static int fill_image(struct control *c, const struct effect *e, const struct msg_unsealed *secrets,
		      struct sandboxd_image *image, struct err *err)
{
	const struct revision_row *revision = state_revision(c->state, e->pool, e->revision);
	const struct registry_credentials *registry = revision == NULL ? NULL : &revision->template.registry;

	image->username = STR_NONE;
	if (registry == NULL || registry->password_secret.n == 0 ||
	    !template_credentials_apply(&revision->template))
		return 0;
	const struct str *password = secrets_value(secrets, registry->password_secret);

	if (password == NULL)
		return err_set(err, -ENOENT, "the pool has no secret \"%.*s\"",
			       STR_ARGS(registry->password_secret));
	image->username = registry->username;
	image->password = *password;
	return 0;
}

/* By whose session a log will be looked for, once it ended. */
static void fill_tag(struct control *c, struct sandboxd_stop *stop, char tag[IDENTIFIER_TAG_SIZE])
{
	const struct sandbox_row *row = state_sandbox(c->state, stop->sandbox);
	const struct session_row *session =
		row == NULL ? NULL : state_session_by_generation(c->state, row->generation);

	if (session == NULL)
		return;
	crypto_identifier_tag(c->tag_key, session->identifier, tag);
	stop->tag = str_of(tag);
}

void effects_drive(struct control *c, const struct effect *e, const struct msg_unsealed *secrets)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct outcome *o = malloc(sizeof *o);
	struct err err = {.code = secrets->code};
	int r = secrets->code;
	union {
		struct sandboxd_start start;
		struct sandboxd_image image;
		struct sandboxd_stop stop;
	} body;
	char tag[IDENTIFIER_TAG_SIZE];
	const void *call = e->body;

	must(o != NULL);
	*o = (struct outcome){c, e->from, e->correlation};
	if (r < 0) {
		snprintf(err.message, sizeof err.message, "%.*s", STR_ARGS(secrets->message));
	} else if (e->type == SANDBOXD_START) {
		body.start = *(const struct sandboxd_start *)e->body;
		r = secrets_fill_env(secrets, &body.start.env, body.start.n_env, &arena, &err);
		call = &body.start;
	} else if (e->type == SANDBOXD_STOP) {
		body.stop = *(const struct sandboxd_stop *)e->body;
		fill_tag(c, &body.stop, tag);
		call = &body.stop;
	} else if (e->type == SANDBOXD_PULL || e->type == SANDBOXD_RESOLVE) {
		body.image = *(const struct sandboxd_image *)e->body;
		r = fill_image(c, e, secrets, &body.image, &err);
		call = &body.image;
	}
	if (r < 0) {
		struct sandboxd_reply reply = {.code = r, .message = str_of(err.message)};

		on_driven(c, o, &reply, -1);
		return;
	}
	uint64_t now = clock_boot_ms();
	uint64_t left = e->deadline_ms > now ? e->deadline_ms - now : 1;

	sandboxd_client_call(c->sandboxd, e->type, call, -1,
			     e->deadline_ms == 0 ? 0 : loop_now(&c->loop) + left, on_driven, o);
}

/* -- Probes ------------------------------------------------------------------------------------------------- */

static void on_probed(void *arg, bool ok, const char *message)
{
	struct outcome *o = arg;
	struct msg_probed body = {.ok = ok, .message = str_of(message)};
	const struct sandbox_row *row = state_sandbox(o->control->state, o->to.key);

	if (ok && row != NULL && row->state == SANDBOX_BOOTING)
		events_write(o->control->events, EVENT_READY,
			     &(struct event){.pool = row->pool, .sandbox = row->id});
	deliver(o->control, &o->to, o->correlation, MSG_PROBED, &body);
	free(o);
}

static void probe(struct control *c, const struct effect *e)
{
	struct outcome *o = malloc(sizeof *o);

	must(o != NULL);
	*o = (struct outcome){c, e->from, e->correlation};
	probe_start(&c->loop, c->sandboxd, e->sandbox, e->probe, e->target_port, on_probed, o);
}

/* -- Voters --------------------------------------------------------------------------------------------------- */

static void answer_member(struct outcome *o, int code, const char *message)
{
	deliver(o->control, &o->to, o->correlation, MSG_PROPOSED,
		&(struct msg_proposed){.code = code, .message = str_of(message)});
	free(o);
}

static void on_member(void *arg, int status)
{
	struct outcome *o = arg;

	if (status == -ETIMEDOUT)
		answer_member(o, -EHOSTDOWN, "it did not catch up with the log in time");
	else if (status == -EEXIST)
		answer_member(o, status, "its address is another server's, or it had another one");
	else if (status == -ENOSPC)
		answer_member(o, status, "the log has as many servers as it may have");
	else
		answer_member(o, status == 0 ? 0 : -EAGAIN, "");
}

static void change_member(struct control *c, const struct effect *e)
{
	static const enum consensus_role roles[MEMBER_ROLES] = {[MEMBER_NONE] = CONSENSUS_GONE,
								[MEMBER_STANDBY] = CONSENSUS_STANDBY,
								[MEMBER_VOTER] = CONSENSUS_VOTER};
	const struct node_row *row = state_node(c->state, e->node);
	struct outcome *o = malloc(sizeof *o);
	char address[CONSENSUS_ADDRESS_SIZE];

	must(o != NULL);
	*o = (struct outcome){c, e->from, e->correlation};
	if (e->node == c->config.node_id) {
		consensus_transfer(c->consensus, 0, NULL, NULL);
		answer_member(o, -EAGAIN, "");
		return;
	}
	if (row != NULL && str_copy(row->raft_address, address, sizeof address) < 0) {
		answer_member(o, -EINVAL, "its Raft address is too long");
		return;
	}
	int r = consensus_change(c->consensus, e->node, row != NULL ? address : NULL, roles[e->role],
				 on_member, o);

	if (r == -EINVAL)
		answer_member(o, r, "its Raft address is missing");
	else if (r < 0)
		answer_member(o, -EAGAIN, "");
}

void effects_carry_out(void *control, const struct effect *effect)
{
	struct control *c = control;

	switch ((enum effect_kind)effect->kind) {
	case EFFECT_SEND:
		control_send(c, effect->envelope);
		return;
	case EFFECT_PROPOSE:
		proposer_submit(c->proposer, effect->type, effect->body, &effect->from, effect->correlation,
				effect->deadline_ms);
		return;
	case EFFECT_DRIVE:
		unsealing_drive(c, effect);
		return;
	case EFFECT_PROBE:
		probe(c, effect);
		return;
	case EFFECT_MEMBER:
		change_member(c, effect);
		return;
	case EFFECT_FETCH:
		copies_fetch(c, effect);
		return;
	case EFFECT_YIELD:
		if (consensus_transfer(c->consensus, effect->node, NULL, NULL) == 0)
			log_info("this node drains: leadership goes to node %" PRIu64, effect->node);
		return;
	case EFFECT_KINDS:
		break;
	}
	must(false);
}
