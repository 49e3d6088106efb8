/* What only the process can do for the management API: mint tokens, read logs (of any node), list, import and remove images. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/api/api.h"
#include "control/keys/rotation.h"
#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"
#include "json/json.h"

#define POLL_MS       500
#define LOG_ANSWER_MS 10000
#define FIND_MS       3000

static void reply_json(struct api_call *call, int status, json_t *value)
{
	struct arm_reply reply = {0};
	char *text = json_dumps(value, JSON_COMPACT);

	must(text != NULL);
	arm_reply_text(&reply, status, "application/json", str_of(text));
	free(text);
	json_decref(value);
	api_finish(call, &reply);
}

static void reply_error(struct api_call *call, int status, const char *code, struct str message)
{
	struct arm_reply reply = {0};

	arm_reply_error(&reply, status, code, "%.*s", STR_ARGS(message));
	api_finish(call, &reply);
}

/* -- Tokens -------------------------------------------------------------------------------------------------- */

static void run_token(struct api_call *call)
{
	const struct arm_token_ask *ask = &call->outcome.token;
	struct token_role roles[TOKEN_ROLES_MAX];
	CLEANUP_BUF struct buf token = {0};
	char expires[CLOCK_TEXT_SIZE];
	struct err err = {0};
	uint64_t now = clock_wall_ms();
	struct token_request request = {
		.subject = ask->subject,
		.roles = roles,
		.life_s = ask->ttl_s,
		.now_s = now / 1000,
		.plane = str_starts(ask->audience, STR(TOKEN_AUDIENCE_DATA)) ? TOKEN_DATA : TOKEN_MANAGEMENT};

	for (uint32_t i = 0; i < ask->n_roles && i < TOKEN_ROLES_MAX; i++) {
		if (str_copy(ask->roles[i].role, roles[i].role, sizeof roles[i].role) < 0 ||
		    str_copy(ask->roles[i].scope, roles[i].scope, sizeof roles[i].scope) < 0) {
			reply_error(call, 400, "InvalidRole", STR("a role or its scope is too long"));
			return;
		}
		request.n_roles++;
	}
	if (api_control(call->api)->config.role == CONFIG_WORKER) {
		reply_error(call, 403, "NotAVoter",
			    STR("This node is a worker: it holds no key that signs tokens. Ask at a voter's "
				"admin socket."));
		return;
	}
	if (api_control(call->api)->tokens == NULL) {
		reply_error(call, 503, "KeysUnavailable", STR("the issuer's keys are not known here yet"));
		return;
	}
	if (token_issue(api_control(call->api)->tokens, &request, &token, &err) < 0) {
		reply_error(call, 400, "InvalidToken", str_of(err.message));
		return;
	}
	clock_text(now + (uint64_t)(ask->ttl_s != 0 ? ask->ttl_s : TOKEN_LIFE_S) * 1000, expires);
	reply_json(call, 200, json_pack("{s:s%, s:s}", "token", token.p, token.n, "expiresAt", expires));
}

/* -- Images -------------------------------------------------------------------------------------------------- */

/* A call of sandboxd on behalf of a request, which may be gone when the answer comes. */
struct asked {
	struct api *api;
	uint64_t id; /* of the request */
};

static void ask_sandboxd(struct api_call *call, uint8_t type, const void *body, int fd,
			 sandboxd_replied *replied)
{
	struct asked *asked = malloc(sizeof *asked);

	must(asked != NULL);
	*asked = (struct asked){call->api, call->request->id};
	sandboxd_client_call(api_control(call->api)->sandboxd, type, body, fd, 0, replied, asked);
}

/* The request, or NULL. */
static struct api_call *take_asked(void *arg, int fd)
{
	struct asked *asked = arg;
	struct api_call *call = api_call_of(asked->api, asked->id);

	if (fd >= 0)
		close(fd);
	free(asked);
	return call;
}

static void on_images(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	struct api_call *call = take_asked(arg, fd);
	json_t *list = json_array();
	char used[CLOCK_TEXT_SIZE];

	(void)context;
	if (call == NULL) {
		json_decref(list);
		return;
	}
	if (reply->code < 0) {
		json_decref(list);
		reply_error(call, 503, "ImagesUnavailable", reply->message);
		return;
	}
	for (uint32_t i = 0; i < reply->n_images; i++) {
		const struct sandboxd_image_state *image = &reply->images[i];

		json_array_append_new(list, json_pack("{s:s%, s:s%, s:I, s:i, s:s}", "digest",
						      image->digest.p, image->digest.n, "reference",
						      image->reference.n > 0 ? image->reference.p : "",
						      image->reference.n, "bytes", (json_int_t)image->bytes,
						      "users", (int)image->users, "lastUsed",
						      clock_text(image->last_used_ms, used)));
	}
	reply_json(call, 200, json_pack("{s:o}", "value", list));
}

