/* image_calls.c -- the image store's calls, each on a thread: a registry that hangs delays nobody. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/fd.h"
#include "image/image.h"
#include "sandboxd/server_state.h"

struct image_job {
	struct job job;
	struct server *s;
	struct asker asker;
	struct arena arena;
	enum sandboxd_type type;
	struct sandboxd_image *request;
	struct sandboxd_images *sweep; /* IMAGES, instead of the request */
	int fd;                        /* of an IMPORT */
	char digest[IMAGE_DIGEST_SIZE];
	uint16_t exposed_port;
	struct sandboxd_image_state *images;
	uint32_t n_images;
	int code;
	struct err err;
};

static void find_port(struct image_job *j)
{
	const struct image *image;

	if (image_acquire(j->s->o.store, str_of(j->digest), &image, NULL) < 0)
		return;
	if (image->config->n_exposed_ports > 0 && image->config->exposed_ports[0] <= UINT16_MAX)
		j->exposed_port = (uint16_t)image->config->exposed_ports[0];
	image_release(j->s->o.store, image);
}

/* A sweep, then what is here; of a sweep of the unused, what went. */
static int list(struct image_job *j)
{
	struct image_store *store = j->s->o.store;
	const struct sandboxd_images *q = j->sweep;
	struct image_state *found = NULL;
	size_t n = 0;
	int r = 0;

	if (q->sweep != SANDBOXD_SWEEP_NONE)
		r = image_sweep(store,
				q->sweep == SANDBOXD_SWEEP_UNUSED ? IMAGE_SWEEP_UNUSED : IMAGE_SWEEP_BOUNDS,
				q->wanted, q->n_wanted, &j->arena, &found, &n);
	if (r == 0 && q->sweep != SANDBOXD_SWEEP_UNUSED)
		r = image_list(store, &j->arena, &found, &n);
	if (r < 0)
		return err_set(&j->err, r, "list images");
	j->images = arena_array(&j->arena, n + 1, sizeof *j->images);
	if (j->images == NULL)
		return err_set(&j->err, -ENOMEM, "list images: no memory");
	for (size_t i = 0; i < n && i < IMAGES_LISTED_MAX; i++) {
		j->images[i] = (struct sandboxd_image_state){.digest = found[i].digest,
							     .reference = found[i].reference,
							     .bytes = found[i].bytes,
							     .last_used_ms = found[i].last_used_ms,
							     .users = found[i].users};
		j->n_images++;
	}
	return 0;
}

static void run_image(struct job *job)
{
	struct image_job *j = container_of(job, struct image_job, job);
	struct image_store *store = j->s->o.store;
	const struct sandboxd_image *r = j->request;
	struct image_credentials who = {0};

	if (r != NULL)
		who = (struct image_credentials){.username = r->username, .password = r->password};
	switch (j->type) {
	case SANDBOXD_RESOLVE:
		j->code = image_resolve(store, r->reference, &who, j->digest, &j->err);
		return;
	case SANDBOXD_PULL:
		j->code = image_pull(store, r->reference, r->digest, &who, NULL, NULL, j->digest, &j->err);
		if (j->code == 0)
			find_port(j);
		return;
	case SANDBOXD_IMPORT:
		j->code = image_import(store, j->fd, r->reference, j->digest, &j->err);
		if (j->code == 0)
			find_port(j);
		return;
	case SANDBOXD_IMAGES:
		j->code = list(j);
		return;
	case SANDBOXD_FORGET:
		j->code = image_forget(store, r->digest, &j->err);
		return;
	case SANDBOXD_HELLO:
	case SANDBOXD_START:
	case SANDBOXD_STOP:
	case SANDBOXD_LIST:
	case SANDBOXD_DIAL:
	case SANDBOXD_LOG:
	case SANDBOXD_FENCE:
	case SANDBOXD_EGRESS:
	case SANDBOXD_HOLDINGS:
	case SANDBOXD_PARK:
	case SANDBOXD_REPLY:
	case SANDBOXD_EXITED:
	case SANDBOXD_NETWORK:
	case SANDBOXD_ABLE:
	case SANDBOXD_SAVE:
	case SANDBOXD_GO_ON:
	case SANDBOXD_SAVED:
	case SANDBOXD_RECEIVE:
	case SANDBOXD_RECEIVED:
	case SANDBOXD_TYPES:
		break;
	}
	j->code = err_set(&j->err, -EINVAL, "not a call of images");
}

static void run_clean(struct job *job)
{
	image_clean(container_of(job, struct image_job, job)->s->o.store);
}

static void done_clean(struct job *job)
{
	free(container_of(job, struct image_job, job));
}

/* Behind the answer: a large tree takes a while. What is not removed now the next sweep, or start, removes. */
static void clean_later(struct server *s)
{
	struct image_job *j = calloc(1, sizeof *j);

	if (j == NULL)
		return;
	*j = (struct image_job){.job = {.run = run_clean, .done = done_clean}, .s = s, .fd = -1};
	if (jobs_post(s->image_work, &j->job) < 0)
		free(j);
}

static void free_image_job(struct image_job *j)
{
	fd_close(&j->fd);
	arena_done(&j->arena);
	free(j);
}

static void done_image(struct job *job)
{
	struct image_job *j = container_of(job, struct image_job, job);
	struct sandboxd_reply r = {.code = j->code,
				   .message = j->code < 0 ? str_of(j->err.message) : STR_NONE,
				   .digest = str_of(j->digest),
				   .images = j->images,
				   .n_images = j->n_images,
				   .exposed_port = j->exposed_port};

	if (j->code == -ENOTSUP && r.message.n == 0)
		r.message = STR("this node has no image store");
	reply(j->s, &j->asker, &r, -1);
	if (j->type == SANDBOXD_IMAGES && j->sweep->sweep != SANDBOXD_SWEEP_NONE)
		clean_later(j->s);
	free_image_job(j);
}

void image_call(struct server *s, const struct packet *p, int fd, struct asker asker)
{
	struct image_job *j;
	struct err err = {0};
	int r = 0;

	if (s->o.store == NULL)
		r = err_set(&err, -ENOTSUP, "this node has no image store");
	else if (p->type == SANDBOXD_IMPORT && fd < 0)
		r = err_set(&err, -EINVAL, "import: no descriptor of an archive came with it");
	j = r == 0 ? calloc(1, sizeof *j) : NULL;
	if (j == NULL) {
		fd_close(&fd);
		reply_code(s, &asker, r < 0 ? r : -ENOMEM, &err);
		return;
	}
	*j = (struct image_job){.job = {.run = run_image, .done = done_image},
				.s = s,
				.asker = asker,
				.type = p->type,
				.fd = fd};
	void *body = codec_clone(&j->arena, sandboxd_body_codec[p->type], &p->body);

	if (p->type == SANDBOXD_IMAGES)
		j->sweep = body;
	else
		j->request = body;
	r = body == NULL ? err_set(&err, -ENOMEM, "no memory") : 0;
	if (r == 0) {
		r = jobs_post(s->image_work, &j->job);
		if (r < 0)
			err_set(&err, r, "too many calls of images are under way");
	}
	if (r < 0) {
		free_image_job(j);
		reply_code(s, &asker, r, &err);
	}
}
