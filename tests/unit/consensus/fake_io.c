/* fake_io.c -- see fake_io.h. */
#include "fake_io.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/map.h"

static const char *const addresses[] = {"", "1", "2", "3", "4"};

static struct fake *fake_of(struct raft_io *io)
{
	return container_of(io, struct fake, io);
}

static void configuration(struct raft_configuration *c, raft_id n)
{
	raft_configuration_init(c);
	for (raft_id id = 1; id <= n; id++)
		assert_int_equal(raft_configuration_add(c, id, addresses[id], RAFT_VOTER), 0);
}

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
	(void)io;
	(void)id;
	(void)address;
	return 0;
}

static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
	struct fake *f = fake_of(io);
	for (unsigned i = 0; i < f->n_writes; i++)
		f->writes[i].done(f->writes[i].request, RAFT_CANCELED);
	for (unsigned i = 0; i < f->n_sends; i++)
		if (f->send_done[i] != NULL)
			f->send_done[i](f->sends[i], RAFT_CANCELED);
	if (f->put != NULL)
		f->put->cb(f->put, RAFT_CANCELED);
	for (unsigned i = 0; i < f->n_gets; i++)
		f->gets[i]->cb(f->gets[i], NULL, RAFT_CANCELED);
	cb(io);
}

static struct raft_snapshot *loaded_snapshot(const struct fake *f)
{
	struct raft_snapshot *s = raft_calloc(1, sizeof *s);
	s->index = f->snapshot_index;
	s->term = 1;
	configuration(&s->configuration, 3);
	s->configuration_index = 1;
	s->bufs = raft_calloc(1, sizeof *s->bufs);
	s->bufs[0] = (struct raft_buffer){raft_calloc(1, 8), 8};
	s->n_bufs = 1;
	return s;
}

static int io_load(struct raft_io *io, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot,
		   raft_index *start_index, struct raft_entry **entries, size_t *n)
{
	struct fake *f = fake_of(io);
	struct raft_configuration c;
	*term = f->term;
	*vote = 0;
	*snapshot = f->snapshot_index != 0 ? loaded_snapshot(f) : NULL;
	*start_index = f->snapshot_index + 1;
	*n = f->n_terms + (f->snapshot_index == 0);
	*entries = raft_calloc(*n + 1, sizeof **entries);
	struct raft_entry *e = *entries;
	if (f->snapshot_index == 0) {
		e->term = 1;
		e->type = RAFT_CHANGE;
		configuration(&c, 3);
		assert_int_equal(raft_configuration_encode(&c, &e->buf), 0);
		raft_configuration_close(&c);
		e++;
	}
	for (unsigned i = 0; i < f->n_terms; i++, e++)
		*e = (struct raft_entry){f->terms[i], RAFT_COMMAND, {raft_calloc(1, 8), 8}, NULL};
	if (f->n_changed > 0) {
		e--;
		raft_free(e->buf.base);
		e->type = RAFT_CHANGE;
		configuration(&c, f->n_changed);
		assert_int_equal(raft_configuration_encode(&c, &e->buf), 0);
		raft_configuration_close(&c);
	}
	return 0;
}

static int io_start(struct raft_io *io, unsigned ms, raft_io_tick_cb tick, raft_io_recv_cb receive)
{
	struct fake *f = fake_of(io);
	(void)ms;
	f->tick = tick;
	f->receive = receive;
	return 0;
}

static int io_set_term(struct raft_io *io, raft_term term)
{
	(void)io;
	(void)term;
	return 0;
}

static int io_set_vote(struct raft_io *io, raft_id id)
{
	(void)io;
	(void)id;
	return 0;
}

static int io_send(struct raft_io *io, struct raft_io_send *request, const struct raft_message *m,
		   raft_io_send_cb done)
{
	struct fake *f = fake_of(io);
	assert_true(f->n_sends < FAKE_SENDS);
	f->sends[f->n_sends] = request;
	f->send_done[f->n_sends++] = done;
	if (m->type == RAFT_IO_APPEND_ENTRIES) {
		f->entries = m->append_entries;
		f->entries_to = m->server_id;
	}
	if (m->type == RAFT_IO_REQUEST_VOTE_RESULT)
		f->vote = m->request_vote_result;
	if (m->type == RAFT_IO_APPEND_ENTRIES_RESULT) {
		f->results++;
		f->result = m->append_entries_result;
		f->result_to = m->server_id;
	}
	return 0;
}

