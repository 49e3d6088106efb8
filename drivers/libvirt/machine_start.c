/* machine_start.c -- starting one machine.
 *
 * Happy path: its directory, with a link to the image's disk; its tap; the domain, whose QEMU boots; the shim on the agent's channel;
 * the guest says hello, and no process of the image has run; limits are read back; the guest is told what to start, and did; the
 * file `running`. Boots take turns: all of a pool's at once would leave no CPU to requests, nor finish sooner.
 * Failures: whatever was made is removed again; what cannot be, because libvirtd is gone or stuck, is handed to the caller as an
 * instance that is over. A sandboxd that dies meanwhile leaves no `running`: the next one removes the machine. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libvirt/libvirt.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "libvirt_clone/machine_memory.h"
#include "libvirt_xml/domain_xml.h"
#include "machine.h"

#define CREATE_MS 60000u
#define HELLO_MS  60000
#define START_MS  60000

#define MIB (1ull << 20)
/* What the kernel takes of a guest's memory before the image has any of it. */
#define KERNEL_BYTES (40 * MIB)
/* Of a QEMU beside its guest's memory; an emulating one keeps translated code. */
#define QEMU_BYTES      (96 * MIB)
#define EMULATION_BYTES (64 * MIB)

/* With emulation: a processor of the second level (x86-64-v2), which images of today expect. */
#define EMULATED_CPU "Nehalem"

struct start {
	struct libvirt_driver *d;
	const struct driver_start *how;
	struct driver_instance *i;
	char name[MACHINE_NAME_MAX], tap[16];
	char disk[SANDBOX_DIR_MAX + 32], agent[SANDBOX_DIR_MAX + 32];
	bool kvm;
	uint64_t memory_bytes, host_bytes; /* of the guest; of QEMU in all */
	uint8_t mac[EGRESS_MAC], gateway_mac[EGRESS_MAC];
};

/* -- Files and network --------------------------------------------------------------------------------------------- */

static int make_files(struct start *s, struct err *err)
{
	char qemu[SANDBOX_DIR_MAX + 32];
	int r = sandbox_dir_make(s->i->dir, &s->i->meta, err);

	if (r < 0)
		return r;
	snprintf(qemu, sizeof qemu, "%s/qemu", s->i->dir);
	if (mkdir(qemu, 0700) != 0 || chown(qemu, 0, s->how->uid_base) != 0 || chmod(qemu, 0710) != 0)
		return err_system(err, -errno, "mkdir %s", qemu);
	snprintf(s->disk, sizeof s->disk, "%s/qemu/disk", s->i->dir);
	snprintf(s->agent, sizeof s->agent, "%s/qemu/agent", s->i->dir);
	if (s->how->disk == NULL)
		return err_set(err, -EINVAL, "the image has no disk");
	if (link(s->how->disk, s->disk) != 0)
		return err_system(err, -errno, "link %s to %s", s->how->disk, s->disk);
	return 0;
}

/* Asked of the socket's network namespace: /sys may be mounted from another. */
static int read_mac(const char *interface, uint8_t ret[EGRESS_MAC], struct err *err)
{
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq q = {0};

	snprintf(q.ifr_name, sizeof q.ifr_name, "%s", interface);
	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &q) < 0)
		return err_system(err, -errno, "the address of %s", interface);
	memcpy(ret, q.ifr_hwaddr.sa_data, EGRESS_MAC);
	return 0;
}

static int make_network(struct start *s, struct err *err)
{
	int r = egress_attach_tap(s->d->egress, s->how->slot, s->how->egress, s->tap, err);

	egress_mac(s->d->egress, s->how->slot, s->mac);
	return r == 0 ? read_mac(s->tap, s->gateway_mac, err) : r;
}

/* -- The domain ----------------------------------------------------------------------------------------------------- */

static int describe(const struct start *s, struct buf *xml, struct err *err)
{
	const struct driver_limits *l = &s->how->limits;
	CLEANUP_BUF struct buf arguments = {0};
	char emulator[MACHINE_PATH_MAX];

	snprintf(emulator, sizeof emulator, "%s/berth-qemu", s->d->bin_dir);
	machine_memory_xml(&arguments, MACHINE_MEMORY_OWN, s->memory_bytes, NULL);
	struct domain m = {.name = s->name,
			   .kvm = s->kvm,
			   .cpu_model = s->kvm ? NULL : EMULATED_CPU,
			   .uid = s->how->uid_base,
			   .memory_bytes = s->memory_bytes,
			   .vcpus = (l->cpu_milli + 999) / 1000,
			   .cpu_milli = l->cpu_milli,
			   .emulator = emulator,
			   .kernel = s->d->files.vmlinux,
			   .initrd = s->d->files.initrd,
			   .command_line = s->d->command_line,
			   .disk = s->disk,
			   .agent = s->agent,
			   .tap = s->tap,
			   .mac = s->mac,
			   .arguments = buf_str(&arguments)};

	return domain_xml(&m, xml, err);
}

static int create_domain(virConnectPtr c, void *arg, struct err *err)
{
	struct buf *xml = arg;
	virDomainPtr domain = virDomainCreateXML(c, buf_cstr(xml), 0);

	if (domain == NULL)
		return connection_error(err, -EIO, "create the machine");
	virDomainFree(domain);
	return 0;
}

static void free_xml(void *arg)
{
	buf_done(arg);
	free(arg);
}

