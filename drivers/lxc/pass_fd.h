/* pass_fd.h -- one message with descriptors over a socket that keeps messages apart. */
#ifndef LXC_PASS_FD_H
#define LXC_PASS_FD_H

#include <stddef.h>
#include <sys/types.h>

#define PASS_FD_MAX 2

/* 0 or -errno. */
int pass_fd_send(int sock, const void *bytes, size_t n, const int *fds, size_t n_fds);
/* The number of bytes, 0 at the end, or -errno. Descriptors that did not come are -1; those that did close on exec. */
ssize_t pass_fd_receive(int sock, void *bytes, size_t size, int ret_fds[PASS_FD_MAX]);

#endif
