/* stage.h -- what the image store's tests stand on: a folder, a registry with images (fixture.sh), stores, checks. */
#ifndef TEST_IMAGE_STAGE_H
#define TEST_IMAGE_STAGE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "image/image.h"

#define UNPRIVILEGED 61234

/* The folder, the CA's file, the registry's host:port; digests of test:v1 and test:index. */
extern char base[64], ca[128], host[64], manifest_digest[IMAGE_DIGEST_SIZE], index_digest[IMAGE_DIGEST_SIZE];
extern const struct image_credentials good, wrong;

/* 77 when the machine lacks something, which it prints. */
int stage_missing(void);
int set_up(void **state);
int tear_down(void **state);

int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct hosts {
	const char *registries, *insecure, *token_hosts;
	const char *ca;
	uint32_t stall_ms;
	uint64_t disk_max; /* of all images together */
};
struct image_store *open_store(const char *name, struct hosts hosts);
/* One that knows the registry and its CA. */
struct image_store *open_real(const char *name);
struct str reference_to(const char *image, char text[256]);
void expect(int got, int code, const char *says, const struct err *err);
/* The root and the configuration of the image that fixture.sh makes. */
void check_tree(const struct image *image);

#endif
