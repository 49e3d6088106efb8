#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"
#include "libvirt_boot/boot_files.h"
#include "libvirt_guest/protocol.h"

#define QEMU      "/usr/bin/qemu-system-x86_64"
#define BUSYBOX   "/bin/busybox"
#define BOOT_MS   180000
#define START_MS  60000
#define END_MS    60000
#define MEMORY_MB "128"
#define DISK      (16u << 20)
#define SLOWER    20

static char top[64], image[96], command_line[BOOT_COMMAND_LINE_SIZE], slow_line[BOOT_COMMAND_LINE_SIZE + 40];
static struct boot_files files;

const char *machine_lacks(void)
{
	if (geteuid() != 0)
		return "needs root";
	if (access(QEMU, X_OK) != 0)
		return "needs " QEMU " (qemu-system-x86)";
	if (access(BUSYBOX, X_OK) != 0)
		return "needs " BUSYBOX " (busybox-static)";
	if (access("/usr/bin/mkfs.erofs", X_OK) != 0)
		return "needs mkfs.erofs (erofs-utils)";
	if (system("ls /boot/vmlinuz-*-cloud-amd64 >/dev/null 2>&1") != 0)
		return "needs a kernel for guests (linux-image-cloud-amd64)";
	return NULL;
}

/* Its counter is said to run faster than it does. */
static void make_slow_line(void)
{
	static const char counter[] = " tsc_early_khz=";
	const char *at = strstr(command_line, counter);

	must(at != NULL);
	snprintf(slow_line, sizeof slow_line, "%s%s%lu", command_line, counter,
		 strtoul(at + strlen(counter), NULL, 10) * SLOWER);
}

int machine_files_make(void **state)
{
	struct boot_options o = {.guest = BERTH_BIN "/berth-guest"};
	char boot[96], script[1024];
	struct err err = {0};

	(void)state;
	strcpy(top, "/tmp/guest.machine.XXXXXX");
	must(mkdtemp(top) != NULL && chmod(top, 0711) == 0);
	snprintf(boot, sizeof boot, "%s/boot", top);
	snprintf(image, sizeof image, "%s/image.erofs", top);
	o.dir = boot;
	if (boot_files_prepare(&o, &files, &err) < 0) {
		fprintf(stderr, "%s\n", err.message);
		return -1;
	}
	boot_command_line(true, command_line);
	make_slow_line();
	snprintf(script, sizeof script,
		 "set -e; cd %s; mkdir -p root/bin root/etc root/www root/data root/tmp; cp " BUSYBOX
		 " root/bin/; "
		 "for a in $(" BUSYBOX " --list); do test $a = busybox || ln -s busybox root/bin/$a; done; "
		 "echo hello >root/www/index.html; chown 1000:1000 root/data; chmod 1777 root/tmp; "
		 "printf 'root:x:0:0:root:/root:/bin/sh\\nweb:x:1000:1000:web:/home/web:/bin/sh\\n' "
		 ">root/etc/passwd; "
		 "printf 'root:x:0:\\nweb:x:1000:\\nextra:x:2000:web\\n' >root/etc/group; "
		 "mkfs.erofs --quiet %s root >/dev/null 2>&1; rm -r root",
		 top, image);
	return system(script) == 0 ? 0 : -1;
}

int machine_files_remove(void **state)
{
	char script[128];

	(void)state;
	snprintf(script, sizeof script, "rm -rf %s", top);
	return system(script);
}

static void give_up(const char *what, const struct err *err)
{
	fprintf(stderr, "%s: %s\n", what, err->message);
	must(err->code == 0);
}

/* -- QEMU ----------------------------------------------------------------------------------------------------- */

static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0 &&
	     getsockname(fd, (struct sockaddr *)&a, &n) == 0);
	return ntohs(a.sin_port);
}

static void run_qemu(struct machine *m, const char *agent, const char *incoming)
{
	char drive[200], channel[200], net[160], console[128], monitor[160];

	snprintf(drive, sizeof drive, "id=d,file=%s,format=raw,if=none,readonly=on", image);
	snprintf(channel, sizeof channel, "socket,id=a,path=%s,server=on,wait=off", agent);
	snprintf(net, sizeof net, "user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:%d-10.0.2.15:8080", m->port);
	snprintf(console, sizeof console, "file:%s/console", m->dir);
	snprintf(monitor, sizeof monitor, "unix:%s/monitor,server=on,wait=off", m->dir);
	const char *const argv[] = {QEMU,
				    "-M",
				    "microvm,acpi=on,pit=on,pic=on,rtc=off",
				    "-accel",
				    "tcg,tb-size=32",
				    "-cpu",
				    m->slow ? "qemu64,+rdrand" : "qemu64",
				    "-m",
				    MEMORY_MB,
				    "-smp",
				    "1",
				    "-nodefaults",
				    "-no-user-config",
				    "-display",
				    "none",
				    "-no-reboot",
				    "-kernel",
				    files.vmlinux,
				    "-initrd",
				    files.initrd,
				    "-append",
				    m->slow ? slow_line : command_line,
				    "-serial",
				    console,
				    "-drive",
				    drive,
				    "-device",
				    "virtio-blk-device,drive=d",
				    "-device",
				    "virtio-serial-device",
				    "-chardev",
				    channel,
				    "-device",
				    "virtserialport,chardev=a,name=" GUEST_PORT,
				    "-netdev",
				    net,
				    "-device",
				    "virtio-net-device,netdev=n,mac=52:54:00:00:00:01",
				    "-monitor",
				    monitor,
				    incoming != NULL ? "-incoming" : NULL,
				    incoming,
				    NULL};

	m->qemu = fork();
	must(m->qemu >= 0);
	if (m->qemu == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execv(QEMU, (char *const *)(uintptr_t)argv);
		_exit(127);
	}
}

