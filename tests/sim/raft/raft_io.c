/* raft_io.c -- see raft_io.h.
 *
 * Invariants: at most one write is under way; the log on the disk has no hole; what was answered is there after any crash. */
#include "sim/raft/raft_io.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "core/must.h"
#include "sim/raft/disk.h"
#include "sim/raft/server.h"

enum write_kind { WRITE_APPEND, WRITE_TRUNCATE, WRITE_SNAPSHOT };

/* Waits in io.writes, or is a snapshot of the machine's own, which is written beside the log. */
struct write {
	TAILQ_ENTRY(write) next;
	enum write_kind kind;
	struct raft_io_append *append;
	const struct raft_entry *entries;
	unsigned n;
	raft_index index; /* TRUNCATE: from there */
	struct raft_io_snapshot_put *put;
	const struct raft_snapshot *snapshot;
	unsigned trailing; /* 0: the snapshot replaces the log */
};
TAILQ_HEAD(writes, write);

/* What ends by itself after a while: sends, reads of the snapshot, work. */
struct call {
	TAILQ_ENTRY(call) next;
	struct raft_io_send *send;
	struct raft_io_snapshot_get *get;
	struct raft_io_async_work *work;
	int status;
};
TAILQ_HEAD(calls, call);

struct sim_io {
	struct sim_node *node;
	struct raft_io *io;
	unsigned tick_ms;
	raft_io_tick_cb tick;
	raft_io_recv_cb receive;
	struct writes writes;
	bool writing, dead; /* dead: ends at once, and nothing of it reaches disk or network any more */
	struct write *beside;
	struct calls calls, sent; /* sent: told at the end of the turn */
};

static struct sim_io *io_of(struct raft_io *io)
{
	return io->impl;
}

/* -- Writes ------------------------------------------------------------------------------------------------------- */

static void make(struct sim_disk *d, const struct write *w)
{
	if (w->kind == WRITE_APPEND)
		disk_append(d, w->entries, w->n);
	else if (w->kind == WRITE_TRUNCATE)
		disk_truncate(d, w->index);
	else
		disk_snapshot(d, w->snapshot, w->trailing);
}

static uint64_t disk_ms(struct sim_io *io)
{
	return sim_draw(io->node->sim, (uint32_t)io->node->disk_ms_max + 1);
}

static void write_next(struct sim_io *io);

/* Tells the library; it may ask for more meanwhile. */
static void answer(struct write *w, int status)
{
	if (w->append != NULL)
		w->append->cb(w->append, status);
	else if (w->put != NULL)
		w->put->cb(w->put, status);
	free(w);
}

static void written(struct sim *s, struct sim_event *e)
{
	struct sim_io *io = sim_node(s, e->node)->io;
	struct write *w = TAILQ_FIRST(&io->writes);

	/* The guard would end the program: a daemon of the simulator is ended from outside. */
	if (w->kind == WRITE_APPEND && sim_meets(s, s->faults.full_disks, FAULT_DISK_FULL)) {
		node_kill(io->node);
		return;
	}
	TAILQ_REMOVE(&io->writes, w, next);
	io->writing = false;
	make(io->node->disk, w);
	write_next(io);
	answer(w, 0);
}

static void write_next(struct sim_io *io)
{
	if (io->writing || io->dead || TAILQ_EMPTY(&io->writes))
		return;
	io->writing = true;
	sim_after_on(io->node, disk_ms(io), written);
}

static void written_beside(struct sim *s, struct sim_event *e)
{
	struct sim_io *io = sim_node(s, e->node)->io;
	struct write *w = io->beside;

	io->beside = NULL;
	make(io->node->disk, w);
	answer(w, 0);
}

static struct write *write_new(struct sim_io *io, enum write_kind kind)
{
	struct write *w = calloc(1, sizeof *w);

	must(w != NULL);
	w->kind = kind;
	TAILQ_INSERT_TAIL(&io->writes, w, next);
	return w;
}

