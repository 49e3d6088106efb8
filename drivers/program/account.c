#include "program/account.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "program/program.h"

#define ACCOUNT_FILE_MAX (1u << 20)

static char *read_text(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *text = calloc(1, ACCOUNT_FILE_MAX + 1);
	size_t n = 0;
	ssize_t got;

	if (text == NULL)
		program_die(125, "no memory");
	if (fd < 0)
		return text;
	while (n < ACCOUNT_FILE_MAX && (got = read(fd, text + n, ACCOUNT_FILE_MAX - n)) > 0)
		n += (size_t)got;
	close(fd);
	return text;
}

/* Splits a line at ':' into at most n fields, in place; missing ones are "". */
static void split_fields(char *line, char **fields, size_t n)
{
	static char empty[1] = "";

	for (size_t i = 0; i < n; i++)
		fields[i] = line != NULL ? strsep(&line, ":") : empty;
}

static bool number(const char *s, uint32_t *ret)
{
	char *end;
	unsigned long x;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	x = strtoul(s, &end, 10);
	if (*end != '\0' || errno != 0 || x > 65535)
		return false;
	*ret = (uint32_t)x;
	return true;
}

/* Finds name (or the numeric id, when name is NULL) in /etc/passwd. */
static bool find_user(const char *name, uid_t uid, struct account *a, char *ret_name, size_t size)
{
	char *text = read_text("/etc/passwd"), *rest = text, *line;
	bool found = false;

	while (!found && (line = strsep(&rest, "\n")) != NULL) {
		char *f[7];
		uint32_t id, group;

		split_fields(line, f, 7);
		if (!number(f[2], &id) || !number(f[3], &group))
			continue;
		if (name != NULL ? strcmp(f[0], name) != 0 : id != uid)
			continue;
		a->uid = id;
		a->gid = group;
		snprintf(a->home, sizeof a->home, "%s", f[5]);
		snprintf(ret_name, size, "%s", f[0]);
		found = true;
	}
	free(text);
	return found;
}

static bool has_member(char *members, const char *name)
{
	char *m;

	while ((m = strsep(&members, ",")) != NULL) {
		if (*name != '\0' && strcmp(m, name) == 0)
			return true;
	}
	return false;
}

/* With a group's name: its id. Without: the groups that list the user. */
static bool read_groups(const char *group, const char *user, struct account *a)
{
	char *text = read_text("/etc/group"), *rest = text, *line;
	bool found = false;

	while ((line = strsep(&rest, "\n")) != NULL) {
		char *f[4];
		uint32_t id;

		split_fields(line, f, 4);
		if (!number(f[2], &id))
			continue;
		if (group != NULL && strcmp(f[0], group) == 0) {
			a->gid = id;
			found = true;
			break;
		}
		if (group == NULL && a->n_groups < ACCOUNT_GROUPS_MAX && has_member(f[3], user))
			a->groups[a->n_groups++] = id;
	}
	free(text);
	return found;
}

void account_find(const char *wanted, struct account *a)
{
	char user[256], name[256] = "", *group;
	uint32_t id;

	snprintf(user, sizeof user, "%s", *wanted != '\0' ? wanted : "0");
	group = strchr(user, ':');
	if (group != NULL)
		*group++ = '\0';
	if (number(user, &id)) {
		a->uid = id;
		find_user(NULL, id, a, name, sizeof name);
		a->uid = id;
	} else if (!find_user(user, 0, a, name, sizeof name)) {
		program_die(126, "user \"%s\" is not in the image's /etc/passwd", user);
	}
	if (group == NULL || *group == '\0')
		read_groups(NULL, name, a);
	else if (number(group, &id))
		a->gid = id;
	else if (!read_groups(group, NULL, a))
		program_die(126, "group \"%s\" is not in the image's /etc/group", group);
}

void account_become(const struct account *a)
{
	/* /dev/stdout and /dev/stderr can be opened again by the user only if they are his. */
	(void)!fchown(1, a->uid, a->gid);
	(void)!fchown(2, a->uid, a->gid);
	if (setgroups(a->n_groups, a->groups) != 0 || setresgid(a->gid, a->gid, a->gid) != 0 ||
	    setresuid(a->uid, a->uid, a->uid) != 0)
		program_die(126, "become user %u:%u: %s", a->uid, a->gid, strerror(errno));
}
