/* The hand-over of descriptors: to which uid, how often, how long; and berth-qemu with a real QEMU behind it, as a sandbox's
 * user, over a sealed memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fd.h"
#include "libvirt_clone/emulator.h"
#include "libvirt_clone/handover.h"

#define UID   1879000000u /* of nobody */
#define OTHER 1879065536u
#define BYTES (16u << 20)

static char dir[] = "/tmp/clones.XXXXXX", path[64], emulator[64];
static struct handover *handover;
static int memory; /* sealed, as a template's */
static struct err err;

static int open_handover(void **state)
{
	(void)state;
	memory = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memory < 0 || ftruncate(memory, BYTES) != 0 || pwrite(memory, "template", 8, 0) != 8 ||
	    fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return -1;
	return handover_new(path, &handover, &err);
}

static int close_handover(void **state)
{
	(void)state;
	handover_free(handover);
	close(memory);
	return access(path, F_OK) == 0;
}

static void become(uint32_t uid)
{
	if (setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0)
		_exit(100);
}

/* In a child that has become this user: its exit status. */
static int as(uint32_t uid, int (*what)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		become(uid);
		_exit(what());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int ask(int fds[EMULATOR_FDS_MAX])
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char byte;
	struct iovec iov = {&byte, 1};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(EMULATOR_FDS_MAX * sizeof(int))];
	} control;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};

	strcpy(a.sun_path, path);
	if (connect(sock, (struct sockaddr *)&a, sizeof a) != 0)
		_exit(101);
	if (recvmsg(sock, &m, 0) <= 0 || CMSG_FIRSTHDR(&m) == NULL)
		return 0;
	size_t bytes = CMSG_FIRSTHDR(&m)->cmsg_len - CMSG_LEN(0);

	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), bytes);
	return (int)(bytes / sizeof(int));
}

/* How many descriptors it gets. */
static int count(void)
{
	int fds[EMULATOR_FDS_MAX];

	return ask(fds);
}

/* -- */

static void its_uid_gets_them_once(void **state)
{
	int two[] = {memory, memory};

	(void)state;
	assert_int_equal(as(UID, count), 0);
	assert_int_equal(handover_offer(handover, UID, two, 2, 10000, &err), 0);
	assert_int_equal(handover_offer(handover, UID, two, 2, 10000, &err), -EBUSY);
	assert_int_equal(as(OTHER, count), 0);
	assert_int_equal(as(0, count), 0);
	assert_int_equal(as(UID, count), 2);
	assert_int_equal(as(UID, count), 0);
	assert_true(handover_withdraw(handover, UID));
	assert_false(handover_withdraw(handover, UID));
}

static void withdrawn_and_late_ones_are_not_given(void **state)
{
	(void)state;
	assert_int_equal(handover_offer(handover, UID, &memory, 1, 10000, &err), 0);
	assert_false(handover_withdraw(handover, UID));
	assert_int_equal(as(UID, count), 0);
	assert_int_equal(handover_offer(handover, UID, &memory, 1, 50, &err), 0);
	usleep(100000);
	assert_int_equal(as(UID, count), 0);
	assert_false(handover_withdraw(handover, UID));
}

/* Peers that never read, and more of them than the backlog takes. */
static int crowd(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	strcpy(a.sun_path, path);
	for (int i = 0; i < 500; i++) {
		int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (sock < 0 || (connect(sock, (struct sockaddr *)&a, sizeof a) != 0 && errno != EAGAIN))
			return 1;
	}
	return 0;
}

static void a_crowd_changes_nothing(void **state)
{
	(void)state;
	assert_int_equal(handover_offer(handover, UID, &memory, 1, 10000, &err), 0);
	assert_int_equal(as(OTHER, crowd), 0);
	assert_int_equal(as(UID, count), 1);
	handover_withdraw(handover, UID);
}

