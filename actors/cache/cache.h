/* cache.h -- the actors that bring the pools' images to this node, and that say which ones it holds. */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include "runtime/actor.h"

enum cache_state {
	CACHE_SETTLED, /* nothing lacks */
	CACHE_PULLING,
	CACHE_BACKING, /* a pull failed; again after a while */
	CACHE_GONE,
	CACHE_STATES
};

enum images_state {
	IMAGES_SETTLED,
	IMAGES_LISTING,   /* sandboxd was asked what it holds */
	IMAGES_PROPOSING, /* the list is proposed */
	IMAGES_STATES
};

extern const struct sm_def cache_sm, images_sm;
extern const struct actor_class cache_class, images_class;

#endif
