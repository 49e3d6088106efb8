#include "control/keys/unsealing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "control/feed/intake.h"
#include "control/keys/secrets.h"
#include "core/clock.h"
#include "core/must.h"
#include "crypto/digest.h"

#define FIRST (1ull << 62) /* correlations: apart from other questions of a control loop */

/* A call of this worker that waits. */
struct unsealing {
	struct unsealing *next;
	struct arena memory; /* of the call's body */
	struct effect call;
	uint64_t correlation, deadline_ms;
};

static bool needs_secrets(const struct control *c, const struct effect *e)
{
	const struct sandboxd_start *start = e->body;
	const struct revision_row *revision;

	if (e->type == SANDBOXD_START) {
		for (uint32_t i = 0; i < start->n_env; i++) {
			if (start->env[i].secret_ref.n > 0)
				return true;
		}
		return false;
	}
	if (e->type != SANDBOXD_PULL && e->type != SANDBOXD_RESOLVE)
		return false;
	revision = state_revision(c->state, e->pool, e->revision);
	return revision != NULL && revision->template.registry.password_secret.n > 0 &&
	       template_credentials_apply(&revision->template);
}

/* -- A voter ------------------------------------------------------------------------------------------------------ */

static void open_here(struct control *c, const struct effect *e)
{
	CLEANUP_ARENA struct arena arena = {0};
	const struct sandboxd_start *start = e->body;
	struct msg_unsealed secrets;
	struct err err = {0};
	int r = e->type == SANDBOXD_START ? secrets_of_env(keys_secrets(c->keys), c->state, e->pool,
							   start->env, start->n_env, &arena, &secrets, &err)
					  : secrets_of_image(keys_secrets(c->keys), c->state,
							     state_revision(c->state, e->pool, e->revision),
							     &arena, &secrets, &err);

	secrets.code = r;
	secrets.message = str_of(err.message);
	effects_drive(c, e, &secrets);
	secrets_wipe(&secrets);
}

static int open_for(struct control *c, uint64_t node, const struct msg_unseal *ask, struct arena *arena,
		    struct msg_unsealed *ret, struct err *err)
{
	const struct sandbox_row *sandbox = state_sandbox(c->state, ask->sandbox);
	const struct node_row *row = state_node(c->state, node);
	const struct pool_row *pool = state_pool(c->state, sandbox != NULL ? sandbox->pool : ask->pool);
	const struct revision_row *revision;

	if (c->ring == NULL)
		return err_set(err, -EAGAIN, "this node is a worker itself");
	if (row == NULL || row->state != NODE_UP)
		return err_set(err, -EPERM, "node %" PRIu64 " is not up", node);
	if (pool == NULL || (ask->sandbox != 0 && sandbox == NULL))
		return err_set(err, -EAGAIN, "nothing is known here of that sandbox or pool");
	if (sandbox != NULL && sandbox->node != node)
		return err_set(err, -EPERM, "sandbox %" PRIu64 " is of node %" PRIu64, sandbox->id,
			       sandbox->node);
	if (sandbox != NULL && sandbox->state != SANDBOX_BOOTING)
		return err_set(err, -EPERM, "sandbox %" PRIu64 " does not boot", sandbox->id);
	if (sandbox == NULL && ask->revision != pool->active_revision &&
	    ask->revision != pool->desired_revision)
		return err_set(err, -EPERM, "revision %" PRIu64 " is not one that nodes pull", ask->revision);
	revision = state_revision(c->state, pool->uid, sandbox != NULL ? sandbox->revision : ask->revision);
	if (revision == NULL)
		return err_set(err, -EAGAIN, "its revision is gone");
	if (sandbox == NULL)
		return secrets_of_image(keys_secrets(c->keys), c->state, revision, arena, ret, err);
	return secrets_of_env(keys_secrets(c->keys), c->state, pool->uid, revision->template.env,
			      revision->template.n_env, arena, ret, err);
}

