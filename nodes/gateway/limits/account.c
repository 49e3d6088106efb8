/* See account.h. The limits are this loop's part of what the operator set. */
#include "gateway/limits/account.h"

#include <string.h>
#include <stdlib.h>

#include "core/must.h"
#include "gateway/inside.h"

struct account_key {
	enum account_kind kind;
	uint64_t pool;
	struct str subject;
};

static bool is(const struct account *a, enum account_kind kind, uint64_t pool, struct str subject)
{
	return a->kind == kind && a->pool == pool && str_eq((struct str){a->subject, a->subject_n}, subject);
}

static bool match(const struct map_node *node, const void *key)
{
	const struct account_key *k = key;

	return is(container_of(node, struct account, node), k->kind, k->pool, k->subject);
}

struct account *account_get(struct gw *gw, enum account_kind kind, uint64_t pool, struct str subject)
{
	struct account_key key = {kind, pool, subject};
	uint64_t hash = str_hash(subject) ^ map_hash_u64(pool * ACCOUNT_KINDS + kind);
	struct map_node *node = map_find(&gw->accounts, hash, match, &key);
	struct account *a;

	must(subject.n <= sizeof a->subject);
	if (node) {
		a = container_of(node, struct account, node);
		a->refs++;
		return a;
	}
	a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	a->kind = kind;
	a->pool = pool;
	if (subject.n)
		memcpy(a->subject, subject.p, subject.n);
	a->subject_n = subject.n;
	a->refs = 1;
	loop_list_init(&a->lanes);
	loop_list_init(&a->opens);
	if (map_insert(&gw->accounts, &a->node, hash)) {
		free(a);
		return NULL;
	}
	return a;
}

void account_put(struct gw *gw, struct account *a)
{
	if (!a || --a->refs > 0)
		return;
	must(a->under_way == 0 && a->waiting == 0 && a->asked == 0);
	map_remove(&gw->accounts, &a->node);
	free(a);
}

static bool refuse(struct client *c, const char *message)
{
	count(&c->gw->counters.refused_limits, 1);
	answer_retry(c, 429, "TooManyRequests", message, 1);
	return false;
}

bool account_enter(struct client *c, struct str subject)
{
	const struct gateway_config *config = &c->gw->gateway->config;

	if (!c->of_pool || c->of_pool->pool != c->pool) {
		account_put(c->gw, c->of_pool);
		c->of_pool = account_get(c->gw, ACCOUNT_POOL, c->pool, STR_NONE);
	}
	if (!c->of_subject || !is(c->of_subject, ACCOUNT_SUBJECT, 0, subject)) {
		account_put(c->gw, c->of_subject);
		c->of_subject = account_get(c->gw, ACCOUNT_SUBJECT, 0, subject);
	}
	if (!c->of_pool || !c->of_subject) {
		answer_retry(c, 503, "ServiceUnavailable", "no memory", 1);
		return false;
	}
	if (c->of_pool->under_way >= config->pool_requests_max)
		return refuse(c, "more requests to this pool are under way than pool_requests_max allows");
	if (c->of_subject->under_way >= config->token_requests_max)
		return refuse(c, "more requests of this token's subject are under way than "
				 "token_requests_max allows");
	c->of_pool->under_way++;
	c->of_subject->under_way++;
	c->counted = true;
	return true;
}

void account_leave(struct client *c)
{
	if (!c->counted)
		return;
	c->counted = false;
	c->of_pool->under_way--;
	c->of_subject->under_way--;
}

void account_drop(struct client *c)
{
	account_leave(c);
	account_put(c->gw, c->of_pool);
	account_put(c->gw, c->of_subject);
	c->of_pool = c->of_subject = NULL;
}

/* It is not read from while it waits: that is all. */
static size_t bytes_of(const struct client *c)
{
	return c->head.n + c->kept.n + c->in.n;
}

bool account_may_wait(struct client *c)
{
	const struct gateway_config *config = &c->gw->gateway->config;

	if (c->gw->n_waiting >= config->waiting_max) {
		count(&c->gw->counters.refused_limits, 1);
		answer_retry(c, 503, "TooManyWaiting", "too many requests wait for a session", 1);
		return false;
	}
	if (c->gw->waiting_bytes + bytes_of(c) > config->waiting_bytes_max) {
		count(&c->gw->counters.refused_limits, 1);
		answer_retry(c, 503, "TooManyWaiting", "too many bytes of requests wait for a session", 1);
		return false;
	}
	if (!c->counted)
		return true;
	if (c->of_pool->waiting >= config->pool_waiting_max)
		return refuse(c, "more requests wait for sessions of this pool than pool_waiting_max allows");
	if (c->of_subject->waiting >= config->token_waiting_max)
		return refuse(c, "more requests of this token's subject wait for sessions than "
				 "token_waiting_max allows");
	return true;
}

void account_waits(struct client *c, bool waits)
{
	uint32_t by = waits ? 1 : (uint32_t)-1;

	c->gw->n_waiting += by;
	c->gw->waiting_bytes -= c->waiting_n;
	c->waiting_n = waits ? bytes_of(c) : 0;
	c->gw->waiting_bytes += c->waiting_n;
	if (!c->counted)
		return;
	c->of_pool->waiting += by;
	c->of_subject->waiting += by;
}
