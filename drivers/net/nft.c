#include "nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fd.h"

#define NFT         "/usr/sbin/nft"
#define ERRORS_MAX  4096
#define LISTING_MAX (4u << 20)

/* `flags`: "-s" and the like; NULL: none. */
static int spawn(const char *flags, int in, int out, int errors, pid_t *ret_pid)
{
	char *const plain[] = {(char[]){"nft"}, (char[]){"-f"}, (char[]){"-"}, NULL};
	char *const flagged[] = {(char[]){"nft"}, (char *)(uintptr_t)flags, (char[]){"-f"}, (char[]){"-"},
				 NULL};
	char *const *argv = flags == NULL ? plain : flagged;
	char *const env[] = {(char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none;
	int r;

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, in, 0);
	posix_spawn_file_actions_adddup2(&files, out, 1);
	posix_spawn_file_actions_adddup2(&files, errors, 2);
	posix_spawn_file_actions_addclosefrom_np(&files, 3);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = posix_spawn(ret_pid, NFT, &files, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -r;
}

/* `out` takes what it prints. */
static int run(struct str batch, const char *flags, int out, struct err *err)
{
	CLEANUP_FD int in = memfd_create("nft", MFD_CLOEXEC);
	CLEANUP_FD int errors = memfd_create("nft", MFD_CLOEXEC);
	CLEANUP_BUF struct buf said = BUF_MAX(ERRORS_MAX);
	pid_t pid = -1;
	int status = -1, r;

	if (in < 0 || errors < 0 || out < 0)
		return err_system(err, -errno, "nft");
	r = fd_write_all(in, batch.p, batch.n);
	if (r == 0 && lseek(in, 0, SEEK_SET) != 0)
		r = -errno;
	if (r == 0)
		r = spawn(flags, in, out, errors, &pid);
	if (r < 0)
		return err_system(err, r, "run %s", NFT);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	(void)lseek(errors, 0, SEEK_SET);
	(void)fd_read_all(errors, &said);
	struct str line, rest;

	str_cut(buf_str(&said), '\n', &line, &rest);
	return err_set(err, -EIO, "nft refused the rules: %.*s", STR_ARGS(line));
}

int nft_apply(struct str batch, struct err *err)
{
	CLEANUP_FD int out = open("/dev/null", O_WRONLY | O_CLOEXEC);

	return run(batch, NULL, out, err);
}

uint64_t nft_fingerprint(const char *table, bool elements)
{
	CLEANUP_FD int out = memfd_create("nft", MFD_CLOEXEC);
	CLEANUP_BUF struct buf text = BUF_MAX(LISTING_MAX);
	char batch[64];

	snprintf(batch, sizeof batch, "list table %s\n", table);
	if (run(str_of(batch), elements ? "-s" : "-st", out, NULL) < 0 || lseek(out, 0, SEEK_SET) != 0 ||
	    fd_read_all(out, &text) < 0)
		return 0;
	return str_hash_stable(buf_str(&text), 0) | 1;
}

/* NFT_MSG_GETGEN is answered by one NFT_MSG_NEWGEN with the attribute NFTA_GEN_ID (linux/netfilter/nf_tables.h). */
int nft_generation(uint32_t *ret)
{
	struct {
		struct nlmsghdr head;
		struct nfgenmsg family;
	} ask = {.head = {.nlmsg_len = sizeof ask,
			  .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN,
			  .nlmsg_flags = NLM_F_REQUEST}};
	CLEANUP_FD int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	_Alignas(struct nlmsghdr) char answer[1024];
	ssize_t n;

	if (s < 0 || send(s, &ask, sizeof ask, 0) != sizeof ask ||
	    (n = recv(s, answer, sizeof answer, 0)) < 0)
		return -errno;
	for (size_t at = NLMSG_LENGTH(sizeof(struct nfgenmsg)); at + sizeof(struct nlattr) <= (size_t)n;) {
		struct nlattr a;
		uint32_t id;

		memcpy(&a, answer + at, sizeof a);
		if (a.nla_type == NFTA_GEN_ID && a.nla_len == sizeof a + sizeof id &&
		    at + a.nla_len <= (size_t)n) {
			memcpy(&id, answer + at + sizeof a, sizeof id);
			*ret = ntohl(id);
			return 0;
		}
		at += a.nla_len > 0 ? (a.nla_len + 3u) & ~3u : sizeof a;
	}
	return -EPROTO;
}

bool nft_has_table(const char *table)
{
	char batch[64];

	snprintf(batch, sizeof batch, "list table %s\n", table);
	return nft_apply(str_of(batch), NULL) == 0;
}
