#include "control/links/sandboxd_client.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/log.h"
#include "core/map.h"
#include "core/must.h"
#include "loop/channel.h"

#define RETRY_MS 200

struct call {
	struct map_node node; /* by correlation */
	uint64_t correlation, deadline_ms;
	sandboxd_replied *replied;
	void *arg;
};

struct sandboxd_client {
	struct sandboxd_client_options o;
	char path[PATH_MAX];
	struct channel *channel;
	bool ready; /* hello answered */
	bool closing, complained;
	uint64_t correlation;
	struct map calls;
	struct loop_timer retry, deadlines;
};

static bool match_call(const struct map_node *node, const void *key)
{
	return container_of(node, struct call, node)->correlation == *(const uint64_t *)key;
}

static void finish(struct sandboxd_client *c, struct call *call, const struct sandboxd_reply *reply, int fd)
{
	map_remove(&c->calls, &call->node);
	call->replied(c->o.context, call->arg, reply, fd);
	free(call);
}

static void refuse(struct sandboxd_client *c, sandboxd_replied *replied, void *arg, int code, const char *why)
{
	struct sandboxd_reply reply = {.code = code, .message = str_of(why)};

	replied(c->o.context, arg, &reply, -1);
}

static void send_call(struct sandboxd_client *c, uint8_t type, const void *body, int fd, uint64_t deadline_ms,
		      sandboxd_replied *replied, void *arg)
{
	CLEANUP_BUF struct buf inner = {0}, packet = {0};
	struct sandboxd_message message = {.type = type, .correlation = ++c->correlation};
	struct call *call;

	if (sandboxd_body_codec[type] != NULL && body != NULL)
		codec_encode(&inner, sandboxd_body_codec[type], body);
	message.body = buf_str(&inner);
	if (inner.n > SANDBOXD_PACKET_MAX - 64) {
		refuse(c, replied, arg, -EMSGSIZE, "the call is too large for sandboxd");
		return;
	}
	codec_encode(&packet, &sandboxd_message_codec, &message);
	int r = channel_send(c->channel, packet.p, packet.n, &fd, fd >= 0 ? 1 : 0);

	if (r < 0) {
		refuse(c, replied, arg, r == -EMSGSIZE ? r : -ENOTCONN, "sandboxd cannot be reached");
		return;
	}
	call = calloc(1, sizeof *call);
	must(call != NULL);
	*call = (struct call){
		.correlation = c->correlation, .deadline_ms = deadline_ms, .replied = replied, .arg = arg};
	must(map_insert(&c->calls, &call->node, map_hash_u64(call->correlation)) == 0);
	if (deadline_ms != 0 && !loop_timer_armed(&c->deadlines))
		loop_timer_set(c->o.loop, &c->deadlines, 1000);
}

void sandboxd_client_call(struct sandboxd_client *c, uint8_t type, const void *body, int fd,
			  uint64_t deadline_ms, sandboxd_replied *replied, void *arg)
{
	if (!c->ready)
		refuse(c, replied, arg, -ENOTCONN, "sandboxd is not running");
	else
		send_call(c, type, body, fd, deadline_ms, replied, arg);
}

bool sandboxd_client_ready(const struct sandboxd_client *c)
{
	return c->ready;
}

/* -- What comes back ---------------------------------------------------------------------------------------- */

static void on_listed(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	struct sandboxd_client *c = arg;

	if (fd >= 0)
		close(fd);
	if (reply->code == 0)
		c->o.listed(context, reply->sandboxes, reply->n_sandboxes);
}

void sandboxd_client_list(struct sandboxd_client *c)
{
	if (c->ready)
		send_call(c, SANDBOXD_LIST, NULL, -1, 0, on_listed, c);
}

static void on_hello(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	struct sandboxd_client *c = arg;

	(void)context;
	if (fd >= 0)
		close(fd);
	if (reply->code == -ECONNRESET)
		return;
	if (reply->code < 0) {
		log_error("sandboxd refused this node: %.*s", STR_ARGS(reply->message));
		channel_close(c->channel);
		return;
	}
	c->ready = true;
	if (c->o.able != NULL)
		c->o.able(c->o.context, &(struct sandboxd_able){reply->isolations, reply->no_vm});
	sandboxd_client_list(c);
}

static void take_reply(struct sandboxd_client *c, uint64_t correlation, struct str body, struct arena *arena,
		       int fd)
{
	struct map_node *node = map_find(&c->calls, map_hash_u64(correlation), match_call, &correlation);
	struct sandboxd_reply reply;
	struct err err = {0};

	if (codec_decode(body.p, body.n, &sandboxd_reply_codec, arena, &reply, &err) < 0) {
		log_error("sandboxd: %s", err.message);
		channel_close(c->channel);
	} else if (node != NULL) {
		finish(c, container_of(node, struct call, node), &reply, fd);
		return;
	}
	if (fd >= 0)
		close(fd);
}

