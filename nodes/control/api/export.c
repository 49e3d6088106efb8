/* The closed records of an export, which may be hundreds of thousands: never all at once, and not read on this loop.
 *
 * Happy path: what arm made goes out first; then page by page: the reader's thread reads records from the disk and makes text
 * of them, this loop hands the text to the gateway, and when the client took it the next page is asked for; behind what is on disk
 * come the newest records, from the tables, in pages too.
 * Failure modes: more than EXPORTS_MAX at once are refused; a page that cannot be read, or a client that takes nothing for
 * TAKEN_MS, ends the answer so that it looks cut off. Thread: the control loop, except where said. */
#include <errno.h>
#include <stdlib.h>

#include "control/api/api.h"
#include "core/clock.h"
#include "core/must.h"
#include "records/reader.h"
#include "records/records.h"

#define EXPORTS_MAX 4
#define TAKEN_MS    60000

struct export
{
	struct reader_page page; /* the reader's while `reading` */
	struct control *control;
	struct api_call *call; /* NULL: it ended while a page was read */
	struct buf text;
	uint32_t rows; /* in the text */
	bool csv, any, reading;
	bool kept; /* all that is on disk was sent */
};

static void drop(struct export *x)
{
	x->control->n_exports--;
	buf_done(&x->text);
	free(x);
}

static void finish(struct api_call *call, bool whole)
{
	struct control *c = api_control(call->api);

	gateway_api_end(c->gateway, call->request->id, whole);
	api_drop(call);
}

/* -- On the reader's thread -------------------------------------------------------------------------------------- */

static void on_row(struct reader_page *page, const struct record_row *row)
{
	struct export *x = container_of(page, struct export, page);

	arm_export_record(&x->text, x->csv, !x->any, row);
	x->any = true;
	x->rows++;
}

static void on_page(struct reader_page *page)
{
	struct export *x = container_of(page, struct export, page);

	must(mailbox_post_pointer(x->control->pages, x) != -ENOBUFS); /* one each, at most EXPORTS_MAX */
}

/* -- On the control loop ------------------------------------------------------------------------------------------ */

static void from_tables(struct export *x)
{
	const struct state *state = x->control->state;
	struct record_row after = {.number = x->page.last};

	x->page.n = 0;
	for (const struct record_row *r = state_next_record(state, &after);
	     r != NULL && x->page.n < READER_ROWS_MAX; r = state_next_record(state, r)) {
		x->page.last = r->number;
		x->page.n++;
		if (r->ready_ms < x->page.to_ms && r->stopped_ms >= x->page.from_ms)
			on_row(&x->page, r);
	}
}

static void ask(struct export *x)
{
	x->page.after = x->page.last;
	x->reading = true;
	reader_post(x->control->reader, &x->page);
}

/* Sends what a page made. False: the call is over. */
static bool put_out(struct export *x, bool last)
{
	struct api_call *call = x->call;
	struct control *c = x->control;

	if (last)
		buf_add_str(&x->text, arm_export_end(x->csv));
	if (buf_failed(&x->text) ||
	    (x->text.n > 0 && gateway_api_chunk(c->gateway, call->request->id, buf_str(&x->text)) < 0)) {
		finish(call, false);
		return false;
	}
	c->records_exported += x->rows;
	x->rows = 0;
	call->deadline_ms = clock_boot_ms() + TAKEN_MS;
	if (last)
		finish(call, true);
	return !last;
}

/* Pages without a row of the range send nothing, so that nothing would be taken. */
static void go_on(struct export *x)
{
	bool more = true;

	buf_clear(&x->text);
	while (more && x->text.n == 0) {
		if (!x->kept) {
			ask(x);
			return;
		}
		from_tables(x);
		more = put_out(x, x->page.n < READER_ROWS_MAX);
	}
}

static void on_read(void *context, void *p, size_t n)
{
	struct export *x = p;

	(void)context;
	(void)n;
	x->reading = false;
	if (x->call == NULL) {
		drop(x);
		return;
	}
	if (x->page.code < 0) {
		finish(x->call, false);
		return;
	}
	if (x->page.n < READER_ROWS_MAX) {
		x->kept = true;
		x->page.last = x->page.up_to;
	}
	if (x->text.n == 0)
		go_on(x);
	else
		(void)put_out(x, false);
}

int exports_open(struct control *c, struct err *err)
{
	return mailbox_new(&c->loop, EXPORTS_MAX, on_read, NULL, c, &c->pages, err);
}

void export_run(struct api_call *call)
{
	const struct arm_export_ask *ask = &call->outcome.export;
	struct control *c = api_control(call->api);
	struct arm_reply reply = {0};

	if (c->n_exports == EXPORTS_MAX) {
		arm_reply_error(&reply, 503, "ServerBusy",
				"%d exports are under way on this node; no more are made at once.",
				EXPORTS_MAX);
		arm_reply_header(&reply, "retry-after", STR("5"));
		api_finish(call, &reply);
		return;
	}
	struct export *x = calloc(1, sizeof *x);

	must(x != NULL);
	*x = (struct export){.control = c,
			     .call = call,
			     .csv = ask->csv,
			     .page = {.from_ms = ask->from_ms,
				      .to_ms = ask->to_ms,
				      .up_to = records_kept(c->records),
				      .row = on_row,
				      .done = on_page}};
	c->n_exports++;
	call->export = x;
	if (!api_stream(call, x->csv ? "text/csv; charset=utf-8" : "application/json; charset=utf-8")) {
		api_drop(call);
		return;
	}
	buf_add_str(&x->text, ask->head);
	(void)put_out(x, false);
}

void export_taken(struct api_call *call)
{
	if (!call->export->reading)
		go_on(call->export);
}

void export_tick(struct api_call *call, uint64_t now)
{
	if (now >= call->deadline_ms && !call->export->reading)
		finish(call, false);
}

void export_gone(struct api_call *call)
{
	struct export *x = call->export;

	if (x->reading)
		x->call = NULL;
	else
		drop(x);
}
