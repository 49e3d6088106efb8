#include "channel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/fd.h"

#define PORTS    "/sys/class/virtio-ports"
#define OUT_FULL (64u * 1024)
#define OUT_MAX  (4 * OUT_FULL)
#define IN_MAX   (GUEST_FRAME_MAX + 65536)

/* The device of the port with our name, among those that the kernel lists. */
static bool find_port(char *ret, size_t size)
{
	DIR *ports = opendir(PORTS);
	struct dirent *entry;
	bool found = false;

	while (!found && ports != NULL && (entry = readdir(ports)) != NULL) {
		CLEANUP_BUF struct buf name = {0};
		char path[512];

		snprintf(path, sizeof path, PORTS "/%s/name", entry->d_name);
		found = fd_read_file(path, 256, &name, NULL) == 0 &&
			str_eq(buf_str(&name), STR(GUEST_PORT "\n"));
		if (found)
			snprintf(ret, size, "/dev/%s", entry->d_name);
	}
	if (ports != NULL)
		closedir(ports);
	return found;
}

int channel_open(struct channel *c, int timeout_ms, struct err *err)
{
	char path[300];

	for (int ms = 0; !find_port(path, sizeof path); ms++) {
		if (ms >= timeout_ms)
			return err_set(err, -ENODEV, "no virtio port %s", GUEST_PORT);
		usleep(1000);
	}
	c->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (c->fd < 0)
		return err_system(err, -errno, "open %s", path);
	/* Once, so that secrets are in one place. What is not written to costs nothing. */
	if (buf_reserve(&c->in, IN_MAX) == NULL || buf_reserve(&c->out, OUT_MAX) == NULL)
		return err_set(err, -ENOMEM, "no memory for the channel");
	c->out.max = OUT_MAX;
	return 0;
}

/* -- Out ------------------------------------------------------------------------------------------------------ */

bool channel_full(const struct channel *c)
{
	return c->out.n >= OUT_FULL;
}

void channel_flush(struct channel *c)
{
	while (c->out.n > 0) {
		ssize_t n = write(c->fd, c->out.p, c->out.n);

		if (n <= 0)
			return; /* full, or nobody is there: poll tells */
		buf_drop(&c->out, (size_t)n);
	}
}

void channel_send(struct channel *c, enum guest_frame_type type, const struct codec_type *body,
		  const void *value)
{
	size_t before = c->out.n;

	/* Outputs end at OUT_FULL and answers are as many as the host's frames: too many only when it never reads. */
	if (guest_frame_write(&c->out, type, body, value) < 0) {
		c->out.n = before;
		c->out.failed = false;
	}
	channel_flush(c);
}

/* -- In ------------------------------------------------------------------------------------------------------- */

bool channel_fill(struct channel *c)
{
	ssize_t n = -1;

	while (c->in.n < IN_MAX && (n = read(c->fd, c->in.p + c->in.n, IN_MAX - c->in.n)) > 0)
		c->in.n += (size_t)n;
	return n != 0;
}

int channel_next(struct channel *c, struct guest_frame *ret, struct err *err)
{
	size_t size;
	int r;

	if (c->taken > 0) {
		explicit_bzero(c->in.p, c->taken); /* secrets */
		buf_drop(&c->in, c->taken);
		c->taken = 0;
	}
	r = guest_frame_read(c->in.p, c->in.n, GUEST_FRAME_MAX, ret, &size, err);
	if (r < 0)
		return r;
	c->taken = size;
	return size > 0;
}