static void on_message(struct channel *channel, void *arg, const void *p, size_t n, const int *fds,
		       size_t n_fds)
{
	struct sandboxd_client *c = arg;
	CLEANUP_ARENA struct arena arena = {0};
	struct sandboxd_message message;
	struct sandboxd_exited exited;
	struct sandboxd_network network;
	struct sandboxd_able able;
	struct err err = {0};

	for (size_t i = 1; i < n_fds; i++)
		close(fds[i]);
	int fd = n_fds > 0 ? fds[0] : -1;

	if (codec_decode(p, n, &sandboxd_message_codec, &arena, &message, &err) < 0) {
		log_error("sandboxd: %s", err.message);
		channel_close(channel);
	} else if (message.type == SANDBOXD_REPLY) {
		take_reply(c, message.correlation, message.body, &arena, fd);
		return;
	} else if (message.type == SANDBOXD_EXITED &&
		   codec_decode(message.body.p, message.body.n, &sandboxd_exited_codec, &arena, &exited,
				&err) == 0) {
		c->o.exited(c->o.context, &exited);
	} else if (message.type == SANDBOXD_NETWORK &&
		   codec_decode(message.body.p, message.body.n, &sandboxd_network_codec, &arena, &network,
				&err) == 0) {
		if (c->o.network != NULL)
			c->o.network(c->o.context, &network);
	} else if (message.type == SANDBOXD_ABLE &&
		   codec_decode(message.body.p, message.body.n, &sandboxd_able_codec, &arena, &able, &err) ==
			   0) {
		if (c->o.able != NULL)
			c->o.able(c->o.context, &able);
	}
	if (fd >= 0)
		close(fd);
}

static void fail_all(struct sandboxd_client *c)
{
	struct sandboxd_reply reply = {.code = -ECONNRESET, .message = STR("sandboxd ended during the call")};
	struct map_node *node;

	while ((node = map_next(&c->calls, NULL)) != NULL)
		finish(c, container_of(node, struct call, node), &reply, -1);
}

static void on_closed(struct channel *channel, void *arg, int error)
{
	struct sandboxd_client *c = arg;

	(void)channel;
	(void)error;
	c->channel = NULL;
	bool was_ready = c->ready;

	c->ready = false;
	fail_all(c);
	if (c->closing) {
		map_done(&c->calls);
		free(c);
		return;
	}
	if (was_ready) {
		log_warn("the connection to sandboxd is lost; sandboxes go on");
		c->o.lost(c->o.context);
	}
	loop_timer_set(c->o.loop, &c->retry, RETRY_MS);
}

static const struct channel_ops ops = {.on_message = on_message, .on_closed = on_closed};

static void connect_now(struct sandboxd_client *c)
{
	struct err err = {0};
	struct sandboxd_hello hello = {
		.protocol = SANDBOXD_PROTOCOL, .cluster = c->o.cluster, .node = c->o.node};

	if (channel_connect(c->o.loop, c->path, 0, &ops, c, &c->channel, &err) < 0) {
		if (!c->complained)
			log_warn("sandboxd: %s; trying again", err.message);
		c->complained = true;
		loop_timer_set(c->o.loop, &c->retry, RETRY_MS);
		return;
	}
	c->complained = false;
	send_call(c, SANDBOXD_HELLO, &hello, -1, 0, on_hello, c);
}

static void on_retry(struct loop_timer *timer)
{
	connect_now(container_of(timer, struct sandboxd_client, retry));
}

/* The first call that is overdue; *ret_more: others have a deadline ahead. */
static struct call *overdue(const struct sandboxd_client *c, bool *ret_more)
{
	*ret_more = false;
	for (struct map_node *node = map_next(&c->calls, NULL); node != NULL;
	     node = map_next(&c->calls, node)) {
		struct call *call = container_of(node, struct call, node);

		if (call->deadline_ms != 0 && call->deadline_ms <= loop_now(c->o.loop))
			return call;
		*ret_more |= call->deadline_ms != 0;
	}
	return NULL;
}

static void on_deadlines(struct loop_timer *timer)
{
	struct sandboxd_client *c = container_of(timer, struct sandboxd_client, deadlines);
	struct sandboxd_reply reply = {.code = -ETIMEDOUT, .message = STR("sandboxd did not answer in time")};
	struct call *call;
	bool more;

	/* From the beginning each time: an answer may lead to new calls. */
	while ((call = overdue(c, &more)) != NULL)
		finish(c, call, &reply, -1);
	if (more)
		loop_timer_set(c->o.loop, &c->deadlines, 1000);
}

struct sandboxd_client *sandboxd_client_new(const struct sandboxd_client_options *options)
{
	struct sandboxd_client *c = calloc(1, sizeof *c);

	must(c != NULL);
	c->o = *options;
	must(str_copy(options->socket, c->path, sizeof c->path) == 0);
	c->retry.fire = on_retry;
	c->deadlines.fire = on_deadlines;
	connect_now(c);
	return c;
}

void sandboxd_client_close(struct sandboxd_client *c)
{
	c->closing = true;
	loop_timer_clear(c->o.loop, &c->retry);
	loop_timer_clear(c->o.loop, &c->deadlines);
	if (c->channel != NULL) {
		channel_close(c->channel);
		return;
	}
	map_done(&c->calls);
	free(c);
}
