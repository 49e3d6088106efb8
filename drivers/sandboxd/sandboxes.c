/* sandboxes.c -- the table of sandboxes and their slots. A slot stands for a uid range and a pair of addresses. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "core/log.h"
#include "image/image.h"
#include "sandboxd/server_state.h"

static bool match(const struct map_node *node, const void *key)
{
	return container_of(node, struct sandbox, node)->id == *(const uint64_t *)key;
}

struct sandbox *sandbox_find(struct server *s, uint64_t id)
{
	struct map_node *n = map_find(&s->sandboxes, map_hash_u64(id), match, &id);

	return n == NULL ? NULL : container_of(n, struct sandbox, node);
}

static bool slot_taken(const struct server *s, uint32_t slot)
{
	return (s->slots[slot / 8] & (1u << (slot % 8))) != 0;
}

static void slot_set(struct server *s, uint32_t slot, bool taken)
{
	if (taken)
		s->slots[slot / 8] |= (unsigned char)(1u << (slot % 8));
	else
		s->slots[slot / 8] &= (unsigned char)~(1u << (slot % 8));
}

uint32_t sandbox_uid_base(const struct server *s, uint32_t slot)
{
	return s->o.settings->uid_base + (slot + 1) * UIDS; /* the first range is the loggers' */
}

/* In turn, so that a slot rests for as long as possible before it is used again. */
static int take_slot(struct server *s, uint32_t *ret)
{
	for (uint32_t i = 0; i < s->n_slots; i++) {
		uint32_t slot = (s->next_slot + i) % s->n_slots;

		if (slot_taken(s, slot))
			continue;
		slot_set(s, slot, true);
		s->next_slot = slot + 1;
		*ret = slot;
		return 0;
	}
	return -ENOSPC;
}

static struct sandbox *add(struct server *s, uint64_t id, enum isolation isolation, uint32_t slot)
{
	struct sandbox *b = calloc(1, sizeof *b);

	if (b == NULL || map_insert(&s->sandboxes, &b->node, map_hash_u64(id)) < 0) {
		free(b);
		return NULL;
	}
	b->id = id;
	b->isolation = isolation;
	b->driver = s->carriers[isolation].driver;
	b->slot = slot;
	b->exit_watch.fd = -1;
	slot_set(s, slot, true);
	return b;
}

struct sandbox *sandbox_new(struct server *s, uint64_t id, enum isolation isolation)
{
	uint32_t slot;
	struct sandbox *b;

	if (take_slot(s, &slot) < 0)
		return NULL;
	b = add(s, id, isolation, slot);
	if (b == NULL)
		slot_set(s, slot, false);
	return b;
}

void sandbox_forget(struct server *s, struct sandbox *b)
{
	watch_remove(s, &b->exit_watch);
	if (b->instance != NULL)
		b->driver->ops->release(b->driver, b->instance);
	if (b->image != NULL)
		image_release(s->o.store, b->image);
	askers_drop(&b->starts);
	askers_drop(&b->stops);
	slot_set(s, b->slot, false);
	map_remove(&s->sandboxes, &b->node);
	free(b);
}

/* -- The end of one ------------------------------------------------------------------------------------------- */

static void over(struct server *s, struct sandbox *b)
{
	b->driver->ops->exit_status(b->driver, b->instance, &b->exit);
	b->exit_known = true;
	if (b->state == SANDBOX_RUNNING)
		b->state = SANDBOX_OVER;
	if (b->exit.how == SANDBOX_EXIT_OOM)
		log_warn("sandbox %lu ran out of memory", (unsigned long)b->id);
	lifecycle_exited(s, b);
	send_exited(s, b, NULL);
}

static void on_exit_fd(struct server *s, struct watch *w, uint32_t events)
{
	struct sandbox *b = container_of(w, struct sandbox, exit_watch);

	(void)events;
	watch_remove(s, w);
	if (b->state == SANDBOX_RUNNING)
		over(s, b);
}

void sandbox_watch_exit(struct server *s, struct sandbox *b)
{
	int fd = b->driver->ops->exit_fd(b->driver, b->instance);

	b->exit_watch.on = on_exit_fd;
	if (fd < 0 || watch_add(s, &b->exit_watch, fd, EPOLLIN, NULL) < 0)
		over(s, b);
}

/* -- After a restart ------------------------------------------------------------------------------------------ */

struct adoption {
	struct server *s;
	enum isolation isolation;
	unsigned running, over;
};

static void on_found(struct driver_instance *i, void *arg)
{
	struct adoption *a = arg;
	struct server *s = a->s;
	struct driver *d = s->carriers[a->isolation].driver;
	struct saved_file saved;
	struct driver_info info;
	struct sandbox *b;
	struct err err = {0};

	d->ops->info(d, i, &info);
	if (info.slot >= s->n_slots || slot_taken(s, info.slot) ||
	    (info.uid_base != 0 && info.uid_base != sandbox_uid_base(s, info.slot))) {
		log_error("sandbox %lu has slot %u, which is taken or outside the span: it is stopped",
			  (unsigned long)info.sandbox, info.slot);
		if (d->ops->stop(d, i, 0, &err) < 0)
			log_error("%s", err.message);
		d->ops->release(d, i);
		return;
	}
	if (saved_files_find(s->saved_dir, info.sandbox, &saved)) { /* that is what it goes on from */
		d->ops->kill(d, i);
		if (d->ops->stop(d, i, 0, &err) < 0)
			log_error("%s", err.message);
		d->ops->release(d, i);
		return;
	}
	b = add(s, info.sandbox, a->isolation, info.slot);
	if (b == NULL)
		return;
	b->instance = i;
	b->state = SANDBOX_RUNNING;
	if (s->o.store != NULL && info.digest[0] != '\0' &&
	    image_acquire(s->o.store, str_of(info.digest), &b->image, &err) < 0)
		log_warn("sandbox %lu: %s", (unsigned long)b->id, err.message);
	sandbox_watch_exit(s, b);
	if (b->state == SANDBOX_RUNNING)
		a->running++;
	else
		a->over++;
}

int sandboxes_adopt(struct server *s, enum isolation isolation, struct err *err)
{
	struct adoption a = {.s = s, .isolation = isolation};
	struct driver *d = s->carriers[isolation].driver;
	int r = d->ops->adopt(d, on_found, &a, err);

	if (r == 0 && a.running + a.over > 0)
		log_info("driver %s: adopted %u running sandboxes and %u that are over", d->ops->name,
			 a.running, a.over);
	return r;
}