static int io_append(struct raft_io *raft_io, struct raft_io_append *request,
		     const struct raft_entry *entries, unsigned n, raft_io_append_cb done)
{
	struct sim_io *io = io_of(raft_io);
	struct write *w = write_new(io, WRITE_APPEND);

	request->cb = done;
	w->append = request;
	w->entries = entries;
	w->n = n;
	write_next(io);
	return 0;
}

static int io_truncate(struct raft_io *raft_io, raft_index index)
{
	struct sim_io *io = io_of(raft_io);

	write_new(io, WRITE_TRUNCATE)->index = index;
	write_next(io);
	return 0;
}

static int io_snapshot_put(struct raft_io *raft_io, unsigned trailing, struct raft_io_snapshot_put *request,
			   const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb done)
{
	struct sim_io *io = io_of(raft_io);
	struct write *w = write_new(io, WRITE_SNAPSHOT);
	struct sim *s = io->node->sim;

	request->cb = done;
	w->put = request;
	w->snapshot = snapshot;
	w->trailing = trailing;
	s->counts[trailing == 0 ? FAULT_INSTALL : FAULT_SNAPSHOT]++;
	if (trailing == 0) {
		write_next(io);
		return 0;
	}
	must(io->beside == NULL);
	TAILQ_REMOVE(&io->writes, w, next);
	io->beside = w;
	sim_after_on(io->node, 1 + 5 * disk_ms(io), written_beside);
	return 0;
}

static void end(struct sim *s, struct sim_event *e)
{
	sim_restart(s, sim_node(s, e->node));
}

/* A term or vote that cannot be written ends the daemon there and then. (Told of it, libraft 0.15.0 frees what is not memory
 * and crashes: electionStart's failure leaves a candidate's fields under a follower's name.) */
static bool cannot_write(struct sim_io *io)
{
	if (!io->dead && sim_meets(io->node->sim, io->node->sim->faults.metadata, FAULT_METADATA)) {
		io->dead = true;
		sim_after_on(io->node, 0, end);
	}
	return io->dead;
}

static int io_set_term(struct raft_io *raft_io, raft_term term)
{
	struct sim_node *n = io_of(raft_io)->node;

	if (cannot_write(n->io))
		return 0;
	n->disk->term = term;
	n->disk->vote = 0;
	return 0;
}

static int io_set_vote(struct raft_io *raft_io, raft_id id)
{
	struct sim_node *n = io_of(raft_io)->node;

	if (!cannot_write(n->io))
		n->disk->vote = id;
	return 0;
}

/* -- Start -------------------------------------------------------------------------------------------------------- */

static int io_init(struct raft_io *raft_io, raft_id id, const char *address)
{
	(void)raft_io;
	(void)id;
	(void)address;
	return 0;
}

static int io_load(struct raft_io *raft_io, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot,
		   raft_index *start_index, struct raft_entry **entries, size_t *n)
{
	struct sim_disk *d = io_of(raft_io)->node->disk;

	*term = d->term;
	*vote = d->vote;
	*snapshot = disk_load_snapshot(d);
	*start_index = d->first;
	*entries = disk_copy_batch(d->entries, d->n);
	*n = d->n;
	return 0;
}

static int io_bootstrap(struct raft_io *raft_io, const struct raft_configuration *configuration)
{
	struct sim_disk *d = io_of(raft_io)->node->disk;
	struct raft_entry e = {.term = 1, .type = RAFT_CHANGE};

	if (d->term != 0)
		return RAFT_CANTBOOTSTRAP;
	must(raft_configuration_encode(configuration, &e.buf) == 0);
	disk_append(d, &e, 1);
	raft_free(e.buf.base);
	d->term = 1;
	return 0;
}

static int io_start(struct raft_io *raft_io, unsigned ms, raft_io_tick_cb tick, raft_io_recv_cb receive)
{
	struct sim_io *io = io_of(raft_io);
	struct sim_node *n = io->node;

	io->tick_ms = ms;
	io->tick = tick;
	io->receive = receive;
	heap_set(&n->sim->events, &n->raft_tick, sim_at_boot(n, sim_boot_ms(n) + ms));
	return 0;
}

