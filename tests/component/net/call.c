#include "call.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "stage.h"

void call_send(struct guest *g, struct call *c, uint8_t flags, const char *text)
{
	struct guest_segment t = {.flags = flags, .seq = c->seq, .ack = c->ack};

	snprintf(t.text, sizeof t.text, "%s", text);
	guest_tcp(g, &c->reply, &t);
	c->seq += (uint32_t)strlen(text) + ((flags & (TCP_SYN | TCP_FIN)) != 0);
}

bool call_connected(const struct call *c, int ms)
{
	int code = -1;
	socklen_t n = sizeof code;

	return poll(&(struct pollfd){c->fd, POLLOUT, 0}, 1, ms) == 1 &&
	       getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &code, &n) == 0 && code == 0;
}

void call_dial(struct guest *g, struct call *c)
{
	struct guest_segment syn;
	struct err err = {0};

	c->fd = -1;
	if (egress_dial(stage_egress, g->slot, 8080, &c->fd, &err) < 0)
		fail_msg("%s", err.message);
	assert_true(guest_reads_tcp(g, &syn, STAGE_HEARD_MS));
	assert_true(syn.flags == TCP_SYN && syn.from == g->gateway && syn.to == g->ip && syn.to_port == 8080);
	c->reply = guest_honest(g, syn.from, syn.from_port);
	c->reply.from_port = 8080;
	c->seq = 7000;
	c->ack = syn.seq + 1;
}

void call_make(struct guest *g, struct call *c)
{
	struct guest_segment ack;

	call_dial(g, c);
	call_send(g, c, TCP_SYN | TCP_ACK, "");
	assert_true(call_connected(c, STAGE_HEARD_MS));
	assert_true(guest_reads_tcp(g, &ack, STAGE_HEARD_MS) && ack.flags == TCP_ACK);
}

bool call_reads(const struct call *c, const char *text, int ms)
{
	char got[64] = "";

	return poll(&(struct pollfd){c->fd, POLLIN, 0}, 1, ms) == 1 &&
	       recv(c->fd, got, sizeof got - 1, 0) > 0 && strcmp(got, text) == 0;
}
