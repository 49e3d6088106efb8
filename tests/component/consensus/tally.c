/* tally.c -- see tally.h. A snapshot is the whole struct. */
#include "tally.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/str.h"

static int apply(void *arg, uint64_t index, const void *entry, size_t n, struct err *err)
{
	struct tally *t = arg;
	uint64_t value;
	if (n != sizeof value && n != TALLY_LARGE)
		return err_set(err, -EPROTO, "entry of %zu bytes", n);
	if (index <= t->index)
		return err_set(err, -EPROTO, "entry %llu came twice", (unsigned long long)index);
	memcpy(&value, entry, sizeof value);
	if (value >= TALLY_MAX)
		return err_set(err, -EPROTO, "value %llu", (unsigned long long)value);
	t->seen[value]++;
	t->applied++;
	t->index = index;
	t->hash = str_hash_stable((struct str){entry, n}, t->hash);
	return 0;
}

static void *take(void *arg)
{
	struct tally *t = arg, *view = malloc(sizeof *view);
	if (view != NULL) {
		memcpy(view, t, sizeof *view);
		t->views++;
	}
	return view;
}

static int write_view(const void *snapshot, int (*write)(void *, const void *, size_t), void *to)
{
	const char *p = snapshot;
	for (size_t at = 0; at < sizeof(struct tally); at += 1000) {
		size_t left = sizeof(struct tally) - at;
		int rc = write(to, p + at, left < 1000 ? left : 1000);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static void free_view(void *arg, void *snapshot)
{
	struct tally *t = arg;
	t->views--;
	free(snapshot);
}

static atomic_uint reading, slow_ms;

void tally_read_slowly(unsigned ms)
{
	slow_ms = ms;
}

bool tally_reading(void)
{
	return reading > 0;
}

static int read_view(const void *p, size_t n, void **ret, struct err *err)
{
	if (n != sizeof(struct tally))
		return err_set(err, -EBADMSG, "snapshot of %zu bytes", n);
	*ret = malloc(n);
	if (*ret == NULL)
		return err_set(err, -ENOMEM, "no memory");
	reading++;
	usleep(slow_ms * 1000);
	memcpy(*ret, p, n);
	reading--;
	return 0;
}

static void *restore(void *arg, void *view)
{
	struct tally *t = arg;
	uint64_t views = t->views;
	memcpy(t, view, sizeof *t);
	t->views = views;
	return view;
}

struct consensus_machine tally_machine(struct tally *t)
{
	return (struct consensus_machine){t, apply, take, write_view, free_view, read_view, restore, free};
}
