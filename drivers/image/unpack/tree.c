#include "image_unpack/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/map.h"

#define REMOVE_DEPTH_MAX (NAMES_DEPTH_MAX + 8)
#define VISITS_MAX       (16u << 20) /* of names, by all whiteouts: each may look at a whole directory again */

struct touched {
	struct map_node node;
	ino_t inode;
};

struct tree {
	struct map touched; /* inodes that the current layer made or described */
	uint64_t visits;
};

/* -- What the layer made ------------------------------------------------------------------------------------ */

static bool same_inode(const struct map_node *node, const void *key)
{
	return container_of(node, struct touched, node)->inode == *(const ino_t *)key;
}

static bool is_touched(const struct tree *t, ino_t inode)
{
	return map_find(&t->touched, map_hash_u64(inode), same_inode, &inode) != NULL;
}

static int touch(struct tree *t, int fd, struct err *err)
{
	struct stat st;
	struct touched *x;

	if (fstatat(fd, "", &st, AT_EMPTY_PATH) < 0)
		return err_system(err, -errno, "stat");
	if (is_touched(t, st.st_ino))
		return 0;
	x = calloc(1, sizeof *x);
	if (x == NULL)
		return err_set(err, -ENOMEM, "no memory for the layer's inodes");
	x->inode = st.st_ino;
	if (map_insert(&t->touched, &x->node, map_hash_u64(x->inode)) == 0)
		return 0;
	free(x);
	return err_set(err, -ENOMEM, "no memory for the layer's inodes");
}

struct tree *tree_new(void)
{
	return calloc(1, sizeof(struct tree));
}

void tree_next_layer(struct tree *t)
{
	struct map_node *node = map_next(&t->touched, NULL);

	while (node != NULL) {
		struct map_node *next = map_next(&t->touched, node);

		free(container_of(node, struct touched, node));
		node = next;
	}
	map_done(&t->touched);
}

void tree_free(struct tree *t)
{
	if (t == NULL)
		return;
	tree_next_layer(t);
	free(t);
}

/* -- Removing ----------------------------------------------------------------------------------------------- */

static int clear_directory(struct tree *t, int fd, bool keep_touched, unsigned depth, struct err *err);

/* Removes one name with all below it; with keep_touched what the current layer made stays, and the directories
 * that lead to it. Nothing there is fine. */
static int remove_name(struct tree *t, int parent, const char *name, bool keep_touched, unsigned depth,
		       struct err *err)
{
	struct stat st;
	int r;

	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_system(err, -errno, "stat");
	bool kept = keep_touched && is_touched(t, st.st_ino);

	if (!S_ISDIR(st.st_mode)) {
		if (kept || unlinkat(parent, name, 0) == 0)
			return 0;
		return err_system(err, -errno, "remove");
	}
	CLEANUP_FD int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_system(err, -errno, "open a directory to remove");
	r = clear_directory(t, fd, keep_touched, depth + 1, err);
	if (r < 0 || kept)
		return r;
	if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || (keep_touched && errno == ENOTEMPTY))
		return 0;
	return err_system(err, -errno, "remove a directory");
}

static int clear_directory(struct tree *t, int fd, bool keep_touched, unsigned depth, struct err *err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0), r = 0;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;

	if (d == NULL) {
		r = -errno;
		fd_close(&copy);
		return err_system(err, r, "read a directory");
	}
	if (depth > REMOVE_DEPTH_MAX)
		r = err_set(err, -EBADMSG, "directories nest too deep");
	while (r == 0 && (e = readdir(d)) != NULL) {
		if (++t->visits > VISITS_MAX)
			r = err_set(err, -E2BIG, "its whiteouts look at more than %u names", VISITS_MAX);
		else if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = remove_name(t, fd, e->d_name, keep_touched, depth, err);
	}
	closedir(d);
	return r;
}

/* -- Places ------------------------------------------------------------------------------------------------- */

/* The parent, its links resolved by the kernel below the chroot; missing directories are made, root's and 0755. */
static int open_parent(const char *path, bool make, int *ret, struct err *err)
{
	char part[NAMES_PATH_MAX + 2];
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (size_t n = 0; fd < 0 && errno == ENOENT && make; n++) {
		n += strcspn(path + n, "/");
		memcpy(part, path, n);
		part[n] = '\0';
		if (mkdirat(AT_FDCWD, part, 0755) < 0 && errno != EEXIST)
			return err_system(err, -errno, "make directory %.200s", part);
		if (path[n] == '\0') {
			fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			break;
		}
		errno = ENOENT;
	}
	if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
		return err_set(err, -EBADMSG, "'%.200s' is no directory", path);
	if (fd < 0)
		return err_system(err, -errno, "open directory %.200s", path);
	*ret = fd;
	return 0;
}

/* The parent, with nothing under the base's name in it. */
static int clear_place(struct tree *t, const struct names *names, int *ret_parent, struct err *err)
{
	CLEANUP_FD int parent = -1;
	int r;

	if (strcmp(names->base, ".") == 0)
		return err_set(err, -EBADMSG, "the root must be a directory");
	r = open_parent(names->parent, true, &parent, err);
	if (r == 0)
		r = remove_name(t, parent, names->base, false, 0, err);
	if (r == 0)
		*ret_parent = fd_take(&parent);
	return r;
}