static int io_append(struct raft_io *io, struct raft_io_append *request, const struct raft_entry *entries,
		     unsigned n, raft_io_append_cb done)
{
	struct fake *f = fake_of(io);
	(void)entries;
	(void)n;
	assert_true(f->n_writes < FAKE_WRITES);
	f->writes[f->n_writes++] = (struct fake_write){request, done};
	return 0;
}

static int io_truncate(struct raft_io *io, raft_index index)
{
	(void)index;
	fake_of(io)->truncations++;
	return 0;
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *request,
			   const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb done)
{
	struct fake *f = fake_of(io);
	(void)trailing;
	(void)snapshot;
	f->put = request;
	f->put->cb = done;
	return 0;
}

/* Ends when it is closed. */
static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *request,
			   raft_io_snapshot_get_cb done)
{
	struct fake *f = fake_of(io);
	assert_true(f->n_gets < 4);
	request->cb = done;
	f->gets[f->n_gets++] = request;
	return 0;
}

static raft_time io_time(struct raft_io *io)
{
	return fake_of(io)->time;
}

static int io_random(struct raft_io *io, int min, int max)
{
	(void)io;
	(void)max;
	return min;
}

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buffer, void **result)
{
	(void)fsm;
	(void)buffer;
	*result = NULL;
	return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer **buffers, unsigned *n)
{
	(void)fsm;
	(void)buffers;
	(void)n;
	return RAFT_BUSY;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buffer)
{
	(void)fsm;
	raft_free(buffer->base);
	return 0;
}

static void on_settled(void *arg)
{
	((struct fake *)arg)->settled++;
}

void fake_start_changed(struct fake *f, raft_term term, raft_index index, const raft_term *terms,
			unsigned n_terms, unsigned n_changed, uint32_t off)
{
	struct err err = {0};
	memset(f, 0, sizeof *f);
	f->term = term;
	f->snapshot_index = index;
	f->n_terms = n_terms;
	f->n_changed = n_changed;
	for (unsigned i = 0; i < n_terms; i++)
		f->terms[i] = terms[i];
	f->io = (struct raft_io){.version = 1,
				 .init = io_init,
				 .close = io_close,
				 .load = io_load,
				 .start = io_start,
				 .set_term = io_set_term,
				 .set_vote = io_set_vote,
				 .send = io_send,
				 .append = io_append,
				 .truncate = io_truncate,
				 .snapshot_put = io_snapshot_put,
				 .snapshot_get = io_snapshot_get,
				 .time = io_time,
				 .random = io_random};
	f->fsm = (struct raft_fsm){
		.version = 2, .apply = fsm_apply, .snapshot = fsm_snapshot, .restore = fsm_restore};
	assert_int_equal(raft_init(&f->raft, &f->io, &f->fsm, 1, addresses[1]), 0);
	raft_set_snapshot_trailing(&f->raft, GUARD_TRAILING_MIN);
	const struct guard_options options = {on_settled, f, off};
	assert_int_equal(guard_new(&f->raft, &options, &f->guard, &err), 0);
	assert_int_equal(raft_start(&f->raft), 0);
}

void fake_start_compacted(struct fake *f, raft_term term, raft_index index, const raft_term *terms,
			  unsigned n_terms, uint32_t off)
{
	fake_start_changed(f, term, index, terms, n_terms, 0, off);
}

void fake_start(struct fake *f, raft_term term, const raft_term *terms, unsigned n_terms, uint32_t off)
{
	fake_start_compacted(f, term, 0, terms, n_terms, off);
}

void fake_stop(struct fake *f)
{
	raft_close(&f->raft, NULL);
	guard_free(f->guard);
}

