/* main.c -- berth-guest: /init of a guest's initramfs, process 1 of a machine that runs one image's program.
 *
 * Happy path: modules and mounts; the channel's port; HELLO is answered, and the machine is idle: a template is saved
 * now. START: identity, then the program in the image's root. Its outputs go out as they come, in order and with
 * back-pressure; orphans are reaped. When it ends all others are killed, the rest of the outputs goes out, then EXIT; BYE comes,
 * and the machine powers off.
 * Failure: before the channel is there a line on the console; then FAILED. A host that breaks the protocol ends the machine.
 * Static and without sanitizers: it runs alone on a kernel. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot.h"
#include "channel.h"
#include "core/clock.h"
#include "core/fd.h"
#include "identity.h"
#include "launch.h"
#include "network.h"

#define PORT_WAIT_MS  10000
#define DISK_SOON_MS  100 /* a canary has none */
#define DISK_WAIT_MS  10000
#define HOST_AWAY_MS  2
#define DRAIN_MS      10000
#define BYE_WAIT_MS   5000
#define OOM_RECENT_MS 10000
#define OOM_FRAME_MS  1000

enum state {
	WAITING,  /* for START */
	STARTING, /* the program's process is there, it has not executed it */
	RUNNING,
	DRAINING, /* it is over; what it wrote goes out */
	TOLD,     /* EXIT or FAILED went out */
};

struct guest {
	enum state state;
	struct channel channel;
	struct launch program;
	int children; /* signalfd */
	int status;   /* of the program, from waitpid */
	bool ended, host;
	char failure[GUEST_MESSAGE_BYTES + 1];
	uint64_t deadline_ms; /* in DRAINING and TOLD */
	uint64_t oom_ms, oom_frame_ms;
};

_Noreturn static void power_off(const char *why)
{
	if (why != NULL)
		dprintf(2, "berth-guest: %s\n", why);
	reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

/* -- The end of the program ----------------------------------------------------------------------------------- */

static void tell_failure(struct guest *g, uint8_t status, const char *message)
{
	struct guest_failed f = {.status = status, .message = str_of(message)};

	if (f.message.n > GUEST_MESSAGE_BYTES)
		f.message.n = GUEST_MESSAGE_BYTES;
	channel_send(&g->channel, GUEST_FAILED, guest_body_codec[GUEST_FAILED], &f);
	g->state = TOLD;
	g->deadline_ms = clock_boot_ms() + BYE_WAIT_MS;
}

static void tell_exit(struct guest *g)
{
	struct guest_exit e = {.signalled = WIFSIGNALED(g->status),
			       .oom = g->oom_ms != 0 && clock_boot_ms() - g->oom_ms < OOM_RECENT_MS};

	e.value = (uint8_t)(e.signalled ? WTERMSIG(g->status) : WEXITSTATUS(g->status));
	channel_send(&g->channel, GUEST_EXIT, guest_body_codec[GUEST_EXIT], &e);
	g->state = TOLD;
	g->deadline_ms = clock_boot_ms() + BYE_WAIT_MS;
}

static void take_oom(struct guest *g)
{
	uint64_t now = clock_boot_ms();

	if (launch_oom(&g->program) == 0)
		return;
	g->oom_ms = now;
	if (g->oom_frame_ms != 0 && now - g->oom_frame_ms < OOM_FRAME_MS)
		return;
	g->oom_frame_ms = now;
	channel_send(&g->channel, GUEST_OOM, NULL, NULL);
}

/* Executed, or why not. */
static void take_report(struct guest *g)
{
	ssize_t n = read(g->program.report, g->failure, sizeof g->failure - 1);

	fd_close(&g->program.report);
	g->failure[n > 0 ? n : 0] = '\0';
	if (n > 0)
		return; /* its process ends now */
	g->state = RUNNING;
	channel_send(&g->channel, GUEST_RUNNING, NULL, NULL);
}

static void take_end(struct guest *g)
{
	if (g->program.report >= 0)
		take_report(g);
	kill(-1, SIGKILL); /* as a container's end is everybody's */
	take_oom(g);
	if (g->state == STARTING) {
		tell_failure(g, WIFEXITED(g->status) ? (uint8_t)WEXITSTATUS(g->status) : 125, g->failure);
		return;
	}
	g->state = DRAINING;
	g->deadline_ms = clock_boot_ms() + DRAIN_MS;
}

static void reap(struct guest *g)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(g->children, &info, sizeof info) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == g->program.pid) {
			g->program.pid = 0;
			g->status = status;
			g->ended = true;
		}
	}
	if (g->ended && (g->state == STARTING || g->state == RUNNING))
		take_end(g);
}

/* -- Outputs -------------------------------------------------------------------------------------------------- */

static void forward(struct guest *g, int which)
{
	char bytes[GUEST_OUTPUT_BYTES];
	ssize_t n = read(g->program.output[which], bytes, sizeof bytes);
	struct guest_output o = {.stream = (uint8_t)(which + 1)};

	if (n < 0)
		return;
	if (n == 0) {
		fd_close(&g->program.output[which]);
		return;
	}
	o.bytes = (struct str){bytes, (size_t)n};
	channel_send(&g->channel, GUEST_OUTPUT, guest_body_codec[GUEST_OUTPUT], &o);
}