/* The images actor says it to the cluster, so that pools can be placed here at once. */
static void tell_image(struct control *c, struct str digest)
{
	CLEANUP_BUF struct buf body = {0};
	struct msg_cached cached = {.digest = digest};
	struct address to = {ADDRESS_IMAGES, c->config.node_id, 0};
	struct envelope e = control_message(c, &body, to, MSG_CACHED, &cached);

	control_deliver(c, &e);
}

static void on_imported(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	struct api_call *call = take_asked(arg, fd);

	if (reply->code == 0)
		tell_image(context, reply->digest);
	if (call == NULL)
		return;
	struct str reference = call->outcome.import.reference;

	if (reply->code < 0) {
		reply_error(call, reply->code == -ENOTCONN ? 503 : 400, "ImageImportFailed", reply->message);
		return;
	}
	reply_json(call, 200,
		   json_pack("{s:s%, s:s%}", "digest", reply->digest.p, reply->digest.n, "reference",
			     reference.p, reference.n));
}

static void on_pruned(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	if (reply->code == 0)
		tell_image(context, STR_NONE);
	on_images(context, arg, reply, fd);
}

static void run_prune(struct api_call *call)
{
	struct str wanted[IMAGES_WANTED_MAX];
	struct sandboxd_images q = {.sweep = SANDBOXD_SWEEP_UNUSED, .wanted = wanted};

	q.n_wanted = state_images_wanted(api_control(call->api)->state, wanted, IMAGES_WANTED_MAX);
	if (q.n_wanted > IMAGES_WANTED_MAX) {
		reply_error(call, 409, "TooManyImages", STR("the pools name too many images to prune"));
		return;
	}
	ask_sandboxd(call, SANDBOXD_IMAGES, &q, -1, on_pruned);
}

static void on_forgotten(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	struct api_call *call = take_asked(arg, fd);

	if (reply->code == 0)
		tell_image(context, STR_NONE);
	if (call == NULL)
		return;
	struct str digest = call->outcome.forget;

	if (reply->code == 0)
		reply_json(call, 200, json_pack("{s:s%}", "digest", digest.p, digest.n));
	else if (reply->code == -ENOENT)
		reply_error(call, 404, "ImageNotFound", reply->message);
	else if (reply->code == -EBUSY)
		reply_error(call, 409, "ImageInUse", reply->message);
	else
		reply_error(call, reply->code == -ENOTCONN ? 503 : 400, "ImageRemovalFailed", reply->message);
}

/* The archive lies on this host; only the admin socket may name a path, and berthd opens it with its own rights. */
static void run_import(struct api_call *call)
{
	const struct arm_import_ask *ask = &call->outcome.import;
	struct sandboxd_image image = {.reference = ask->reference};
	struct err err = {0};
	struct stat st;
	char path[PATH_MAX];

	if (str_copy(ask->path, path, sizeof path) < 0 || path[0] != '/') {
		reply_error(call, 400, "InvalidPath", STR("path: an absolute path is needed"));
		return;
	}
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))) {
		err_system(&err, fd < 0 ? -errno : -EINVAL, "path: %s cannot be read by the daemon's user",
			   path);
		reply_error(call, 400, "InvalidPath", str_of(err.message));
		return;
	}
	ask_sandboxd(call, SANDBOXD_IMPORT, &image, fd, on_imported);
}

/* -- Logs: pulled piece by piece from the sandbox's node, which may be this one ------------------------------------ */

static void ask_piece(struct api_call *call, uint32_t tail)
{
	struct msg_log ask = {.sandbox = call->outcome.logs.sandbox,
			      .offset = call->log_offset,
			      .tail = tail,
			      .pool = call->outcome.logs.pool,
			      .older = call->log_older};

	call->waits = true;
	call->deadline_ms = clock_boot_ms() + LOG_ANSWER_MS;
	api_send(call, (struct address){ADDRESS_CONTROL, call->outcome.logs.node, 0}, MSG_LOG, &ask);
}

static void on_poll(struct loop_timer *timer)
{
	ask_piece(container_of(timer, struct api_call, poll), 0);
}