bool fake_survives(bool (*run)(uint32_t off), uint32_t off)
{
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGSEGV, SIG_DFL);
		signal(SIGABRT, SIG_DFL);
		close(STDERR_FILENO);
		_exit(run(off) ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void fake_tick(struct fake *f, unsigned ms)
{
	f->time += ms;
	f->tick(&f->io);
}

void fake_elect(struct fake *f)
{
	fake_tick(f, 3000);
	assert_int_equal(raft_state(&f->raft), RAFT_CANDIDATE);
	struct raft_message m = {.type = RAFT_IO_REQUEST_VOTE_RESULT, .server_id = 2, .server_address = "2"};
	m.request_vote_result =
		(struct raft_request_vote_result){f->raft.current_term, true, raft_tribool_false};
	f->receive(&f->io, &m);
	assert_int_equal(raft_state(&f->raft), RAFT_LEADER);
}

void fake_written(struct fake *f, int status)
{
	assert_true(f->n_writes > 0);
	struct fake_write w = f->writes[0];
	memmove(f->writes, f->writes + 1, --f->n_writes * sizeof *f->writes);
	w.done(w.request, status);
}

void fake_snapshot_stored(struct fake *f)
{
	struct raft_io_snapshot_put *put = f->put;
	f->put = NULL;
	put->cb(put, 0);
}

static void on_applied(struct raft_apply *request, int status, void *result)
{
	(void)status;
	(void)result;
	free(request);
}

void fake_propose(struct fake *f)
{
	struct raft_apply *request = malloc(sizeof *request);
	struct raft_buffer buffer = {raft_calloc(1, 8), 8};
	assert_int_equal(raft_apply(&f->raft, request, &buffer, 1, on_applied), 0);
}

void fake_hear_entries(struct fake *f, raft_id from, raft_term term, raft_index prev, raft_term prev_term,
		       unsigned n, raft_term entry_term, raft_index commit)
{
	struct raft_message m = {
		.type = RAFT_IO_APPEND_ENTRIES, .server_id = from, .server_address = addresses[from]};
	struct raft_append_entries *a = &m.append_entries;
	*a = (struct raft_append_entries){term, prev, prev_term, commit, NULL, n};
	if (n > 0) {
		char *batch = raft_calloc(n, 8);
		a->entries = raft_calloc(n, sizeof *a->entries);
		for (unsigned i = 0; i < n; i++)
			a->entries[i] =
				(struct raft_entry){entry_term, RAFT_COMMAND, {batch + i * 8, 8}, batch};
	}
	f->receive(&f->io, &m);
}

void fake_hear_change(struct fake *f, raft_id from, raft_term term, raft_index prev, raft_term prev_term,
		      unsigned n)
{
	struct raft_configuration c;
	struct raft_message m = {
		.type = RAFT_IO_APPEND_ENTRIES, .server_id = from, .server_address = addresses[from]};
	struct raft_append_entries *a = &m.append_entries;
	*a = (struct raft_append_entries){term, prev, prev_term, 1, raft_calloc(1, sizeof *a->entries), 1};
	configuration(&c, n);
	assert_int_equal(raft_configuration_encode(&c, &a->entries[0].buf), 0);
	raft_configuration_close(&c);
	a->entries[0].term = term;
	a->entries[0].type = RAFT_CHANGE;
	a->entries[0].batch = a->entries[0].buf.base;
	f->receive(&f->io, &m);
}

void fake_hear_request_vote(struct fake *f, raft_id from, raft_term term, raft_index last,
			    raft_term last_term, bool disrupt)
{
	struct raft_message m = {
		.type = RAFT_IO_REQUEST_VOTE, .server_id = from, .server_address = addresses[from]};
	m.request_vote = (struct raft_request_vote){term, from, last, last_term, disrupt, false};
	f->receive(&f->io, &m);
}

void fake_hear_result(struct fake *f, raft_id from, raft_term term, raft_index last)
{
	struct raft_message m = {
		.type = RAFT_IO_APPEND_ENTRIES_RESULT, .server_id = from, .server_address = addresses[from]};
	m.append_entries_result = (struct raft_append_entries_result){term, 0, last};
	f->receive(&f->io, &m);
}

void fake_hear_refusal(struct fake *f, raft_id from, raft_term term, raft_index rejected, raft_index last)
{
	struct raft_message m = {
		.type = RAFT_IO_APPEND_ENTRIES_RESULT, .server_id = from, .server_address = addresses[from]};
	m.append_entries_result = (struct raft_append_entries_result){term, rejected, last};
	f->receive(&f->io, &m);
}

void fake_hear_timeout_now(struct fake *f, raft_id from, raft_term term, raft_index last, raft_term last_term)
{
	struct raft_message m = {
		.type = RAFT_IO_TIMEOUT_NOW, .server_id = from, .server_address = addresses[from]};
	m.timeout_now = (struct raft_timeout_now){term, last, last_term};
	f->receive(&f->io, &m);
}

void fake_hear_snapshot(struct fake *f, raft_id from, raft_term term, raft_index last, raft_term last_term)
{
	struct raft_message m = {
		.type = RAFT_IO_INSTALL_SNAPSHOT, .server_id = from, .server_address = addresses[from]};
	struct raft_install_snapshot *s = &m.install_snapshot;
	*s = (struct raft_install_snapshot){
		.term = term, .last_index = last, .last_term = last_term, .conf_index = 1};
	configuration(&s->conf, 3);
	s->data = (struct raft_buffer){raft_calloc(1, 8), 8};
	f->receive(&f->io, &m);
}