static int create(const struct start *s, struct err *err)
{
	struct buf *xml = calloc(1, sizeof *xml);
	int r = xml == NULL ? err_set(err, -ENOMEM, "no memory") : describe(s, xml, err);

	if (r == 0)
		r = connection_call(s->d->connection, create_domain, xml, free_xml, CREATE_MS, err);
	if (r != -ETIMEDOUT && xml != NULL)
		free_xml(xml);
	return r;
}

/* -- The guest -------------------------------------------------------------------------------------------------------- */

/* libvirt listens there before its QEMU runs. */
static int connect_agent(const char *path, int *ret_fd, struct err *err)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_system(err, -errno, "socket");
	if (strlen(path) >= sizeof to.sun_path)
		return err_set(err, -ENAMETOOLONG, "%s: too long for a socket; state_dir has to be shorter",
			       path);
	memcpy(to.sun_path, path, strlen(path) + 1);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
		return err_system(err, -errno, "connect to %s", path);
	*ret_fd = fd_take(&fd);
	return 0;
}

static int talk(struct start *s, struct err *err)
{
	struct guest_shim_options o = {.bin_dir = s->d->bin_dir,
				       .dir = s->i->dir,
				       .uid = s->how->logger_uid,
				       .log_bytes = s->how->limits.log_bytes};
	CLEANUP_FD int agent = -1;
	int r = connect_agent(s->agent, &agent, err);

	if (r == 0)
		r = guest_shim_new(&o, agent, &s->i->shim, err);
	return r == 0 ? guest_shim_hello(s->i->shim, HELLO_MS, err) : r;
}

static int start_program(struct start *s, struct err *err)
{
	const struct driver_start *how = s->how;
	char resolv[512] = "";
	struct guest_spec spec = {.argv = how->argv,
				  .n_argv = how->n_argv,
				  .env = how->env,
				  .n_env = how->n_env,
				  .user = how->user,
				  .working_dir = how->working_dir,
				  .mac = s->mac,
				  .gateway_mac = s->gateway_mac,
				  .prefix = 31,
				  .pids_max = how->limits.pids_max,
				  .disk_bytes = how->limits.disk_bytes};
	int r;

	egress_addresses(s->d->egress, how->slot, &spec.address, &spec.gateway);
	if (how->egress)
		egress_resolv_conf(s->d->egress, resolv, sizeof resolv);
	spec.resolv_conf = str_of(resolv);
	r = guest_shim_start(s->i->shim, &spec, START_MS, err);
	s->i->running.started_boot_ms = clock_boot_ms();
	s->i->running.started_wall_ms = clock_wall_ms();
	return r == 0 ? sandbox_dir_write_running(s->i->dir, &s->i->running, err) : r;
}

/* -- All of it --------------------------------------------------------------------------------------------------------- */

static int boot(struct start *s, struct err *err)
{
	struct driver_instance *i = s->i;
	pid_t pid;
	int r;

	while (sem_wait(&s->d->boots) != 0)
		;
	r = create(s, err);
	if (r == 0)
		r = machine_qemu(s->d, s->name, i->meta.uid_base, &pid, &i->running.pid_start, &i->pidfd,
				 err);
	if (r == 0) {
		i->running.pid = pid;
		r = talk(s, err);
	}
	sem_post(&s->d->boots);
	return r;
}

static int start(struct start *s, struct err *err)
{
	int r = make_files(s, err);

	if (r == 0)
		r = make_network(s, err);
	if (r == 0)
		r = boot(s, err);
	if (r == 0)
		r = machine_bound((pid_t)s->i->running.pid, s->disk, &s->how->limits, s->host_bytes, err);
	return r == 0 ? start_program(s, err) : r;
}

static struct driver_instance *new_instance(struct libvirt_driver *d, const struct driver_start *how)
{
	struct driver_instance *i = calloc(1, sizeof *i);

	if (i == NULL)
		return NULL;
	i->meta = (struct sandbox_meta){.sandbox = how->sandbox,
					.pool_uid = how->pool_uid,
					.revision = how->revision,
					.slot = how->slot,
					.uid_base = how->uid_base,
					.target_port = how->target_port,
					.egress = how->egress,
					.stop_signal = how->stop_signal};
	(void)str_copy(how->digest, i->digest, sizeof i->digest);
	i->meta.digest = str_of(i->digest);
	i->pidfd = -1;
	sandbox_dir_path(d->machines, how->sandbox, i->dir);
	return i;
}

int machine_start(struct driver *base, const struct driver_start *how, struct driver_instance **ret,
		  struct err *err)
{
	struct libvirt_driver *d = (struct libvirt_driver *)base;
	struct start s = {.d = d, .how = how, .i = new_instance(d, how)};
	int r;

	*ret = NULL;
	if (s.i == NULL)
		return err_set(err, -ENOMEM, "start sandbox %" PRIu64 ": no memory", how->sandbox);
	machine_name(d, how->sandbox, s.name);
	s.kvm = d->accel.kind == ACCEL_KVM;
	s.memory_bytes = (how->limits.memory_bytes + KERNEL_BYTES + MIB - 1) / MIB * MIB;
	s.host_bytes = s.memory_bytes + QEMU_BYTES + (s.kvm ? 0 : EMULATION_BYTES);
	r = start(&s, err);
	if (r == 0) {
		*ret = s.i;
		return 0;
	}
	/* A directory that was there already is not this start's. */
	if (r == -EEXIST || machine_end(d, s.i, NULL) == 0)
		base->ops->release(base, s.i);
	else
		*ret = s.i;
	return err_wrap(err, "start sandbox %" PRIu64, how->sandbox);
}