/* What a QEMU that was taken over would try with the descriptor that it has: the number of the first that works. */
static int write_anyhow(void)
{
	int fds[EMULATOR_FDS_MAX], again;
	char again_path[64];

	if (ask(fds) != 1)
		return 102;
	snprintf(again_path, sizeof again_path, "/proc/self/fd/%d", fds[0]);
	again = open(again_path, O_RDWR);
	for (int i = 0; i < 2; i++) {
		int fd = i == 0 ? fds[0] : again;

		if (fd < 0)
			continue;
		if (pwrite(fd, "x", 1, 0) == 1)
			return 10 * i + 1;
		if (mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED)
			return 10 * i + 2;
		void *p = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);

		if (p != MAP_FAILED && mprotect(p, BYTES, PROT_READ | PROT_WRITE) == 0)
			return 10 * i + 3;
		if (ftruncate(fd, 1) == 0 || ftruncate(fd, 2 * BYTES) == 0)
			return 10 * i + 4;
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0)
			return 10 * i + 5;
		/* The control: its own copy it may write. */
		char *mine = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

		if (mine == MAP_FAILED || memcmp(mine, "template", 8) != 0)
			return 10 * i + 6;
		mine[0] = 'T';
		if (mine[0] != 'T')
			return 10 * i + 7;
	}
	return 0;
}

static void nobody_writes_a_template(void **state)
{
	char text[9] = "";

	(void)state;
	assert_int_equal(handover_offer(handover, UID, &memory, 1, 10000, &err), 0);
	assert_int_equal(as(UID, write_anyhow), 0);
	handover_withdraw(handover, UID);
	assert_int_equal(pread(memory, text, 8, 0), 8);
	assert_string_equal(text, "template");
}

/* -- berth-qemu --------------------------------------------------------------------------------------------- */

static const char *share = "off";

static int run_qemu(void)
{
	char command[512], text[256];
	FILE *out;

	snprintf(command, sizeof command,
		 "echo quit | %s -machine microvm,memory-backend=m -display none -nodefaults -S -monitor "
		 "stdio -m 16 "
		 "-object memory-backend-file,id=m,size=%u,mem-path=/proc/self/fd/" EMULATOR_FD_TEXT
		 ",share=%s 2>&1",
		 emulator, BYTES, share);
	out = popen(command, "r");
	if (out == NULL)
		return 103;
	while (fgets(text, sizeof text, out) != NULL)
		fprintf(stderr, "  qemu: %s", text);
	int status = pclose(out);

	return WIFEXITED(status) ? WEXITSTATUS(status) : 104;
}

static void qemu_maps_it_privately_and_only_so(void **state)
{
	(void)state;
	setenv(EMULATOR_ENVIRONMENT, path, 1);
	assert_int_not_equal(as(UID, run_qemu), 0); /* nothing is offered */
	assert_int_equal(handover_offer(handover, UID, &memory, 1, 20000, &err), 0);
	assert_int_equal(as(UID, run_qemu), 0);
	assert_true(handover_withdraw(handover, UID));
	share = "on";
	assert_int_equal(handover_offer(handover, UID, &memory, 1, 20000, &err), 0);
	assert_int_not_equal(as(UID, run_qemu), 0);
	assert_true(handover_withdraw(handover, UID));
	unsetenv(EMULATOR_ENVIRONMENT);
}

static int version(void)
{
	return execl(emulator, "qemu", "-version", (char *)NULL);
}

static void without_a_socket_it_is_qemu(void **state)
{
	(void)state;
	assert_int_equal(as(UID, version), 0);
}

static int copy(const char *from, const char *to)
{
	CLEANUP_BUF struct buf b = {0};

	if (fd_read_file(from, 64 << 20, &b, &err) != 0)
		return -1;
	return fd_write_file(to, 0755, b.p, b.n, &err);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_handover, close_handover)

int main(void)
{
	const struct CMUnitTest cases[] = {
		T(its_uid_gets_them_once),
		T(withdrawn_and_late_ones_are_not_given),
		T(a_crowd_changes_nothing),
		T(nobody_writes_a_template),
		T(qemu_maps_it_privately_and_only_so),
		T(without_a_socket_it_is_qemu),
	};

	if (geteuid() != 0 || access(EMULATOR_QEMU, X_OK) != 0) {
		fprintf(stderr, "SKIPPED: needs root and %s (qemu-system-x86)\n", EMULATOR_QEMU);
		return 77;
	}
	if (mkdtemp(dir) == NULL || chmod(dir, 0711) != 0)
		return 1;
	snprintf(path, sizeof path, "%s/handover", dir);
	/* A copy, because others may not reach the build's. */
	snprintf(emulator, sizeof emulator, "%s/berth-qemu", dir);
	if (copy(BERTH_BIN "/berth-qemu", emulator) != 0)
		return 1;
	int failed = cmocka_run_group_tests_name("handover", cases, NULL, NULL);

	unlink(emulator);
	rmdir(dir);
	return failed;
}
