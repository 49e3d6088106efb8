/* From a scanned head to where it goes: another node's forward, a pool's session, or the management API. */
#include "gateway/inside.h"

#include <string.h>

#include "core/clock.h"

#define QUEUE_MS    10000
#define IDLE_MS     240000
#define COOLDOWN_MS 300000

/* Cuts "/<word>/<value>" off the front of the path; the word in any case. */
static bool cut_pair(struct str *path, struct str word, struct str *ret_value)
{
	struct str p = *path;

	if (p.n < word.n + 2 || p.p[0] != '/' || !str_eq_nocase(str_slice(p, 1, word.n + 1), word) ||
	    p.p[word.n + 1] != '/')
		return false;
	p = str_slice(p, word.n + 2, p.n);
	size_t end = str_find(p, '/');
	*ret_value = str_slice(p, 0, end);
	*path = str_slice(p, end, p.n);
	return ret_value->n > 0;
}

/* /subscriptions/{s}/resourceGroups/{g}/sessionPools/{name}[/...], without /providers/. */
static bool cut_pool_path(struct str *path, struct str *subscription, struct str *group, struct str *name)
{
	struct str p = *path;

	if (!cut_pair(&p, STR("subscriptions"), subscription) ||
	    !cut_pair(&p, STR("resourceGroups"), group) || !cut_pair(&p, STR("sessionPools"), name))
		return false;
	*path = p;
	return true;
}

/* True: allowed. Else it was answered. */
static bool authorized(struct client *c, const struct request_facts *f, const struct view_pool *pool)
{
	const struct token_claims *claims;
	struct gw *gw = c->gw;
	struct str token;

	if (!gw->gateway->config.tokens || c->kind == CLIENT_ADMIN)
		return c->kind == CLIENT_ADMIN || account_enter(c, STR_NONE);
	if (!gw->keys) {
		answer_retry(c, 503, "ServiceUnavailable",
			     "the keys that tokens are checked with are not there yet", 1);
		return false;
	}
	if (token_of_header(f->authorization, &token) ||
	    token_cache_verify(gw->tokens, gw->keys, token, TOKEN_DATA, clock_wall_ms() / 1000, &claims,
			       NULL)) {
		answer(c, 401, "Unauthorized",
		       "a valid bearer token for " TOKEN_AUDIENCE_DATA " is required");
		return false;
	}
	if (!token_has_role(claims, STR(TOKEN_ROLE_EXECUTOR), pool->scope)) {
		answer(c, 403, "Forbidden",
		       "the token lacks the role " TOKEN_ROLE_EXECUTOR " on this session pool");
		return false;
	}
	c->token_until_s = claims->expires_s;
	return account_enter(c, str_of(claims->subject));
}

static void use_pool(struct client *c, const struct view_pool *pool)
{
	c->pool = pool->uid;
	c->queue_ms = pool->queue_timeout_ms ? pool->queue_timeout_ms : QUEUE_MS;
	c->idle_ms = pool->request_timeout_ms ? pool->request_timeout_ms : IDLE_MS;
	c->cooldown_ms = pool->cooldown_ms ? pool->cooldown_ms : COOLDOWN_MS;
	c->deadline_ms = clock_boot_ms() + c->queue_ms;
}

static void session_request(struct client *c, const struct scan_head *head, const struct request_facts *f,
			    const struct view_pool *pool, struct str path)
{
	enum identifier_result r;

	c->pool = pool->uid;
	if (!authorized(c, f, pool))
		return;
	r = identifier_of_query(f->query, c->identifier, &c->identifier_n);
	if (r != IDENTIFIER_OK) {
		answer(c, 400, "SessionRequestValidationFailed", identifier_message[r]);
		return;
	}
	use_pool(c, pool);
	rewrite_request(c, head, f, path);
	c->head_n = c->head.n;
	session_route(c);
}

static void node_request(struct client *c, const struct scan_head *head, const struct request_facts *f)
{
	const struct view_pool *pool;
	struct session_ref ref;
	uint64_t incarnation;

	if (hop_parse(f->hop, &incarnation, &ref)) {
		answer(c, 400, "BadRequest", "Berth-Hop is missing or malformed");
		return;
	}
	pool = c->gw->view ? view_by_uid(c->gw->view, ref.pool) : NULL;
	if (incarnation != c->gw->gateway->config.incarnation) {
		answer_hop(c, "stale");
		return;
	}
	if (!pool) {
		answer_hop(c, "again"); /* this node lags behind */
		return;
	}
	use_pool(c, pool);
	rewrite_request(c, head, f, f->path);
	c->head_n = c->head.n;
	session_hop(c, &ref);
}

static void reset(struct client *c, const struct request_facts *f)
{
	/* The slices in c->facts dangle after this call; only lengths and flags are used later. */
	c->facts = *f;
	body_begin(&c->request_body, f->f.body, f->f.length);
	buf_clear(&c->kept);
	c->kept_overflow = c->head_pending = c->answer_begun = c->created = c->rechunk = false;
	c->interims = c->tries = 0;
	c->allocation_ms = 0;
	c->gone = c->token_until_s = c->rest_until_ms = 0;
	c->keep = f->f.keep;
	c->tunnel_client_eof = c->tunnel_upstream_eof = false;
	body_begin(&c->answer_body, BODY_NONE, 0);
}

void request_begin(struct client *c, const struct scan_head *head)
{
	struct str path, subscription, group, name;
	const struct view_pool *pool = NULL;
	struct request_facts f;
	const char *why = "";
	unsigned status;

	status = head_check_request(head, c->kind == CLIENT_NODE ? HEAD_FROM_NODE : HEAD_FROM_CLIENT, &f,
				    &why);
	if (status) { /* where its body ends is not known */
		f.f.body = BODY_TO_END;
		f.f.keep = false;
		reset(c, &f);
		answer(c, status, "BadRequest", why);
		return;
	}
	reset(c, &f);
	if (c->kind == CLIENT_NODE && c->node != 0 && c->gw->view && view_refuses(c->gw->view, c->node)) {
		c->keep = false;
		answer(c, 403, "NodeRemoved", "this node was removed from the cluster");
		return;
	}
	if (c->kind == CLIENT_NODE) {
		node_request(c, head, &f);
		return;
	}
	path = f.path;
	if (c->kind == CLIENT_METRICS) {
		api_begin(c, &f, 0, path);
		return;
	}
	if (cut_pool_path(&path, &subscription, &group, &name)) {
		pool = c->gw->view ? view_by_name(c->gw->view, subscription, group, name) : NULL;
		if (!c->gw->view) {
			answer_retry(c, 503, "ServiceUnavailable",
				     "this node has not caught up with the cluster yet", 1);
			return;
		}
		if (!pool) {
			answer(c, 404, "ResourceNotFound", "there is no such session pool");
			return;
		}
	} else if (c->gw->view && f.host.n) {
		pool = view_by_host(c->gw->view, f.host);
	}
	if (pool && !str_starts(path, STR("/.management/")))
		session_request(c, head, &f, pool, path);
	else
		api_begin(c, &f, pool ? pool->uid : 0, path);
}
