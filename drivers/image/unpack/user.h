/* user.h -- the image's User ("name", "uid", "user:group", ...) looked up in the unpacked /etc/passwd and /etc/group. */
#ifndef IMAGE_UNPACK_USER_H
#define IMAGE_UNPACK_USER_H

#include "image_protocol/protocol.h"

/* Pure: `passwd` and `group` are the files' texts, may be empty. A name that is not there is -ENOENT; a number needs
 * no entry. Without a group it is the passwd entry's, else 0. Fills uid, gid and groups (in the arena). */
int user_lookup(struct str user, struct str passwd, struct str group, struct arena *arena,
		struct image_unpack_result *ret, struct err *err);

/* The same with the files of the current root. */
int user_resolve(struct str user, struct arena *arena, struct image_unpack_result *ret, struct err *err);

#endif
