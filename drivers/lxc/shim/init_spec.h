/* init_spec.h -- what berth-shim tells berth-init, the first process in a container, over the stream socket that is
 * berth-init's descriptor 0. Both are of one build: no versions.
 *
 *   init -> shim   one byte INIT_HELLO, with its credentials and the read end of a pipe: the pipe ends without a byte
 *                  when the program was executed, and carries a line for people when it was not
 *   shim -> init   struct init_head, then `bytes` bytes: terminated strings (user, working directory, resolv.conf,
 *                  argv..., env...), then the seccomp filter's instructions
 *   monitor -> shim  struct init_result, after the container has ended */
#ifndef LXC_INIT_SPEC_H
#define LXC_INIT_SPEC_H

#include <stdint.h>

#define INIT_HELLO     'h'
#define INIT_BYTES_MAX (1u << 20)
#define INIT_PATH      "/dev/.berth-init" /* in the container */

struct init_head {
	uint32_t bytes;
	uint32_t n_argv, n_env;
	uint32_t filter_bytes;
};

#define INIT_RESULT_MAGIC 0x62657274u

struct init_result {
	uint32_t magic;
	int32_t error_num; /* liblxc's: exit code N as N << 8, signal S as S << 8 | 0x7f */
};

#endif