/* -- What the host says ------------------------------------------------------------------------------------------ */

static void answer_hello(struct guest *g, const struct guest_hello *hello)
{
	struct utsname u;
	struct guest_hello_answer a = {.nonce = hello->nonce,
				       .state = g->state == WAITING ? GUEST_IDLE : GUEST_RAN};

	uname(&u);
	a.release = str_of(u.release);
	channel_send(&g->channel, GUEST_HELLO, &guest_hello_answer_codec, &a);
}

static void start(struct guest *g, const struct guest_start *s)
{
	struct err err = {0};
	int r = g->state == WAITING ? guest_start_check(s, &err) : err_set(&err, -EALREADY, "a second start");

	if (r == 0)
		r = boot_root(DISK_WAIT_MS, &err);
	if (r == 0)
		r = boot_disk_bytes(s->disk_bytes, &err);
	if (r == 0)
		r = identity_apply(s, &err);
	if (r == 0)
		r = launch_begin(&g->program, s, &err);
	if (r == 0)
		g->state = STARTING;
	else if (g->state == WAITING)
		tell_failure(g, 125, err.message);
}

static void change_network(const struct guest_network *n)
{
	struct err err = {0};

	if (guest_network_check(n, &err) < 0 || network_apply(n, &err) < 0)
		power_off(err.message);
}

static void take_frame(struct guest *g, const struct guest_frame *f)
{
	CLEANUP_ARENA struct arena arena = {.max = 4 * CODEC_BYTES_MAX};
	union {
		struct guest_hello hello;
		struct guest_start start;
		struct guest_signal signal;
		struct guest_clock clock;
		struct guest_network network;
	} body;
	struct err err = {0};

	if ((f->type > GUEST_BYE && f->type != GUEST_NETWORK) ||
	    guest_frame_body(f, guest_body_codec[f->type], &arena, &body, &err) < 0)
		power_off(err.code < 0 ? err.message : "a frame that is not the host's");
	if (f->type == GUEST_HELLO)
		answer_hello(g, &body.hello);
	else if (f->type == GUEST_START)
		start(g, &body.start);
	else if (f->type == GUEST_SIGNAL && g->program.pid > 0)
		kill(g->program.pid, body.signal.signal);
	else if (f->type == GUEST_CLOCK)
		identity_set_clock(body.clock.wall_ns, NULL);
	else if (f->type == GUEST_NETWORK && g->state != WAITING)
		change_network(&body.network);
	else if (f->type == GUEST_BYE)
		power_off(NULL);
}

static void listen_to_host(struct guest *g)
{
	struct guest_frame f;
	struct err err = {0};
	int r;

	g->host = channel_fill(&g->channel);
	while ((r = channel_next(&g->channel, &f, &err)) > 0)
		take_frame(g, &f);
	if (r < 0)
		power_off(err.message);
}

/* -- The loop ------------------------------------------------------------------------------------------------- */

static int wait_ms(const struct guest *g)
{
	uint64_t now = clock_boot_ms();
	int ms = g->host ? -1 : HOST_AWAY_MS;

	if (g->deadline_ms != 0 && (ms < 0 || g->deadline_ms < now + (uint64_t)ms))
		ms = g->deadline_ms > now ? (int)(g->deadline_ms - now) : 0;
	return ms;
}

static void turn(struct guest *g)
{
	bool full = channel_full(&g->channel);
	const struct launch *l = &g->program;
	/* Without a host the port is ready at all times. */
	struct pollfd p[] = {
		{g->host ? g->channel.fd : -1, (short)(g->channel.out.n > 0 ? POLLIN | POLLOUT : POLLIN), 0},
		{full ? -1 : l->output[0], POLLIN, 0},
		{full ? -1 : l->output[1], POLLIN, 0},
		{l->report, POLLIN, 0},
		{g->children, POLLIN, 0},
		{l->oom, POLLPRI, 0},
	};

	poll(p, sizeof p / sizeof *p, wait_ms(g));
	if (p[0].revents != 0 || !g->host) {
		channel_flush(&g->channel);
		listen_to_host(g);
	}
	if (p[3].revents != 0)
		take_report(g);
	if (p[1].revents != 0)
		forward(g, 0);
	if (p[2].revents != 0)
		forward(g, 1);
	if (p[5].revents != 0)
		take_oom(g);
	if (p[4].revents != 0)
		reap(g);
	bool drained = l->output[0] < 0 && l->output[1] < 0;

	if (g->state == DRAINING && (drained || clock_boot_ms() >= g->deadline_ms))
		tell_exit(g);
	else if (g->state == TOLD && clock_boot_ms() >= g->deadline_ms)
		power_off("nobody took leave");
}

int main(void)
{
	static struct guest g = {.host = true, .program = {.report = -1, .output = {-1, -1}, .oom = -1}};
	sigset_t signals;
	struct err err = {0};
	int r = boot_kernel(&err);

	if (r == 0)
		r = network_loopback(&err);
	if (r < 0)
		power_off(err.message);
	boot_root(DISK_SOON_MS, NULL); /* again at START, which tells the cause */
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	g.children = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (g.children < 0 || channel_open(&g.channel, PORT_WAIT_MS, &err) < 0)
		power_off(err.message);
	for (;;)
		turn(&g);
}
