/* fixture.c -- see fixture.h. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

#include "core/must.h"
#include "core/str.h"

struct fixture_proposal {
	struct raft_apply request;
	struct fixture *fixture;
	uint64_t value;
};

static struct fixture *fixture_of(struct raft_fsm *fsm, unsigned *ret_i)
{
	struct fixture *f = fsm->data;
	*ret_i = (unsigned)(fsm - f->machines);
	return f;
}

static void judge(struct fixture *f, uint64_t index, uint64_t value)
{
	must(index < FIXTURE_INDEX_MAX);
	if (f->applied[index] == 0)
		f->applied[index] = value;
	else if (f->applied[index] != value)
		f->violation = f->violation != NULL ? f->violation : "two values were applied at one index";
}

static int on_apply(struct raft_fsm *fsm, const struct raft_buffer *buffer, void **result)
{
	unsigned i;
	struct fixture *f = fixture_of(fsm, &i);
	uint64_t value;
	must(buffer->len == sizeof value);
	memcpy(&value, buffer->base, sizeof value);
	judge(f, raft_last_applied(fixture_server(f, i)) + 1, value);
	f->states[i].hash = str_hash_stable((struct str){buffer->base, buffer->len}, f->states[i].hash);
	f->states[i].applied++;
	*result = NULL;
	return 0;
}

static int on_snapshot(struct raft_fsm *fsm, struct raft_buffer *buffers[], unsigned *n)
{
	unsigned i;
	struct fixture *f = fixture_of(fsm, &i);
	*buffers = raft_malloc(sizeof **buffers);
	must(*buffers != NULL);
	(*buffers)[0] = (struct raft_buffer){raft_malloc(sizeof f->states[i]), sizeof f->states[i]};
	must((*buffers)[0].base != NULL);
	memcpy((*buffers)[0].base, &f->states[i], sizeof f->states[i]);
	*n = 1;
	return 0;
}

static int on_restore(struct raft_fsm *fsm, struct raft_buffer *buffer)
{
	unsigned i;
	struct fixture *f = fixture_of(fsm, &i);
	must(buffer->len == sizeof f->states[i]);
	memcpy(&f->states[i], buffer->base, sizeof f->states[i]);
	raft_free(buffer->base);
	return 0;
}

struct raft *fixture_server(struct fixture *f, unsigned i)
{
	return raft_fixture_get(&f->raft, i);
}

/* The library's simulated disk is never read again, and its truncation counts from entry 1 although a snapshot took the place of the
 * first ones: it copies more entries than it has, from behind them. So nothing is cut. */
static int keep_all(struct raft_io *io, raft_index index)
{
	(void)io;
	(void)index;
	return 0;
}

void fixture_init(struct fixture *f, unsigned n, uint32_t off)
{
	struct err err = {0};
	const struct guard_options options = {NULL, NULL, off};
	memset(f, 0, sizeof *f);
	f->n = n;
	must(raft_fixture_initialize(&f->raft) == 0);
	for (unsigned i = 0; i < n; i++) {
		f->machines[i] = (struct raft_fsm){.version = 2,
						   .data = f,
						   .apply = on_apply,
						   .snapshot = on_snapshot,
						   .restore = on_restore};
		must(raft_fixture_grow(&f->raft, &f->machines[i]) == 0);
		raft_set_snapshot_trailing(fixture_server(f, i), GUARD_TRAILING_MIN);
		fixture_server(f, i)->io->truncate = keep_all;
		must(guard_new(fixture_server(f, i), &options, &f->guards[i], &err) == 0);
	}
}

void fixture_start(struct fixture *f)
{
	struct raft_configuration configuration;
	raft_configuration_init(&configuration);
	must(raft_fixture_configuration(&f->raft, f->n, &configuration) == 0);
	must(raft_fixture_bootstrap(&f->raft, &configuration) == 0);
	raft_configuration_close(&configuration);
	must(raft_fixture_start(&f->raft) == 0);
}

void fixture_done(struct fixture *f)
{
	raft_fixture_close(&f->raft);
	for (unsigned i = 0; i < f->n; i++)
		guard_free(f->guards[i]);
}

static void on_proposed(struct raft_apply *request, int status, void *result)
{
	struct fixture_proposal *p = request->data;
	(void)result;
	if (status == 0)
		p->fixture->acknowledged[request->index] = p->value;
	free(p);
}

bool fixture_propose(struct fixture *f, unsigned i, uint64_t value)
{
	struct fixture_proposal *p = calloc(1, sizeof *p);
	struct raft_buffer buffer = {raft_malloc(sizeof value), sizeof value};
	must(p != NULL && buffer.base != NULL && value != 0);
	memcpy(buffer.base, &value, sizeof value);
	*p = (struct fixture_proposal){.request = {.data = p}, .fixture = f, .value = value};
	if (raft_apply(fixture_server(f, i), &p->request, &buffer, 1, on_proposed) == 0)
		return true;
	raft_free(buffer.base);
	free(p);
	return false;
}

void fixture_cut(struct fixture *f, unsigned a, unsigned b)
{
	raft_fixture_disconnect(&f->raft, a, b);
	raft_fixture_disconnect(&f->raft, b, a);
}

void fixture_heal(struct fixture *f, unsigned a, unsigned b)
{
	raft_fixture_reconnect(&f->raft, a, b);
	raft_fixture_reconnect(&f->raft, b, a);
}
