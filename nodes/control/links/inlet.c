#include "control/links/inlet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/api/api.h"
#include "control/links/admit.h"
#include "control/replica.h"
#include "core/clock.h"
#include "core/must.h"
#include "crypto/digest.h"
#include "records/events.h"

#define CAPACITY    65536
#define WAITING_MAX 4096

enum note_kind { NOTE_ADMIT, NOTE_API, NOTE_GONE, NOTE_TAKEN };

/* Posted as a pointer; an envelope is posted as bytes. */
struct note {
	struct note *next; /* in the list of questions that wait */
	enum note_kind kind;
	struct gateway_admit admit;
	struct gateway_api_request *request;
	uint64_t id;
};

/* -- On the gateway's threads ------------------------------------------------------------------------------- */

static int post_note(struct control *c, const struct note *from)
{
	struct note *note = malloc(sizeof *note);
	int r;

	must(note != NULL);
	*note = *from;
	r = mailbox_post_pointer(c->mailbox, note);
	if (r < 0)
		free(note);
	return r;
}

static int on_post(void *arg, const void *envelope, size_t n)
{
	struct control *c = arg;

	return mailbox_post(c->mailbox, envelope, n);
}

static int on_admit(void *arg, const struct gateway_admit *admit)
{
	return post_note(arg, &(struct note){.kind = NOTE_ADMIT, .admit = *admit});
}

static int on_api(void *arg, struct gateway_api_request *request)
{
	return post_note(arg, &(struct note){.kind = NOTE_API, .request = request});
}

static void on_api_gone(void *arg, uint64_t id)
{
	post_note(arg, &(struct note){.kind = NOTE_GONE, .id = id});
}

static void on_api_taken(void *arg, uint64_t id)
{
	post_note(arg, &(struct note){.kind = NOTE_TAKEN, .id = id});
}

static void on_event(void *arg, const struct gateway_event *seen)
{
	static const enum event_kind kinds[] = {[GATEWAY_OPENED] = EVENT_OPENED,
						[GATEWAY_CONNECTED] = EVENT_CONNECTED,
						[GATEWAY_DEAD] = EVENT_DEAD};
	struct control *c = arg;
	struct event event = {.pool = seen->pool, .sandbox = seen->sandbox, .generation = seen->generation};

	if (seen->identifier.n > 0)
		crypto_identifier_tag(c->tag_key, seen->identifier, event.identifier_tag);
	events_write(c->events, kinds[seen->kind], &event);
}

void inlet_fill(struct control *c, struct gateway_config *g)
{
	g->post = on_post;
	g->admit = on_admit;
	g->api = on_api;
	g->api_gone = on_api_gone;
	g->api_taken = on_api_taken;
	g->event = on_event;
	g->arg = c;
}

/* -- On the control loop ------------------------------------------------------------------------------------- */

/* True when it was answered. */
static bool answer_admit(struct control *c, const struct gateway_admit *a, uint64_t now)
{
	int code;

	if (replica_applied(c) < a->index) {
		if (now < a->deadline_ms)
			return false;
		code = -EAGAIN;
	} else if (!c->allowed) {
		code = -EAGAIN;
	} else {
		code = admit_vouches(c->state, c->config.node_id, a->pool, a->generation, a->sandbox)
			       ? 0
			       : -ESTALE;
	}
	gateway_admitted(c->gateway, a->loop, a->correlation, code);
	return true;
}

void inlet_applied(struct control *c)
{
	uint64_t now = c->questions == NULL ? 0 : clock_boot_ms();

	for (struct note **at = &c->questions; *at != NULL;) {
		struct note *note = *at;

		if (!answer_admit(c, &note->admit, now)) {
			at = &note->next;
			continue;
		}
		*at = note->next;
		c->n_questions--;
		free(note);
	}
}

static void take_note(struct control *c, struct note *note)
{
	switch (note->kind) {
	case NOTE_ADMIT:
		if (answer_admit(c, &note->admit, clock_boot_ms()))
			break;
		if (c->n_questions == WAITING_MAX) {
			gateway_admitted(c->gateway, note->admit.loop, note->admit.correlation, -EAGAIN);
			break;
		}
		note->next = c->questions;
		c->questions = note;
		c->n_questions++;
		return;
	case NOTE_API:
		api_request(c->api, note->request);
		break;
	case NOTE_GONE:
		api_gone(c->api, note->id);
		break;
	case NOTE_TAKEN:
		api_taken(c->api, note->id);
		break;
	}
	free(note);
}

static void on_mail(void *arg, void *p, size_t n)
{
	struct control *c = arg;
	CLEANUP_ARENA struct arena arena = {0};
	struct envelope e;

	if (n == 0) {
		take_note(c, p);
		return;
	}
	if (codec_decode(p, n, &envelope_codec, &arena, &e, NULL) < 0)
		return;
	if (e.to.node == c->config.node_id)
		control_deliver(c, &e);
	else
		control_send(c, &e);
}

int inlet_open(struct control *c, struct err *err)
{
	return mailbox_new(&c->loop, CAPACITY, on_mail, free, c, &c->mailbox, err);
}

void inlet_proposed(void *control, int status, uint64_t index)
{
	(void)index;
	(void)status; /* what was lost is sent again by the proposer */
	control_kick(control);
}
