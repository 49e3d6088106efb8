#include "state/able.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAMED_MAX 4 /* nodes whose reasons are told; of the others, how many they are */

static const char *const what[ISOLATIONS] = {
	[ISOLATION_CONTAINER] = "containers", [ISOLATION_VM] = "virtual machines"};

bool able_node(const struct node_row *node, const struct pool_row *pool, const struct template *t)
{
	return state_node_runs(node, pool->isolation) && template_labels_fit(t, node->labels);
}

static void say(char text[ABLE_TEXT_MAX], const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(char text[ABLE_TEXT_MAX], const char *format, ...)
{
	size_t n = strlen(text);
	va_list args;

	va_start(args, format);
	vsnprintf(text + n, ABLE_TEXT_MAX - n, format, args);
	va_end(args);
}

/* Of a node that does not run it now. */
static struct str reason_of(const struct node_row *node, bool can)
{
	if (node->state != NODE_UP)
		return node->state == NODE_LOST ? STR("it is lost") : STR("it never started");
	return can ? STR_NONE : node->no_vm.n > 0 ? node->no_vm : STR("it has not said yet whether it can");
}

enum able able_nodes(const struct state *s, const struct pool_row *pool, const struct template *t,
		     char text[ABLE_TEXT_MAX])
{
	uint32_t n = 0;
	bool later = false;

	text[0] = '\0';
	say(text, "no node that is up%s%.*s can run %s", t->node_labels.n > 0 ? " with the labels " : "",
	    STR_ARGS(t->node_labels), what[pool->isolation]);
	for (const struct node_row *node = NULL; (node = state_next_node(s, node)) != NULL;) {
		bool can = state_node_runs(node, pool->isolation);
		struct str reason = reason_of(node, can);

		if (!template_labels_fit(t, node->labels))
			continue;
		if (can && node->state == NODE_UP)
			return ABLE_SOME;
		later |= can || node->no_vm.n == 0;
		if (n++ < NAMED_MAX)
			say(text, "%s node \"%.*s\": %.*s", n == 1 ? ":" : ";", STR_ARGS(node->name),
			    STR_ARGS(reason));
	}
	if (n > NAMED_MAX)
		say(text, "; and %u more", n - NAMED_MAX);
	return later || n == 0 ? ABLE_LATER : ABLE_NONE;
}
