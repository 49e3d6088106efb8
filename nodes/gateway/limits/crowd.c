/* See crowd.h. A place is there while somebody of it is. IPv4 in IPv6's clothes (RFC 4291, 2.5.5.2) is IPv4. */
#include "gateway/limits/crowd.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>

#include "core/map.h"
#include "core/must.h"
#include "core/str.h"

struct place {
	struct map_node node;
	uint64_t address;
	bool six;
	uint32_t n;
};

struct crowd {
	pthread_mutex_t lock;
	struct map places;
	uint32_t n, all_max, address_max;
};

struct crowd *crowd_new(uint32_t all_max, uint32_t address_max)
{
	struct crowd *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	pthread_mutex_init(&c->lock, NULL);
	c->all_max = all_max ? all_max : UINT32_MAX;
	c->address_max = address_max ? address_max : UINT32_MAX;
	return c;
}

void crowd_free(struct crowd *c)
{
	if (!c)
		return;
	must(c->n == 0);
	map_done(&c->places);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static struct place place_of(const struct sockaddr *from)
{
	struct place p = {.six = from->sa_family == AF_INET6};

	if (from->sa_family == AF_INET)
		p.address = ((const struct sockaddr_in *)(const void *)from)->sin_addr.s_addr;
	if (p.six) {
		const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr;

		p.six = !IN6_IS_ADDR_V4MAPPED(a);
		memcpy(&p.address, p.six ? a->s6_addr : a->s6_addr + 12, p.six ? 8 : 4);
	}
	return p;
}

static uint64_t hash_of(const struct place *p)
{
	return str_hash((struct str){(const char *)&p->address, sizeof p->address});
}

static bool match(const struct map_node *node, const void *key)
{
	const struct place *p = container_of(node, struct place, node), *asked = key;

	return p->address == asked->address && p->six == asked->six;
}

static struct place *find(struct crowd *c, const struct place *asked)
{
	struct map_node *node = map_find(&c->places, hash_of(asked), match, asked);

	return node ? container_of(node, struct place, node) : NULL;
}

static struct place *add(struct crowd *c, const struct place *asked)
{
	struct place *p = malloc(sizeof *p);

	if (!p)
		return NULL;
	*p = *asked;
	if (map_insert(&c->places, &p->node, hash_of(p))) {
		free(p);
		return NULL;
	}
	return p;
}

static int enter(struct crowd *c, const struct place *asked)
{
	struct place *p;

	if (c->n >= c->all_max)
		return -ENFILE;
	p = find(c, asked);
	if (p && p->n >= c->address_max)
		return -EUSERS;
	if (!p)
		p = add(c, asked);
	if (!p)
		return -ENOMEM;
	p->n++;
	c->n++;
	return 0;
}

int crowd_enter(struct crowd *c, const struct sockaddr *from)
{
	struct place asked = place_of(from);
	int r;

	pthread_mutex_lock(&c->lock);
	r = enter(c, &asked);
	pthread_mutex_unlock(&c->lock);
	return r;
}

void crowd_leave(struct crowd *c, const struct sockaddr *from)
{
	struct place asked = place_of(from), *p;

	pthread_mutex_lock(&c->lock);
	p = find(c, &asked);
	must(p && p->n > 0 && c->n > 0);
	c->n--;
	if (--p->n == 0) {
		map_remove(&c->places, &p->node);
		free(p);
	}
	pthread_mutex_unlock(&c->lock);
}
