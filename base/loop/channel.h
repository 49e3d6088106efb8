/* channel.h -- packets with descriptors between processes: a SOCK_SEQPACKET unix socket.
 *
 * Each packet is one message, at most CHANNEL_BYTES_MAX, with at most CHANNEL_FDS_MAX descriptors (SCM_RIGHTS, close-on-exec).
 * Failure modes: a truncated packet, too many descriptors, a full queue or the other side's end close the channel:
 * on_closed once, with the reason. Sending never blocks: what the kernel does not take waits, at most CHANNEL_QUEUE_MAX packets.
 * Thread: the loop's. Owner: the caller; the memory goes after on_closed. No callback inside a call. */
#ifndef LOOP_CHANNEL_H
#define LOOP_CHANNEL_H

#include "core/err.h"
#include "loop/loop.h"

#define CHANNEL_BYTES_MAX (512u * 1024)
#define CHANNEL_FDS_MAX   4
#define CHANNEL_QUEUE_MAX 4096

struct channel;

struct channel_ops {
	/* The bytes are valid during the call; the descriptors belong to the callee. */
	void (*on_message)(struct channel *c, void *arg, const void *p, size_t n, const int *fds,
			   size_t n_fds);
	/* `error` is 0 when the owner closed it or the other side ended, else -errno. The last call. */
	void (*on_closed)(struct channel *c, void *arg, int error);
};

/* Takes the socket; on failure it stays the caller's. */
int channel_open(struct loop *l, int fd, const struct channel_ops *ops, void *arg, struct channel **ret,
		 struct err *err);
/* Connects to a socket file (a local connect does not block for long: -EAGAIN when the other side's backlog is full).
 * With `uid` other than -1 the listener must run as that user or as root (SO_PEERCRED), else -EPERM. */
int channel_connect(struct loop *l, const char *path, uid_t uid, const struct channel_ops *ops, void *arg,
		    struct channel **ret, struct err *err);
/* 0, also when queued: the descriptors are copied and stay the caller's. -EMSGSIZE; -EPIPE closed;
 * -ENOBUFS: the queue is full. */
int channel_send(struct channel *c, const void *p, size_t n, const int *fds, size_t n_fds);
void channel_close(struct channel *c);

#endif
