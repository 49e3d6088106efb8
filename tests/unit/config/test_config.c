/* The configuration file: every wrong line is refused with file, line, option and what is allowed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"
#include "core/buf.h"
#include "core/fd.h"

static const char good[] =
	"# a node\n"
	"node_id = 2\nnode_name = b\n"
	"member = 1 a 127.0.0.1:1 127.0.0.1:2 127.0.0.1:3\n"
	"member = 2 b 127.0.0.1:11 127.0.0.1:12 127.0.0.1:13\n"
	"member = 3 c 127.0.0.1:21 127.0.0.1:22 127.0.0.1:23\n"
	"state_dir = /s\nrun_dir = /r\nlisten = 127.0.0.1:80\napi_url = https://b\naudience = https://b\n"
	"ca_cert = /ca\nnode_cert = /c\nnode_key = /k\nkeyring = /ring\nfirst_keys = /first\n"
	"sandboxd_socket = /r/s\nadmin_socket = /r/a\nuser = berth\n"
	"cluster_id = 00000000-0000-4000-8000-000000000001\ntenant = 00000000-0000-4000-8000-000000000002\n";

static int load(const char *text, struct config *ret, struct err *err)
{
	char path[] = "/tmp/berth-test.config.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	close(fd);
	int r = config_load(path, ret, err);

	unlink(path);
	return r;
}

static void test_good(void **state)
{
	struct config c;
	struct err err = {0};

	(void)state;
	assert_int_equal(load(good, &c, &err), 0);
	assert_int_equal(c.node_id, 2);
	assert_int_equal(c.n_members, 3);
	assert_true(str_eq(c.members[1].control, STR("127.0.0.1:12")));
	assert_true(str_eq(c.members[2].peer, STR("127.0.0.1:23")));
	assert_int_equal(c.cooldown_s_min, 300);
	assert_int_equal(c.sandbox_memory_max, 4ull << 30);
	assert_true(c.cpu_milli >= 1000 && c.memory_bytes > 1 << 20);
	config_done(&c);
}

/* What is in force, printed, is a file that says the same. */
static void test_printed_file_reads_back(void **state)
{
	CLEANUP_BUF struct buf first = {0}, second = {0};
	struct config c, again;
	struct err err = {0};

	(void)state;
	assert_int_equal(load(good, &c, &err), 0);
	config_print(&c, &first);
	assert_int_equal(load(buf_cstr(&first), &again, &err), 0);
	config_print(&again, &second);
	assert_string_equal(buf_cstr(&first), buf_cstr(&second));
	config_done(&c);
	config_done(&again);
}

/* A worker beside three voters: no Raft address, no key ring. */
static void test_worker(void **state)
{
	static const char worker[] =
		"node_id = 4\nnode_name = w\nrole = worker\n"
		"member = 1 a 127.0.0.1:1 127.0.0.1:2 127.0.0.1:3\nmember = 4 w - 127.0.0.1:32 127.0.0.1:33\n"
		"state_dir = /s\nrun_dir = /r\nlisten = 127.0.0.1:80\napi_url = https://w\naudience = "
		"https://b\n"
		"ca_cert = /ca\nnode_cert = /c\nnode_key = /k\n"
		"sandboxd_socket = /r/s\nadmin_socket = /r/a\nuser = berth\n"
		"cluster_id = 00000000-0000-4000-8000-000000000001\n"
		"tenant = 00000000-0000-4000-8000-000000000002\n";
	CLEANUP_BUF struct buf text = {0}, printed = {0};
	struct config c, again;
	struct err err = {0};

	(void)state;
	assert_int_equal(load(worker, &c, &err), 0);
	assert_int_equal(c.role, CONFIG_WORKER);
	assert_true(c.members[0].voter && !c.members[1].voter && c.members[1].raft.n == 0);
	config_print(&c, &printed);
	assert_int_equal(load(buf_cstr(&printed), &again, &err), 0);
	assert_false(again.members[1].voter);
	config_done(&c);
	config_done(&again);
	buf_printf(&text, "%smember = 5 x 127.0.0.1:41 127.0.0.1:42 127.0.0.1:43\n", worker);
	assert_int_equal(load(buf_cstr(&text), &c, &err), -EINVAL);
	assert_non_null(strstr(err.message, "1, 3 or 5 voters are allowed, not 2"));
}

