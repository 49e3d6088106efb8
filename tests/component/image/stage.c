#include "stage.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

char base[64], ca[128], host[64], manifest_digest[IMAGE_DIGEST_SIZE], index_digest[IMAGE_DIGEST_SIZE];
const struct image_credentials good = {{"berth", 5}, {"secret", 6}}, wrong = {{"berth", 5}, {"wrong", 5}};

int shell(const char *format, ...)
{
	char command[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	int status = system(command);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* -- Stores ------------------------------------------------------------------------------------------------- */

struct image_store *open_store(const char *name, struct hosts hosts)
{
	char dir[128];
	struct str registries = str_of(hosts.registries), insecure = str_of(hosts.insecure);
	struct str token_hosts = str_of(hosts.token_hosts);
	struct image_store *s = NULL;
	struct err err = {0};
	struct image_options o = {.dir = dir,
				  .fetch_program = FETCH_PROGRAM,
				  .unpack_program = UNPACK_PROGRAM,
				  .pack_program = PACK_PROGRAM,
				  .uid = UNPRIVILEGED,
				  .gid = UNPRIVILEGED,
				  .ca_file = hosts.ca,
				  .registries = &registries,
				  .n_registries = hosts.registries != NULL,
				  .insecure = &insecure,
				  .n_insecure = hosts.insecure != NULL,
				  .token_hosts = &token_hosts,
				  .n_token_hosts = hosts.token_hosts != NULL,
				  .unpacked_bytes_max = 16u << 20,
				  .entries_max = 1000,
				  .disk_bytes_max = hosts.disk_max,
				  .connect_ms = 5000,
				  .stall_ms = hosts.stall_ms};

	snprintf(dir, sizeof dir, "%s/%s", base, name);
	if (image_store_open(&o, &s, &err) < 0)
		fail_msg("%s", err.message);
	return s;
}

struct image_store *open_real(const char *name)
{
	return open_store(name, (struct hosts){.registries = host, .ca = ca});
}

struct str reference_to(const char *image, char text[256])
{
	snprintf(text, 256, "%s/%s", host, image);
	return str_of(text);
}

void expect(int got, int code, const char *says, const struct err *err)
{
	if (got != code || (code != 0 && strstr(err->message, says) == NULL))
		fail_msg("code %d, wanted %d; message '%s', wanted '%s'", got, code, err->message, says);
}

void check_tree(const struct image *image)
{
	const struct image_config *c = image->config;
	char path[PATH_MAX];
	struct stat st;

	assert_int_equal(c->n_entrypoint, 1);
	assert_true(str_eq(c->entrypoint[0], STR("/bin/httpd")));
	assert_int_equal(c->n_cmd, 2);
	assert_true(str_eq(c->cmd[1], STR("-p8080")));
	assert_true(str_eq(c->working_dir, STR("/srv")));
	assert_int_equal(c->n_exposed_ports, 1);
	assert_int_equal(c->exposed_ports[0], 8080);
	assert_int_equal(c->stop_signal, 2);
	assert_int_equal(c->uid, 1000);
	assert_int_equal(c->gid, 1001);
	assert_int_equal(c->n_groups, 1);
	assert_int_equal(c->groups[0], 2000);
	snprintf(path, sizeof path, "%s/srv/one", image->root);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, 1000);
	assert_int_equal(st.st_gid, 1001);
	snprintf(path, sizeof path, "%s/srv/two", image->root);
	assert_int_equal(stat(path, &st), 0);
	snprintf(path, sizeof path, "%s/srv/ä", image->root);
	assert_int_equal(stat(path, &st), 0);
	snprintf(path, sizeof path, "%s/srv/old", image->root);
	assert_int_equal(stat(path, &st), -1);
	snprintf(path, sizeof path, "%s/usr/bin/httpd", image->root);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_nlink, 2);
	snprintf(path, sizeof path, "%s/usr/bin/elevate", image->root);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 04755);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(shell("chroot %s /bin/sh -c 'test -x /bin/httpd'", image->root), 0);
}

/* -- Start and end ------------------------------------------------------------------------------------------ */

int stage_missing(void)
{
	if (geteuid() != 0) {
		fprintf(stderr, "skipped: needs root\n");
		return 77;
	}
	if (shell("command -v docker-registry skopeo umoci busybox openssl htpasswd curl python3 setpriv > "
		  "/dev/null") != 0) {
		fprintf(stderr, "skipped: needs docker-registry, skopeo, umoci, busybox-static, openssl, "
				"apache2-utils, curl, "
				"python3\n");
		return 77;
	}
	return 0;
}

int set_up(void **state)
{
	char path[128], line[256];
	FILE *f;
	int port = 0;

	(void)state;
	snprintf(base, sizeof base, "/tmp/berth-test.%d", getpid());
	snprintf(ca, sizeof ca, "%s/ca.pem", base);
	if (mkdir(base, 0711) < 0 || shell("sh %s/fixture.sh up %s", FIXTURES, base) != 0)
		return -1;
	snprintf(path, sizeof path, "%s/env", base);
	f = fopen(path, "r");
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		(void)sscanf(line, "manifest=%71s", manifest_digest);
		(void)sscanf(line, "index=%71s", index_digest);
		(void)sscanf(line, "port=%d", &port);
	}
	if (f != NULL)
		fclose(f);
	snprintf(host, sizeof host, "127.0.0.1:%d", port);
	return port == 0 ? -1 : 0;
}

int tear_down(void **state)
{
	(void)state;
	return shell("sh %s/fixture.sh down %s", FIXTURES, base);
}
