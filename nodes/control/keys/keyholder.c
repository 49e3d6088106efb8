/* The cluster's keys on their way from the tables to whoever uses them: tokens, secrets, tags of identifiers.
 *
 * Happy path: an applied entry changed them; the next turn opens them anew, publishes a new set of token keys to the gateway
 * loops, and tells the cluster up to which key this node has them, so that they can be used.
 * Failure modes: a key that cannot be opened (a key ring of another cluster, or one that is too old) is logged; this node
 * then holds up rotations, and says so, but goes on with the keys that it has. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "control/control.h"
#include "control/keys/certificates.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/must.h"
#include "crypto/digest.h"
#include "state/command.h"

#define TELL_MS 10000

int keyholder_open(struct control *c, struct err *err)
{
	char path[PATH_MAX];

	if (c->config.keyring.n > 0) {
		must(str_copy(c->config.keyring, path, sizeof path) == 0);
		int r = keyring_load(path, &c->ring, err);

		if (r < 0)
			return r;
	}
	c->keys = keys_new(c->ring);
	return 0;
}

static void publish_tokens(struct control *c)
{
	struct token_keys *fresh = NULL;
	struct err err = {0};
	char url[512];

	must(str_copy(c->config.audience, url, sizeof url) == 0);
	int r = token_keys_new(keys_issuer(c->keys), keys_issuer_public(c->keys, 0), "berth", url, &fresh,
			       &err);

	for (unsigned i = 1; r == 0 && keys_issuer_public(c->keys, i).n > 0; i++)
		r = token_keys_add(fresh, keys_issuer_public(c->keys, i), &err);
	if (r < 0) {
		log_error("the issuer's keys: %s", err.message);
		token_keys_unref(fresh);
		return;
	}
	token_keys_unref(c->tokens);
	c->tokens = fresh;
	if (c->gateway != NULL)
		gateway_publish_keys(c->gateway, token_keys_ref(fresh));
}

/* The tables show which keys each node has: no key is used before all have it. */
static void tell(struct control *c)
{
	const struct node_row *self = state_node(c->state, c->config.node_id);
	struct cmd_node_keys body = {.newest_key = keys_newest(c->keys), .ca_key = c->ca_key};
	struct address nobody = {ADDRESS_CONTROL, c->config.node_id, 0};
	uint64_t now = clock_boot_ms();

	if (self == NULL || proposer_epoch(c->proposer) == 0 || now < c->keys_told_ms ||
	    (self->newest_key == body.newest_key && self->ca_key == body.ca_key))
		return;
	c->keys_told_ms = now + TELL_MS;
	proposer_submit(c->proposer, COMMAND_NODE_KEYS, &body, &nobody, 0, now + TELL_MS);
}

void keyholder_turn(struct control *c)
{
	struct err err = {0};

	if (c->keys_dirty) {
		c->keys_dirty = false;
		c->keys_told_ms = 0;
		if (keys_refresh(c->keys, c->state, &err) < 0)
			log_error("%s; this node's key ring is %.*s", err.message,
				  STR_ARGS(c->config.keyring));
		if (keys_issuer_public(c->keys, 0).n > 0)
			publish_tokens(c);
		if (keys_tag(c->keys) != NULL)
			memcpy(c->tag_key, keys_tag(c->keys), sizeof c->tag_key);
		certificates_trust(c);
		c->ca_key = certificates_ca(c);
	}
	tell(c);
}

void keyholder_close(struct control *c)
{
	keys_free(c->keys);
	keyring_free(c->ring);
	token_keys_unref(c->tokens);
}
