/* main.c -- echo-server: the web server of the sample image. It listens on $PORT, else 80, on all addresses, and gives
 * each connection a thread. SIGTERM and SIGINT end it with 0, also as process 1, whose default is to ignore them. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "exchange.h"
#include "routes.h"

#define STACK_BYTES (256 * 1024)

static void *serve_connection(void *data)
{
	struct exchange *x = data;

	while (exchange_next(x) == 1 && routes_serve(x))
		;
	shutdown(x->fd, SHUT_WR);
	close(x->fd);
	free(x);
	return NULL;
}

static void end(int signal_number)
{
	(void)signal_number;
	_exit(0);
}

static int listen_on(unsigned short port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 512) < 0)
		return -1;
	return fd;
}

static void start_connection(int fd, pthread_attr_t *attributes)
{
	struct exchange *x = calloc(1, sizeof *x);
	pthread_t thread;
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (x != NULL)
		x->fd = fd;
	if (x == NULL || pthread_create(&thread, attributes, serve_connection, x) != 0) {
		close(fd);
		free(x);
	}
}

int main(void)
{
	const char *port = getenv("PORT");
	unsigned long number = port == NULL ? 80 : strtoul(port, NULL, 10);
	int fd = number == 0 || number > 65535 ? -1 : listen_on((unsigned short)number);
	pthread_attr_t attributes;

	if (number == 0 || number > 65535) {
		fprintf(stderr, "echo-server: PORT must be 1 to 65535, not \"%s\"\n", port);
		return 1;
	}
	if (fd < 0) {
		perror("echo-server: listen");
		return 1;
	}
	signal(SIGTERM, end);
	signal(SIGINT, end);
	signal(SIGPIPE, SIG_IGN);
	routes_init();
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	printf("echo-server: listening on port %lu\n", number);
	fflush(stdout);
	for (;;) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (client >= 0)
			start_connection(client, &attributes);
	}
}
