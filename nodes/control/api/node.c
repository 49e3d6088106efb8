/* One node in full: what the tables say of it, what it keeps on disk and in memory with the bounds, and how it is.
 *
 * Happy path: the node that was asked by a client asks that node; this asks its sandboxd, adds what berthd itself keeps, and
 * answers. Failure modes: a node, or a sandboxd, that does not answer within ANSWER_MS is shown without: "answered" is false, or
 * sandboxdVersion is missing. Thread: the control loop. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/api/api.h"
#include "control/replica.h"
#include "core/clock.h"
#include "core/must.h"
#include "json/build.h"
#include "records/events.h"
#include "records/records.h"

#define ANSWER_MS   3000
#define SANDBOXD_MS 2000

/* -- The node that was asked by a client ------------------------------------------------------------------------- */

static json_t *list_of(const struct msg_held *held)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < held->n_holdings; i++) {
		const struct holding *h = &held->holdings[i];
		json_t *to = json_push_object(list);

		json_put_str(to, "kind", h->kind);
		json_put_u64(to, "count", h->n);
		json_put_u64(to, "bytes", h->bytes);
		if (h->bytes_max != 0)
			json_put_u64(to, "bytesMax", h->bytes_max);
		if (h->oldest_ms != 0)
			json_put_time(to, "oldest", h->oldest_ms);
		if (h->age_ms_max != 0)
			json_put_u64(to, "ageSecondsMax", h->age_ms_max / 1000);
	}
	return list;
}

static json_t *details(const struct msg_held *held)
{
	json_t *to = json_new_object(), *figures;
	char name[80];

	json_put_bool(to, "answered", held != NULL);
	if (held == NULL)
		return to;
	json_put_u64(to, "uptimeSeconds", held->uptime_ms / 1000);
	json_put_u64(to, "leaseMs", held->lease_ms);
	if (held->sandboxd_version.n > 0)
		json_put_str(to, "sandboxdVersion", held->sandboxd_version);
	json_object_set_new(to, "storage", list_of(held));
	figures = json_put_object(to, "figures");
	for (uint32_t i = 0; i < held->n_figures; i++) {
		if (str_copy(held->figures[i].name, name, sizeof name) == 0)
			json_put_u64(figures, name, held->figures[i].value);
	}
	return to;
}

void node_answer(struct api_call *call, const struct msg_held *held)
{
	struct str head = call->outcome.node.head;
	json_t *more = details(held);
	struct arm_reply reply = {0};
	CLEANUP_BUF struct buf text = {0}, tail = {0};

	json_print(&tail, more, false);
	json_decref(more);
	buf_add(&text, head.p, head.n - 1); /* two objects become one */
	buf_add_str(&text, STR(","));
	buf_add(&text, tail.p + 1, tail.n - 1);
	arm_reply_text(&reply, 200, "application/json; charset=utf-8", buf_str(&text));
	api_finish(call, &reply);
}

void node_ask(struct api_call *call)
{
	call->asks_node = true;
	call->deadline_ms = clock_boot_ms() + ANSWER_MS;
	api_send(call, (struct address){ADDRESS_CONTROL, call->outcome.node.node, 0}, MSG_HOLDINGS, NULL);
}

/* -- The node that is shown -------------------------------------------------------------------------------------- */

struct asked {
	struct address asker;
	uint64_t correlation;
};

static struct holding raft_files(const struct control *c)
{
	struct holding h = {.kind = STR("raft")};
	char dir[PATH_MAX];
	struct dirent *d;
	struct stat st;
	DIR *list;

	snprintf(dir, sizeof dir, "%.*s/berthd/raft", STR_ARGS(c->config.state_dir));
	list = opendir(dir);
	while (list != NULL && (d = readdir(list)) != NULL) {
		if (fstatat(dirfd(list), d->d_name, &st, 0) == 0 && S_ISREG(st.st_mode)) {
			h.bytes += (uint64_t)st.st_size;
			h.n++;
		}
	}
	if (list != NULL)
		closedir(list);
	return h;
}

