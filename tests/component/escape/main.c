/* main.c -- escape-check: tries to get out of the sandbox that it runs in, in every way of its table; a line each:
 *
 *   GROUP | WHAT | ANSWER | right
 *
 * and at last "tried N, wrong M". Exit status 1 when something was answered wrongly. --list prints the table for people and tries
 * nothing; --only WHAT tries that alone. Each attempt is a child: one that is killed, or that spoils its process, spoils nothing else. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attempt.h"

#define SECONDS_MAX 10

static const struct group *const groups[] = {&group_state,   &group_calls,     &group_values,
					     &group_kernel,  &group_writes,    &group_reads,
					     &group_devices, &group_processes, &group_sockets};
#define N_GROUPS (sizeof groups / sizeof *groups)

int outcome(long result)
{
	return result < 0 ? -errno : 0;
}

const char *told(const char *name)
{
	const char *value = getenv(name);

	return value == NULL ? "" : value;
}

static bool has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = words; (at = strstr(at, word)) != NULL; at += n) {
		if ((at == words || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
			return true;
	}
	return false;
}

static const char *expected(const struct attempt *a, bool user)
{
	return user && a->expect_user != NULL ? a->expect_user : a->expect;
}

static void answer_of(const struct attempt *a, int status, char *ret, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(ret, size, "SIG%s", sigabbrev_np(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == 0)
		snprintf(ret, size, "%s", has_word(a->expect, "yes") ? "yes" : "allowed");
	else if (WEXITSTATUS(status) == ATTEMPT_NO)
		snprintf(ret, size, "no");
	else
		snprintf(ret, size, "%s", strerrorname_np(WEXITSTATUS(status)));
}

static bool try(const struct group *g, const struct attempt *a, bool user)
{
	char answer[32] = "fork failed";
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		alarm(SECONDS_MAX);
		int r = a->go(a);

		_exit(r == 0 ? 0 : -r);
	}
	if (child > 0 && waitpid(child, &status, 0) == child)
		answer_of(a, status, answer, sizeof answer);
	/* As process 1 it inherits what its children left. */
	while (getpid() == 1 && wait(NULL) > 0)
		continue;
	bool right = has_word(expected(a, user), answer);

	printf("%s | %s | %s | %s%s\n", g->name, a->what, answer, right ? "right" : "WRONG, wanted ",
	       right ? "" : expected(a, user));
	return right;
}

static void list(void)
{
	for (size_t i = 0; i < N_GROUPS; i++) {
		printf("\n### %s\n\n| tried | answer |\n| --- | --- |\n", groups[i]->name);
		for (unsigned k = 0; k < groups[i]->n; k++) {
			const struct attempt *a = &groups[i]->attempts[k];

			printf("| %s | %s", a->what, a->expect);
			if (a->expect_user != NULL)
				printf("; for a plain user %s", a->expect_user);
			printf(" |\n");
		}
	}
}

int main(int argc, char **argv)
{
	const char *only = argc > 2 && strcmp(argv[1], "--only") == 0 ? argv[2] : NULL;
	unsigned tried = 0, wrong = 0;

	if (argc > 1 && strcmp(argv[1], "--list") == 0) {
		list();
		return 0;
	}
	if (argc > 1 && strcmp(argv[1], "--euid") == 0) /* what a setuid copy of this program became */
		return geteuid() == getuid() ? 0 : ATTEMPT_NO;
	for (size_t i = 0; i < N_GROUPS; i++) {
		for (unsigned k = 0; k < groups[i]->n; k++) {
			const struct attempt *a = &groups[i]->attempts[k];

			if (only != NULL && strcmp(a->what, only) != 0)
				continue;
			wrong += !try(groups[i], a, geteuid() != 0);
			tried++;
		}
	}
	printf("tried %u, wrong %u\n", tried, wrong);
	return wrong > 0;
}