void unsealing_question(struct control *c, const struct envelope *question)
{
	CLEANUP_ARENA struct arena arena = {0};
	CLEANUP_BUF struct buf bytes = {0};
	struct msg_unsealed answer = {0};
	struct msg_unseal ask;
	struct err err = {0};
	struct envelope e;

	if (codec_decode(question->body.p, question->body.n, message_body_codec[MSG_UNSEAL], &arena, &ask,
			 &err) < 0) {
		control_complain(c, question->from.node, err.message);
		return;
	}
	answer.code = open_for(c, question->from.node, &ask, &arena, &answer, &err);
	if (answer.code < 0) {
		secrets_wipe(&answer);
		answer.message = str_of(err.message);
	}
	if (answer.code == -EPERM)
		control_complain(c, question->from.node, err.message);
	e = control_message(c, &bytes, question->from, MSG_UNSEALED, &answer);
	e.correlation = question->correlation;
	control_send(c, &e);
	secrets_wipe(&answer);
	crypto_wipe(bytes.p, bytes.n);
}

/* -- A worker ----------------------------------------------------------------------------------------------------- */

static void end(struct control *c, struct unsealing **at, const struct msg_unsealed *secrets)
{
	struct unsealing *u = *at;

	*at = u->next;
	c->n_unsealings--;
	effects_drive(c, &u->call, secrets);
	arena_done(&u->memory);
	free(u);
}

static void send_question(struct control *c, const struct unsealing *u)
{
	CLEANUP_BUF struct buf bytes = {0};
	const struct sandboxd_start *start = u->call.body;
	struct msg_unseal ask = {.pool = u->call.pool, .revision = u->call.revision};
	struct address to = {ADDRESS_CONTROL, intake_voter(c->intake), 0};
	struct envelope e;

	if (u->call.type == SANDBOXD_START)
		ask.sandbox = start->sandbox;
	e = control_message(c, &bytes, to, MSG_UNSEAL, &ask);
	e.correlation = u->correlation;
	e.deadline_ms = u->deadline_ms;
	if (to.node != 0) /* else it ends in time */
		control_send(c, &e);
}

void unsealing_drive(struct control *c, const struct effect *e)
{
	struct unsealing *u;

	if (!needs_secrets(c, e)) {
		effects_drive(c, e, &(struct msg_unsealed){0});
		return;
	}
	if (c->intake == NULL) {
		open_here(c, e);
		return;
	}
	if (c->n_unsealings == UNSEALING_MAX) {
		effects_drive(
			c, e,
			&(struct msg_unsealed){.code = -EAGAIN, .message = STR("too many wait for secrets")});
		return;
	}
	u = calloc(1, sizeof *u);
	must(u != NULL);
	u->call = *e;
	u->call.body = codec_clone(&u->memory, sandboxd_body_codec[e->type], e->body);
	must(u->call.body != NULL);
	u->correlation = FIRST + ++c->unsealings_made;
	u->deadline_ms = clock_boot_ms() + UNSEALING_MS;
	u->next = c->unsealings;
	c->unsealings = u;
	c->n_unsealings++;
	send_question(c, u);
}

void unsealing_answered(struct control *c, const struct envelope *answer)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct unsealing **at = &c->unsealings;
	struct msg_unsealed secrets = {.code = -EAGAIN, .message = STR("the voter did not answer")};

	while (*at != NULL && (*at)->correlation != answer->correlation)
		at = &(*at)->next;
	if (*at == NULL)
		return;
	if (answer->type == MSG_UNSEALED &&
	    (answer->from.node != intake_voter(c->intake) ||
	     codec_decode(answer->body.p, answer->body.n, message_body_codec[MSG_UNSEALED], &arena, &secrets,
			  NULL) < 0))
		secrets = (struct msg_unsealed){.code = -EAGAIN, .message = STR("that is no answer")};
	end(c, at, &secrets);
	secrets_wipe(&secrets);
}

void unsealing_wipe(const struct envelope *answer, const void *frame, size_t n)
{
	if (answer->body.n > 0)
		crypto_wipe((void *)(uintptr_t)answer->body.p, answer->body.n);
	crypto_wipe((void *)(uintptr_t)frame, n);
}

void unsealing_tick(struct control *c, uint64_t boot_ms)
{
	for (struct unsealing **at = &c->unsealings; *at != NULL;) {
		if (boot_ms < (*at)->deadline_ms)
			at = &(*at)->next;
		else
			end(c, at,
			    &(struct msg_unsealed){.code = -ETIMEDOUT,
						   .message = STR("no voter told its secrets")});
	}
}