static void add_own(struct control *c, const struct records_usage *records, struct msg_held *held)
{
	struct journal_usage events;

	events_usage(c->events, &events);
	held->holdings[held->n_holdings++] = (struct holding){.kind = STR("billing records"),
							      .bytes = records->bytes,
							      .bytes_max = c->config.records_disk_max,
							      .n = records->n,
							      .oldest_ms = records->oldest_ms,
							      .age_ms_max = c->config.records_retention_ms};
	held->holdings[held->n_holdings++] = (struct holding){.kind = STR("events of berthd"),
							      .bytes = events.bytes,
							      .bytes_max = c->config.events_disk_max,
							      .oldest_ms = events.oldest_ms,
							      .age_ms_max = c->config.events_retention_ms};
	held->holdings[held->n_holdings++] = raft_files(c);
}

static void add_figures(struct control *c, const struct records_usage *records, struct msg_held *held)
{
	struct runtime_counters r = runtime_counters(c->runtime);
	struct consensus_counts log;
	struct gateway_stats g;

	replica_count(c, &log);
	gateway_stats(c->gateway, &g);
	const struct figure figures[] = {{STR("connectionsOpen"), g.connections_open},
					 {STR("routes"), g.routes},
					 {STR("requests"), g.requests},
					 {STR("forwarded"), g.forwarded},
					 {STR("refused429"), g.refused_429},
					 {STR("refused503"), g.refused_503},
					 {STR("badRequests"), g.bad_requests},
					 {STR("badResponses"), g.bad_responses},
					 {STR("actors"), r.actors},
					 {STR("actorMessagesRefused"), r.refused},
					 {STR("exports"), c->n_exports},
					 {STR("recordsNotWritten"), records->failing},
					 {STR("logIndex"), replica_applied(c)},
					 {STR("logTerm"), replica_term(c)},
					 {STR("logSnapshots"), log.snapshots},
					 {STR("logDiskBytesFree"), log.disk_free},
					 {STR("logDiskBytesReserve"), c->config.disk_reserve},
					 {STR("logDiskNearlyFull"), log.disk_low}};

	for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
		held->figures[held->n_figures++] = figures[i];
}

static void on_holdings(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	struct control *c = context;
	struct asked *asked = arg;
	struct holding holdings[HOLDINGS_MAX];
	struct figure figures[FIGURES_MAX];
	struct msg_held held = {.version = STR(BERTH_VERSION), .holdings = holdings, .figures = figures};
	CLEANUP_BUF struct buf body = {0};
	struct records_usage records;
	uint64_t now = clock_boot_ms(), lease = runtime_lease_ms(c->runtime);

	if (fd >= 0)
		close(fd);
	held.uptime_ms = now - c->started_boot_ms;
	held.lease_ms = lease > now ? lease - now : 0;
	if (reply->code == 0)
		held.sandboxd_version = reply->version;
	for (uint32_t i = 0; i < reply->n_holdings && held.n_holdings < HOLDINGS_MAX - 3; i++)
		holdings[held.n_holdings++] = reply->holdings[i];
	records_usage(c->records, &records);
	add_own(c, &records, &held);
	add_figures(c, &records, &held);
	struct envelope e = control_message(c, &body, asked->asker, MSG_HELD, &held);

	e.correlation = asked->correlation;
	free(asked);
	control_send(c, &e);
}

void node_question(struct control *c, const struct envelope *question)
{
	struct asked *asked = malloc(sizeof *asked);

	must(asked != NULL);
	*asked = (struct asked){question->from, question->correlation};
	sandboxd_client_call(c->sandboxd, SANDBOXD_HOLDINGS, NULL, -1, loop_now(&c->loop) + SANDBOXD_MS,
			     on_holdings, asked);
}
