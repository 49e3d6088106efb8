#include "control/links/leaderbox.h"

#include <errno.h>
#include <stdlib.h>

#include "core/map.h"
#include "core/must.h"
#include "wire/messages.h"

struct kept {
	struct map_node node;
	struct arena memory;
	struct envelope *e;
	bool again;       /* the one who got it does not lead */
	uint64_t sent_ms; /* 0: not seen by leaderbox_resend yet */
};

struct leaderbox {
	struct map requests; /* by asker and correlation */
};

struct key {
	struct address asker;
	uint64_t correlation;
};

struct leaderbox *leaderbox_new(void)
{
	struct leaderbox *b = calloc(1, sizeof *b);

	must(b != NULL);
	return b;
}

static void kept_free(struct kept *k)
{
	arena_done(&k->memory);
	free(k);
}

static void drop(struct leaderbox *b, struct kept *k)
{
	map_remove(&b->requests, &k->node);
	kept_free(k);
}

void leaderbox_free(struct leaderbox *b)
{
	struct map_node *node;

	while ((node = map_next(&b->requests, NULL)) != NULL)
		drop(b, container_of(node, struct kept, node));
	map_done(&b->requests);
	free(b);
}

bool leaderbox_takes(uint16_t type)
{
	return type == MSG_OPEN;
}

static uint64_t hash_of(const struct address *asker, uint64_t correlation)
{
	return map_hash_u64(correlation * 31 + asker->key * 7 + asker->kind);
}

static bool match(const struct map_node *node, const void *key)
{
	const struct envelope *e = container_of(node, struct kept, node)->e;
	const struct key *k = key;

	return e->correlation == k->correlation && e->from.kind == k->asker.kind &&
	       e->from.key == k->asker.key;
}

int leaderbox_keep(struct leaderbox *b, const struct envelope *e)
{
	struct key key = {.asker = e->from, .correlation = e->correlation};
	uint64_t hash = hash_of(&e->from, e->correlation);

	if (map_find(&b->requests, hash, match, &key) != NULL)
		return 0;
	if (b->requests.n >= LEADERBOX_MAX)
		return -ENOBUFS;
	struct kept *k = calloc(1, sizeof *k);

	must(k != NULL);
	k->e = codec_clone(&k->memory, &envelope_codec, e);
	must(k->e != NULL && map_insert(&b->requests, &k->node, hash) == 0);
	return 0;
}

void leaderbox_answered(struct leaderbox *b, const struct envelope *answer)
{
	struct key key = {.asker = answer->to, .correlation = answer->correlation};
	struct map_node *node =
		map_find(&b->requests, hash_of(&answer->to, answer->correlation), match, &key);

	if (node != NULL)
		drop(b, container_of(node, struct kept, node));
}

bool leaderbox_refused(struct leaderbox *b, const struct envelope *refusal)
{
	struct key key = {.asker = refusal->to, .correlation = refusal->correlation};
	struct map_node *node =
		map_find(&b->requests, hash_of(&refusal->to, refusal->correlation), match, &key);

	if (node == NULL)
		return false;
	container_of(node, struct kept, node)->again = true;
	return true;
}

void leaderbox_resend(struct leaderbox *b, uint64_t boot_ms,
		      void (*send)(void *context, const struct envelope *e), void *context)
{
	for (struct map_node *node = map_next(&b->requests, NULL); node != NULL;
	     node = map_next(&b->requests, node)) {
		struct kept *k = container_of(node, struct kept, node);
		bool lost = k->sent_ms != 0 && boot_ms - k->sent_ms >= LEADERBOX_RESEND_MS;

		if (k->again || lost)
			send(context, k->e);
		if (k->again || lost || k->sent_ms == 0)
			k->sent_ms = boot_ms;
		k->again = false;
	}
}

void leaderbox_each(struct leaderbox *b, void (*send)(void *context, const struct envelope *e), void *context)
{
	for (struct map_node *node = map_next(&b->requests, NULL); node != NULL;
	     node = map_next(&b->requests, node))
		send(context, container_of(node, struct kept, node)->e);
}

void leaderbox_expire(struct leaderbox *b, uint64_t boot_ms,
		      void (*late)(void *context, const struct envelope *e), void *context)
{
	struct map_node *node = map_next(&b->requests, NULL);

	while (node != NULL) {
		struct map_node *next = map_next(&b->requests, node);
		struct kept *k = container_of(node, struct kept, node);

		if (k->e->deadline_ms != 0 && k->e->deadline_ms + LEADERBOX_SLACK_MS <= boot_ms) {
			/* First out of the box: what `late` answers comes by leaderbox_answered. */
			map_remove(&b->requests, &k->node);
			late(context, k->e);
			kept_free(k);
		}
		node = next;
	}
}
