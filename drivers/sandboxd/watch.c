#include <errno.h>
#include <sys/epoll.h>

#include "sandboxd/server_state.h"

int watch_add(struct server *s, struct watch *w, int fd, uint32_t events, struct err *err)
{
	struct epoll_event e = {.events = events, .data.ptr = w};

	w->fd = fd;
	if (epoll_ctl(s->poll, EPOLL_CTL_ADD, fd, &e) == 0)
		return 0;
	w->fd = -1;
	return err_system(err, -errno, "watch a descriptor");
}

void watch_remove(struct server *s, struct watch *w)
{
	if (w->fd >= 0)
		(void)epoll_ctl(s->poll, EPOLL_CTL_DEL, w->fd, NULL);
	w->fd = -1;
}