void sim_io_tick(struct sim_node *n)
{
	heap_set(&n->sim->events, &n->raft_tick, sim_at_boot(n, sim_boot_ms(n) + n->io->tick_ms));
	n->io->tick(n->io->io);
}

static raft_time io_time(struct raft_io *raft_io)
{
	return sim_boot_ms(io_of(raft_io)->node);
}

static int io_random(struct raft_io *raft_io, int min, int max)
{
	return min + (int)sim_draw(io_of(raft_io)->node->sim, (uint32_t)(max - min + 1));
}

/* -- What ends by itself ------------------------------------------------------------------------------------------- */

static void call_done(struct sim_io *io, struct call *call, int status)
{
	TAILQ_REMOVE(&io->calls, call, next);
	if (call->get != NULL)
		call->get->cb(call->get, status == 0 ? disk_load_snapshot(io->node->disk) : NULL, status);
	else
		call->work->cb(call->work, status == 0 ? call->work->work(call->work) : status);
	free(call);
}

/* `cancelled`: what all are told. */
static void tell_sent(struct sim_io *io, int cancelled)
{
	struct call *call;

	while ((call = TAILQ_FIRST(&io->sent)) != NULL) {
		TAILQ_REMOVE(&io->sent, call, next);
		if (call->send->cb != NULL)
			call->send->cb(call->send, cancelled != 0 ? cancelled : call->status);
		free(call);
	}
}

void sim_io_turn(struct sim_node *n)
{
	tell_sent(n->io, 0);
}

static void on_call(struct sim *s, struct sim_event *e)
{
	struct call *call = e->arg;

	call_done(sim_node(s, e->node)->io, call, 0);
}

static struct call *call_new(struct sim_io *io, uint64_t delay_ms)
{
	struct call *call = calloc(1, sizeof *call);

	must(call != NULL);
	TAILQ_INSERT_TAIL(&io->calls, call, next);
	sim_after_on(io->node, delay_ms, on_call)->arg = call;
	return call;
}

static int io_snapshot_get(struct raft_io *raft_io, struct raft_io_snapshot_get *request,
			   raft_io_snapshot_get_cb done)
{
	struct sim_io *io = io_of(raft_io);

	request->cb = done;
	call_new(io, disk_ms(io))->get = request;
	return 0;
}

static int io_async_work(struct raft_io *raft_io, struct raft_io_async_work *request,
			 raft_io_async_work_cb done)
{
	struct sim_io *io = io_of(raft_io);

	request->cb = done;
	call_new(io, 1 + disk_ms(io))->work = request;
	return 0;
}

/* -- Messages ----------------------------------------------------------------------------------------------------- */

static void message_free(struct raft_message *m)
{
	if (m->type == RAFT_IO_APPEND_ENTRIES && m->append_entries.n_entries > 0) {
		raft_free(m->append_entries.entries[0].batch);
		raft_free(m->append_entries.entries);
	} else if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
		raft_configuration_close(&m->install_snapshot.conf);
		raft_free(m->install_snapshot.data.base);
	}
}

static void lost(struct sim *s, struct sim_event *e)
{
	(void)s;
	message_free(e->arg);
	free(e->arg);
}

static void arrived(struct sim *s, struct sim_event *e)
{
	struct sim_node *n = sim_node(s, e->node);
	struct raft_message *m = e->arg;

	n->io->receive(n->io->io, m);
	free(m);
}