/* Which node has the log of the sandbox that ended last, of those that fit? Each is asked. */
static void find_log(struct api_call *call)
{
	const struct arm_logs_ask *ask = &call->outcome.logs;
	const struct state *state = api_control(call->api)->state;
	struct msg_log question = {.sandbox = ask->sandbox, .pool = ask->pool, .tag = ask->tag, .find = true};

	call->finds_left = 1; /* one more than nodes: a refusal may come at once */
	call->deadline_ms = clock_boot_ms() + FIND_MS;
	for (const struct node_row *n = state_next_node(state, NULL); n != NULL;
	     n = state_next_node(state, n)) {
		call->finds_left++;
		api_send(call, (struct address){ADDRESS_CONTROL, n->id, 0}, MSG_LOG, &question);
	}
	tasks_found(call, 0, &(struct msg_logged){.code = -ENOENT});
}

void tasks_found(struct api_call *call, uint64_t node, const struct msg_logged *found)
{
	struct arm_logs_ask *ask = &call->outcome.logs;

	if (found != NULL && found->code == 0 && found->ended_ms >= call->found_ms) {
		call->found_ms = found->ended_ms;
		ask->node = node;
		ask->sandbox = found->sandbox;
	}
	call->finds_left = found == NULL ? 0 : call->finds_left - 1;
	if (call->finds_left > 0)
		return;
	if (ask->node == 0) {
		reply_error(call, 404, "SandboxNotFound",
			    STR("There is no such sandbox in this pool now, and no node that answered has "
				"the log "
				"of one that ended: it was empty, or is over its retention."));
		return;
	}
	call->log_older = ask->tail == 0;
	ask_piece(call, ask->tail);
}

static void run_logs(struct api_call *call)
{
	call->poll.fire = on_poll;
	if (call->outcome.logs.node == 0)
		find_log(call);
	else
		ask_piece(call, call->outcome.logs.tail);
}

/* The rotated part of an ended one's log is over, or there is none. */
static bool newer_part(struct api_call *call, const struct msg_logged *piece)
{
	if (!call->log_older || (piece->code != -ENOENT && (piece->code < 0 || piece->bytes.n > 0)))
		return false;
	call->log_older = false;
	call->log_offset = 0;
	ask_piece(call, 0);
	return true;
}

void tasks_logged(struct api_call *call, const struct msg_logged *piece)
{
	struct control *c = api_control(call->api);
	uint64_t id = call->request->id;

	call->waits = false; /* until the next piece is asked for */
	if (newer_part(call, piece))
		return;
	if (piece->code < 0) {
		if (!call->streaming) {
			reply_error(call, piece->code == -ENOENT ? 404 : 503, "LogUnavailable",
				    piece->message);
			return;
		}
		gateway_api_end(c->gateway, id, true);
		api_drop(call);
		return;
	}
	if ((!call->streaming && !api_stream(call, "text/plain; charset=utf-8")) ||
	    (piece->bytes.n > 0 && gateway_api_chunk(c->gateway, id, piece->bytes) < 0)) {
		api_drop(call);
		return;
	}
	call->log_offset = piece->offset;
	if (piece->bytes.n > 0) {
		; /* the next when the client took it */
	} else if (call->outcome.logs.follow && state_sandbox(c->state, call->outcome.logs.sandbox) != NULL) {
		loop_timer_set(&c->loop, &call->poll, POLL_MS);
	} else {
		gateway_api_end(c->gateway, id, true);
		api_drop(call);
	}
}

void tasks_taken(struct api_call *call)
{
	if (!call->waits)
		ask_piece(call, 0);
}

struct log_read {
	struct control *control;
	struct address asker;
	uint64_t correlation;
	struct msg_log ask;
};

static void answer_log(struct log_read *l, const struct msg_logged *piece)
{
	struct control *c = l->control;
	CLEANUP_BUF struct buf body = {0};
	struct envelope e = control_message(c, &body, l->asker, MSG_LOGGED, piece);

	e.correlation = l->correlation;
	control_send(c, &e);
	free(l);
}

/* Where the last `lines` lines of the file begin, looking at its last 256 KiB at most. */
static uint64_t tail_offset(int fd, uint64_t size, uint32_t lines)
{
	size_t window = size < 262144 ? (size_t)size : 262144;
	CLEANUP_FREE char *text = malloc(window + 1);
	ssize_t got = text == NULL ? -1 : pread(fd, text, window, (off_t)(size - window));

	for (ssize_t i = got - 1; i > 0; i--) {
		if (text[i - 1] == '\n' && i < got && lines-- == 1)
			return size - window + (uint64_t)i;
	}
	return size - window;
}