/* Owner first: a change of owner clears set-id bits. */
static int describe(int fd, const struct tree_owner *owner, struct err *err)
{
	const struct timespec times[2] = {owner->modified, owner->modified};

	if (fchown(fd, owner->uid, owner->gid) < 0 || fchmod(fd, owner->mode & 07777) < 0 ||
	    utimensat(fd, "", times, AT_EMPTY_PATH) < 0)
		return err_system(err, -errno, "set owner, mode and time");
	return 0;
}

/* -- Entries ------------------------------------------------------------------------------------------------ */

int tree_directory(struct tree *t, const struct names *names, const struct tree_owner *owner, struct err *err)
{
	CLEANUP_FD int parent = -1;
	struct stat st;
	int r = open_parent(names->parent, true, &parent, err);

	if (r < 0)
		return r;
	bool there = fstatat(parent, names->base, &st, AT_SYMLINK_NOFOLLOW) == 0;

	if (there && !S_ISDIR(st.st_mode)) {
		r = remove_name(t, parent, names->base, false, 0, err);
		if (r < 0)
			return r;
		there = false;
	}
	if (!there && mkdirat(parent, names->base, 0700) < 0)
		return err_system(err, -errno, "make directory");
	CLEANUP_FD int fd = openat(parent, names->base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_system(err, -errno, "open directory");
	r = describe(fd, owner, err);
	return r < 0 ? r : touch(t, fd, err);
}

int tree_file(struct tree *t, const struct names *names, int *ret_fd, struct err *err)
{
	CLEANUP_FD int parent = -1;
	int r = clear_place(t, names, &parent, err);

	if (r < 0)
		return r;
	CLEANUP_FD int fd =
		openat(parent, names->base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_system(err, -errno, "make file");
	r = touch(t, fd, err);
	if (r == 0)
		*ret_fd = fd_take(&fd);
	return r;
}

int tree_finish(struct tree *t, int fd, const struct tree_owner *owner, struct err *err)
{
	(void)t;
	return describe(fd, owner, err);
}

/* Names that have no descriptor of their own: links and pipes. */
static int describe_name(struct tree *t, int parent, const char *name, const struct tree_owner *owner,
			 struct err *err)
{
	const struct timespec times[2] = {owner->modified, owner->modified};
	CLEANUP_FD int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fchownat(parent, name, owner->uid, owner->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return err_system(err, -errno, "set owner and time");
	return touch(t, fd, err);
}

int tree_symlink(struct tree *t, const struct names *names, const char *target,
		 const struct tree_owner *owner, struct err *err)
{
	CLEANUP_FD int parent = -1;
	int r = clear_place(t, names, &parent, err);

	if (r < 0)
		return r;
	if (symlinkat(target, parent, names->base) < 0)
		return err_system(err, -errno, "make symbolic link");
	return describe_name(t, parent, names->base, owner, err);
}

int tree_fifo(struct tree *t, const struct names *names, const struct tree_owner *owner, struct err *err)
{
	CLEANUP_FD int parent = -1;
	int r = clear_place(t, names, &parent, err);

	if (r < 0)
		return r;
	if (mknodat(parent, names->base, S_IFIFO | (owner->mode & 0777), 0) < 0)
		return err_system(err, -errno, "make pipe");
	return describe_name(t, parent, names->base, owner, err);
}

int tree_hardlink(struct tree *t, const struct names *names, const char *target, struct err *err)
{
	CLEANUP_FD int parent = -1;
	struct stat from, there;
	int r;

	if (fstatat(AT_FDCWD, target, &from, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, -EBADMSG, "hard link to '%.200s', which does not exist", target);
	if (S_ISDIR(from.st_mode))
		return err_set(err, -EBADMSG, "hard link to '%.200s', which is a directory", target);
	r = open_parent(names->parent, true, &parent, err);
	if (r < 0)
		return r;
	/* A link to itself must not remove its own target. */
	if (fstatat(parent, names->base, &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_ino == from.st_ino)
		return 0;
	fd_close(&parent);
	r = clear_place(t, names, &parent, err);
	if (r < 0)
		return r;
	if (linkat(AT_FDCWD, target, parent, names->base, 0) < 0)
		return err_system(err, -errno, "hard link to '%.200s'", target);
	CLEANUP_FD int fd = openat(parent, names->base, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? err_system(err, -errno, "open hard link") : touch(t, fd, err);
}

int tree_whiteout(struct tree *t, const struct names *names, struct err *err)
{
	CLEANUP_FD int parent = -1;
	int r = open_parent(names->parent, false, &parent, err);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : remove_name(t, parent, names->base, true, 0, err);
}

int tree_opaque(struct tree *t, const struct names *names, struct err *err)
{
	CLEANUP_FD int parent = -1;
	int r = open_parent(names->parent, false, &parent, err);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : clear_directory(t, parent, true, 0, err);
}