static int connect_agent(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(strlen(path) < sizeof a.sun_path);
	memcpy(a.sun_path, path, strlen(path) + 1);
	for (int ms = 0; connect(fd, (struct sockaddr *)&a, sizeof a) != 0; ms += 10) {
		must(ms < BOOT_MS);
		usleep(10000);
	}
	return fd;
}

/* The connection stays: with its end QEMU forgets what it was told. */
static void write_monitor(struct machine *m, const char *text)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	m->monitor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(a.sun_path, sizeof a.sun_path, "%s/monitor", m->dir);
	must(connect(m->monitor, (struct sockaddr *)&a, sizeof a) == 0 &&
	     fd_write_all(m->monitor, text, strlen(text)) == 0);
}

/* The guest's end of the channel may not be there yet: QEMU keeps what is said until it is. */
static void meet(struct machine *m, const char *incoming)
{
	struct guest_shim_options o = {.bin_dir = BERTH_BIN, .uid = 61235, .log_bytes = 1 << 20};
	char agent[128];
	struct err err = {0};

	snprintf(m->dir, sizeof m->dir, "%s/m", top);
	must(mkdir(m->dir, 0711) == 0);
	snprintf(agent, sizeof agent, "%s/agent", m->dir);
	run_qemu(m, agent, incoming);
	CLEANUP_FD int fd = connect_agent(agent);

	o.dir = m->dir;
	if (guest_shim_new(&o, fd, &m->shim, &err) < 0 || guest_shim_hello(m->shim, BOOT_MS, &err) < 0)
		give_up("the machine does not boot", &err);
}

static void boot(struct machine *m, bool slow)
{
	uint64_t begun = clock_boot_ms();

	*m = (struct machine){.port = free_port(), .monitor = -1, .slow = slow};
	meet(m, NULL);
	printf("hello of Linux %s after %llu ms\n", guest_shim_release(m->shim),
	       (unsigned long long)(clock_boot_ms() - begun));
}

void machine_boot(struct machine *m)
{
	boot(m, false);
}

void machine_boot_slow(struct machine *m)
{
	boot(m, true);
}

void machine_save(struct machine *m)
{
	char command[256];

	snprintf(command, sizeof command, "migrate \"exec:cat > %s/saved\"\nquit\n", top);
	write_monitor(m, command);
	waitpid(m->qemu, NULL, 0);
	m->qemu = 0;
	machine_wait(m);
}

void machine_restore(struct machine *m)
{
	char incoming[160];
	int port = m->port;
	bool slow = m->slow;

	machine_done(m);
	m->port = port;
	m->slow = slow;
	snprintf(incoming, sizeof incoming, "exec:cat %s/saved", top);
	meet(m, incoming);
}

int machine_start(struct machine *m, const char *const *argv, const char *user, struct err *err)
{
	static const uint8_t mac[6] = {0x52, 0x54, 0, 0xaa, 0xbb, 1};
	static const uint8_t gateway_mac[6] = {0x52, 0x55, 10, 0, 2, 2}; /* QEMU's own */
	static struct str env[] = {{"GREETING=good day", 17}, {"EMPTY=", 6}};
	struct str strs[16];
	struct guest_spec s = {.argv = strs,
			       .env = env,
			       .n_env = 2,
			       .user = str_of(user),
			       .working_dir = STR("/srv/made"),
			       .hostname = STR("machine-7"),
			       .resolv_conf = STR("nameserver 10.0.2.3\n"),
			       .mac = mac,
			       .gateway_mac = gateway_mac,
			       .address = 0x0a00020f,
			       .gateway = 0x0a000202,
			       .prefix = 24,
			       .pids_max = 64,
			       .disk_bytes = DISK};

	for (; argv[s.n_argv] != NULL; s.n_argv++)
		strs[s.n_argv] = str_of(argv[s.n_argv]);
	return guest_shim_start(m->shim, &s, START_MS, err);
}

void machine_run(struct machine *m, const char *script)
{
	struct err err = {0};

	if (machine_start(m, (const char *const[]){"sh", "-c", script, NULL}, "", &err) < 0)
		give_up("the program does not start", &err);
}

/* -- Its log -------------------------------------------------------------------------------------------------- */

static void read_log(struct machine *m)
{
	CLEANUP_BUF struct buf b = {0};
	char path[128];

	snprintf(path, sizeof path, "%s/log/log", m->dir);
	must(fd_read_file(path, 16u << 20, &b, NULL) == 0);
	free(m->log);
	m->log = strdup(buf_cstr(&b));
}

bool machine_logged(struct machine *m, const char *text)
{
	for (int ms = 0; ms < START_MS; ms += 50) {
		read_log(m);
		if (strstr(m->log, text) != NULL)
			return true;
		usleep(50000);
	}
	fprintf(stderr, "\"%s\" is not in the log:\n%s", text, m->log);
	return false;
}

void machine_wait(struct machine *m)
{
	struct pollfd p = {guest_shim_pidfd(m->shim), POLLIN, 0};

	must(poll(&p, 1, END_MS) == 1);
	guest_shim_exit(m->shim, &m->exit);
	read_log(m);
}

void machine_done(struct machine *m)
{
	char script[160];

	if (m->qemu > 0) {
		kill(m->qemu, SIGKILL);
		waitpid(m->qemu, NULL, 0);
	}
	if (m->shim != NULL) {
		machine_wait(m);
		guest_shim_free(m->shim);
	}
	fd_close(&m->monitor);
	free(m->log);
	snprintf(script, sizeof script, "rm -rf %s", m->dir);
	must(system(script) == 0);
	*m = (struct machine){.monitor = -1};
}
