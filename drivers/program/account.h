/* account.h -- a user of an image, looked up in the image's own files: called inside the sandbox, with nothing of the host
 * to win. Failures end the process, see program_die. */
#ifndef PROGRAM_ACCOUNT_H
#define PROGRAM_ACCOUNT_H

#include <stddef.h>
#include <sys/types.h>

#define ACCOUNT_GROUPS_MAX 64

struct account {
	uid_t uid;
	gid_t gid, groups[ACCOUNT_GROUPS_MAX];
	size_t n_groups;
	char home[256];
};

/* `wanted`: user, uid, user:group, uid:gid; empty: 0. Names are looked up in /etc/passwd and /etc/group. */
void account_find(const char *wanted, struct account *ret);

/* This process is his from now on, and what its descriptors 1 and 2 refer to. */
void account_become(const struct account *a);

#endif