static int io_send(struct raft_io *raft_io, struct raft_io_send *request, const struct raft_message *m,
		   raft_io_send_cb done)
{
	struct sim_io *io = io_of(raft_io);
	struct sim_node *from = io->node, *to;
	uint64_t delay_ms;
	struct raft_message *copy;
	struct sim_event *e;

	/* raft_uv ends the program then. */
	if (m->server_id == 0)
		sim_fail(from->sim,
			 "(5) node %llu answers a leader of an earlier term, for entries that this one never "
			 "sent",
			 (unsigned long long)from->id);
	to = sim_node(from->sim, m->server_id);
	request->cb = done;
	struct call *call = calloc(1, sizeof *call);

	must(call != NULL);
	call->send = request;
	TAILQ_INSERT_TAIL(&io->sent, call, next);
	if (!to->up || !wire_is_open(from->sim, from->id, to->id))
		call->status = RAFT_NOCONNECTION;
	if (call->status != 0 || io->dead || !wire_passes(from->sim, from->id, to->id, &delay_ms))
		return 0;
	copy = malloc(sizeof *copy);
	must(copy != NULL);
	*copy = *m;
	copy->server_id = from->id;
	copy->server_address = server_address(from->id);
	if (m->type == RAFT_IO_APPEND_ENTRIES) {
		copy->append_entries.entries =
			disk_copy_batch(m->append_entries.entries, m->append_entries.n_entries);
	} else if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
		disk_copy_configuration(&m->install_snapshot.conf, &copy->install_snapshot.conf);
		copy->install_snapshot.data = disk_copy_buffer(&m->install_snapshot.data, 1);
	}
	e = sim_after_on(to, delay_ms, arrived);
	e->number = m->type;
	e->arg = copy;
	e->drop = lost;
	return 0;
}

/* -- The end ------------------------------------------------------------------------------------------------------ */

/* The write under way: all, some or nothing of it is on the disk. The others had not begun. */
void sim_io_crash(struct sim_node *n)
{
	struct sim_io *io = n->io;
	struct write *w = TAILQ_FIRST(&io->writes);
	uint32_t what = sim_draw(n->sim, 3);

	if (w == NULL || !io->writing)
		return;
	if (what == 0) {
		make(n->disk, w);
	} else if (what == 1 && w->kind == WRITE_APPEND) {
		disk_append(n->disk, w->entries, sim_draw(n->sim, w->n));
		n->sim->counts[FAULT_TORN]++;
	} else {
		n->sim->counts[FAULT_UNWRITTEN]++;
	}
}

/* Behind a crash the library is told whatever lets it free its memory; it hears nothing more. */
static void io_close(struct raft_io *raft_io, raft_io_close_cb closed)
{
	struct sim_io *io = io_of(raft_io);
	struct write *w;

	while ((w = TAILQ_FIRST(&io->writes)) != NULL) {
		TAILQ_REMOVE(&io->writes, w, next);
		answer(w, w->kind == WRITE_APPEND ? 0 : RAFT_CANCELED);
	}
	if (io->beside != NULL)
		answer(io->beside, RAFT_CANCELED);
	io->beside = NULL;
	tell_sent(io, RAFT_CANCELED);
	while (!TAILQ_EMPTY(&io->calls))
		call_done(io, TAILQ_FIRST(&io->calls), RAFT_CANCELED);
	closed(raft_io);
}

void sim_io_open(struct sim_node *n, struct raft_io *io)
{
	n->io = calloc(1, sizeof *n->io);
	must(n->io != NULL);
	n->io->node = n;
	n->io->io = io;
	TAILQ_INIT(&n->io->writes);
	TAILQ_INIT(&n->io->calls);
	TAILQ_INIT(&n->io->sent);
	*io = (struct raft_io){.version = 2,
			       .impl = n->io,
			       .init = io_init,
			       .close = io_close,
			       .load = io_load,
			       .start = io_start,
			       .bootstrap = io_bootstrap,
			       .set_term = io_set_term,
			       .set_vote = io_set_vote,
			       .send = io_send,
			       .append = io_append,
			       .truncate = io_truncate,
			       .snapshot_put = io_snapshot_put,
			       .snapshot_get = io_snapshot_get,
			       .time = io_time,
			       .random = io_random,
			       .async_work = io_async_work};
}

void sim_io_free(struct sim_node *n)
{
	free(n->io);
	n->io = NULL;
}
