#include "image_unpack/user.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"

#define FILE_BYTES_MAX (1u << 20)

struct entry {
	struct str name, members;
	uint64_t id, gid;
};

/* name:password:id:..., a line each; lines that are not so are passed over. False at the end. */
static bool next_entry(struct str *rest, bool passwd, struct entry *ret)
{
	while (rest->n > 0) {
		struct str line, field, id, gid = STR_NONE;
		struct entry e = {0};

		str_cut(*rest, '\n', &line, rest);
		if (!str_cut(line, ':', &e.name, &line) || !str_cut(line, ':', &field, &line))
			continue;
		str_cut(line, ':', &id, &line);
		if (e.name.n == 0 || str_u64(id, IMAGE_ID_MAX, &e.id) < 0)
			continue;
		str_cut(line, ':', &gid, &line);
		if (passwd && str_u64(gid, IMAGE_ID_MAX, &e.gid) < 0)
			continue;
		e.members = passwd ? STR_NONE : gid;
		*ret = e;
		return true;
	}
	return false;
}

/* By name; or, if it is a number, by id. */
static bool find(struct str text, bool passwd, struct str name, struct entry *ret)
{
	struct entry e;
	uint64_t id;
	bool number = str_u64(name, IMAGE_ID_MAX, &id) == 0;

	for (struct str rest = text; next_entry(&rest, passwd, &e);) {
		if (str_eq(e.name, name) || (number && e.id == id)) {
			*ret = e;
			return true;
		}
	}
	return false;
}

static int find_id(struct str text, bool passwd, struct str name, struct entry *ret, struct err *err)
{
	const char *what = passwd ? "user" : "group";
	struct entry e = {0};

	if (find(text, passwd, name, &e)) {
		*ret = e;
		return 0;
	}
	if (str_u64(name, IMAGE_ID_MAX, &e.id) == 0) {
		*ret = e;
		return 0;
	}
	return err_set(err, -ENOENT,
		       "User: %s '%.*s' is not in the image's /etc/%s, and is no number up to %d", what,
		       STR_ARGS(name), passwd ? "passwd" : "group", IMAGE_ID_MAX);
}

static bool is_member(struct str members, struct str name)
{
	struct str member;
	bool more = members.n > 0;

	while (more) {
		more = str_cut(members, ',', &member, &members);
		if (str_eq(member, name))
			return true;
	}
	return false;
}

static int add_groups(struct str group, struct str name, struct arena *arena, struct image_unpack_result *ret,
		      struct err *err)
{
	struct entry e;

	ret->groups = arena_array(arena, IMAGE_GROUPS_MAX, sizeof *ret->groups);
	if (ret->groups == NULL)
		return err_set(err, -ENOMEM, "no memory");
	for (struct str rest = group; ret->n_groups < IMAGE_GROUPS_MAX && next_entry(&rest, false, &e);) {
		if (e.id != ret->gid && is_member(e.members, name))
			ret->groups[ret->n_groups++] = e.id;
	}
	return 0;
}

int user_lookup(struct str user, struct str passwd, struct str group, struct arena *arena,
		struct image_unpack_result *ret, struct err *err)
{
	struct str name, group_name;
	struct entry u = {0}, g = {0};
	bool with_group = str_cut(user, ':', &name, &group_name) && group_name.n > 0;
	int r;

	if (name.n == 0)
		name = STR("0");
	r = find_id(passwd, true, name, &u, err);
	if (r == 0 && with_group)
		r = find_id(group, false, group_name, &g, err);
	if (r < 0)
		return r;
	ret->uid = (uint32_t)u.id;
	ret->gid = (uint32_t)(with_group ? g.id : u.gid);
	/* As Docker has it: who names a group gets no others. */
	return with_group || u.name.n == 0 ? 0 : add_groups(group, u.name, arena, ret, err);
}

/* A missing file is empty; so is one that is no regular file. */
static int read_text(const char *path, struct buf *ret, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	r = fd_read_all(fd, ret);
	return r < 0 ? err_system(err, r, "the image's %s", path) : 0;
}

int user_resolve(struct str user, struct arena *arena, struct image_unpack_result *ret, struct err *err)
{
	CLEANUP_BUF struct buf passwd = BUF_MAX(FILE_BYTES_MAX), group = BUF_MAX(FILE_BYTES_MAX);
	int r = read_text("/etc/passwd", &passwd, err);

	if (r == 0)
		r = read_text("/etc/group", &group, err);
	return r < 0 ? r : user_lookup(user, buf_str(&passwd), buf_str(&group), arena, ret, err);
}