static void on_log(void *context, void *arg, const struct sandboxd_reply *reply, int fd_in)
{
	struct log_read *l = arg;
	CLEANUP_FD int fd = fd_in;
	char bytes[LOG_PIECE_MAX];
	struct stat st;

	(void)context;
	if (reply->code == 0 && l->ask.find) {
		answer_log(l, &(struct msg_logged){.sandbox = reply->sandbox, .ended_ms = reply->wall_ms});
		return;
	}
	if (reply->code < 0 || fd < 0 || fstat(fd, &st) < 0) {
		answer_log(l, &(struct msg_logged){.code = reply->code < 0 ? reply->code : -EIO,
						   .message = reply->message});
		return;
	}
	uint64_t offset =
		l->ask.tail > 0 ? tail_offset(fd, (uint64_t)st.st_size, l->ask.tail) : l->ask.offset;

	if (offset > (uint64_t)st.st_size)
		offset = 0; /* it was rotated */
	ssize_t got = pread(fd, bytes, sizeof bytes, (off_t)offset);

	if (got < 0)
		answer_log(l, &(struct msg_logged){.code = -errno, .message = STR("the log cannot be read")});
	else
		answer_log(l, &(struct msg_logged){.bytes = {bytes, (size_t)got},
						   .offset = offset + (uint64_t)got});
}

void tasks_log(struct control *c, const struct envelope *request)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct log_read *l = calloc(1, sizeof *l);

	must(l != NULL);
	*l = (struct log_read){.control = c, .asker = request->from, .correlation = request->correlation};
	if (codec_decode(request->body.p, request->body.n, message_body_codec[MSG_LOG], &arena, &l->ask,
			 NULL) < 0) { /* its text is valid until the call below alone */
		free(l);
		return;
	}
	struct sandboxd_log ask = {
		.sandbox = l->ask.sandbox, .pool_uid = l->ask.pool, .tag = l->ask.tag, .older = l->ask.older};

	sandboxd_client_call(c->sandboxd, SANDBOXD_LOG, &ask, -1, loop_now(&c->loop) + LOG_ANSWER_MS, on_log,
			     l);
}

/* Billing records are on voters' disks; what other nodes' sandboxes wrote is not shown to a worker. */
static bool is_for_voters(const struct api_call *call)
{
	return call->outcome.task == ARM_TASK_EXPORT ||
	       (call->outcome.task == ARM_TASK_LOGS &&
		call->outcome.logs.node != api_control(call->api)->config.node_id);
}

void tasks_run(struct api_call *call)
{
	if (api_control(call->api)->config.role == CONFIG_WORKER && is_for_voters(call)) {
		reply_error(
			call, 403, "NotAVoter",
			STR("This node is a worker: it has no billing records, and logs of its own sandboxes "
			    "alone. Ask a voter."));
		return;
	}
	switch ((enum arm_task)call->outcome.task) {
	case ARM_TASK_TOKEN:
		run_token(call);
		return;
	case ARM_TASK_LOGS:
		run_logs(call);
		return;
	case ARM_TASK_IMAGES:
		ask_sandboxd(call, SANDBOXD_IMAGES, &(struct sandboxd_images){0}, -1, on_images);
		return;
	case ARM_TASK_PRUNE:
		run_prune(call);
		return;
	case ARM_TASK_FORGET:
		ask_sandboxd(call, SANDBOXD_FORGET, &(struct sandboxd_image){.digest = call->outcome.forget},
			     -1, on_forgotten);
		return;
	case ARM_TASK_NODE:
		node_ask(call);
		return;
	case ARM_TASK_EXPORT:
		export_run(call);
		return;
	case ARM_TASK_STATUS:
		status_run(call);
		return;
	case ARM_TASK_CA:
		joining_ca_run(call);
		return;
	case ARM_TASK_JOIN_TOKEN:
		joining_token_run(call);
		return;
	case ARM_TASK_JOIN:
		joining_run(call);
		return;
	case ARM_TASK_LEAVE:
		joining_leave_run(call);
		return;
	case ARM_TASK_ROTATE:
		rotation_run(call);
		return;
	case ARM_TASK_BACKUP:
		backup_run(call);
		return;
	case ARM_TASK_IMPORT:
		run_import(call);
		return;
	case ARM_TASKS:
		break;
	}
	must(false);
}