static void test_bad_lines(void **state)
{
	static const struct {
		const char *line, *expect;
	} cases[] = {
		{"nonsense\n", "expected \"name = value\""},
		{"colour = red\n", "unknown option \"colour\""},
		{"node_id = 3\n", "node_id is there twice"},
		{"gateway_loops = 0\n", "gateway_loops: \"0\" is not a number in range"},
		{"gateway_loops = 17\n", "gateway_loops"},
		{"gateway_loops = x\n", "gateway_loops"},
		{"gateway_loops = 99999999999999999999999\n", "gateway_loops"},
		{"memory = 12Q\n", "memory: \"12Q\" is not a size"},
		{"memory = 99999999999Gi\n", "memory"},
		{"vm = maybe\n", "vm: \"maybe\" is not on or off"},
		{"log_level = loud\n", "one of debug, info, warn, error"},
		{"listen_tls = nowhere\n", "listen_tls: expected host:port"},
		{"listen_tls = 127.0.0.1:99999\n", "listen_tls"},
		{"listen_tls = 127.0.0.1:443\n", "listen_tls needs tls_cert and tls_key"},
		{"image_ca = relative/path\n", "image_ca: expected an absolute path"},
		{"member = 4 d 127.0.0.1:31 127.0.0.1:32\n",
		 "member: expected \"ID NAME RAFT CONTROL FORWARD\""},
		{"member = 3 d 127.0.0.1:31 127.0.0.1:32 127.0.0.1:33\n", "member: id 3 is there twice"},
		{"member = 4 d 127.0.0.1:31 127.0.0.1:32 127.0.0.1:33\n", "1, 3 or 5 voters"},
		{"member = 4 d - 127.0.0.1:32 -\n", "of a worker, RAFT is \"-\""},
		{"role = observer\n", "role: \"observer\" is not voter or worker"},
		{"role = worker\n", "role: worker, but this node's member line is a voter's"},
		{"lost_ms = 15000\n", "lost_ms must be above lease_ms"},
		{"cooldown_min = 301\n", "cooldown_min"},
		{"region = \n", "region: 1 to 63 characters"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		CLEANUP_BUF struct buf text = {0};
		struct config c;
		struct err err = {0};

		buf_printf(&text, "%s%s", good, cases[i].line);
		int r = load(buf_cstr(&text), &c, &err);

		if (r == 0 || strstr(err.message, cases[i].expect) == NULL)
			fail_msg("%s gave %d: %s", cases[i].line, r, err.message);
	}
}

static void test_missing(void **state)
{
	static const char *const needed[] = {"node_id", "member", "state_dir", "api_url", "user", "tenant"};

	(void)state;
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
		CLEANUP_BUF struct buf text = {0};
		struct str rest = STR(good), line;
		struct config c;
		struct err err = {0};

		while (rest.n > 0) {
			str_cut(rest, '\n', &line, &rest);
			if (!str_starts(line, str_of(needed[i])))
				buf_printf(&text, "%.*s\n", STR_ARGS(line));
		}
		assert_true(load(buf_cstr(&text), &c, &err) < 0);
		assert_non_null(strstr(err.message, needed[i]));
	}
}

static void test_no_file(void **state)
{
	struct config c;
	struct err err = {0};

	(void)state;
	assert_true(config_load("/nonexistent/berth.conf", &c, &err) < 0);
	assert_non_null(strstr(err.message, "/nonexistent/berth.conf"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),      cmocka_unit_test(test_printed_file_reads_back),
		cmocka_unit_test(test_bad_lines), cmocka_unit_test(test_missing),
		cmocka_unit_test(test_no_file),   cmocka_unit_test(test_worker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
