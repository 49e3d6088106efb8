#include "server.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/must.h"

struct server {
	int listener, port;
	const char *answer;
	pthread_t thread;
	pthread_mutex_t mutex;
	struct buf seen;
	int connections;
};

static void read_head(struct server *s, int fd)
{
	char head[8192];
	size_t n = 0;

	while (n < sizeof head - 1) {
		ssize_t got = read(fd, head + n, sizeof head - 1 - n);

		if (got <= 0)
			break;
		n += (size_t)got;
		head[n] = '\0';
		if (strstr(head, "\r\n\r\n") != NULL)
			break;
	}
	pthread_mutex_lock(&s->mutex);
	buf_add(&s->seen, head, n);
	pthread_mutex_unlock(&s->mutex);
}

static void *serve(void *context)
{
	struct server *s = context;
	int silent[64], n_silent = 0;

	for (;;) {
		int fd = accept(s->listener, NULL, NULL);

		if (fd < 0)
			break;
		pthread_mutex_lock(&s->mutex);
		s->connections++;
		pthread_mutex_unlock(&s->mutex);
		if (s->answer == NULL && n_silent < 64) {
			silent[n_silent++] = fd;
			continue;
		}
		read_head(s, fd);
		if (s->answer != NULL)
			(void)!write(fd, s->answer, strlen(s->answer));
		close(fd);
	}
	while (n_silent > 0)
		close(silent[--n_silent]);
	return NULL;
}

struct server *server_start(const char *answer)
{
	struct server *s = calloc(1, sizeof *s);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;

	must(s != NULL);
	s->answer = answer;
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(s->listener >= 0 && bind(s->listener, (struct sockaddr *)&a, sizeof a) == 0 &&
	     listen(s->listener, 16) == 0);
	must(getsockname(s->listener, (struct sockaddr *)&a, &n) == 0);
	s->port = ntohs(a.sin_port);
	pthread_mutex_init(&s->mutex, NULL);
	must(pthread_create(&s->thread, NULL, serve, s) == 0);
	return s;
}

int server_port(const struct server *s)
{
	return s->port;
}

int server_saw(struct server *s, const char *text)
{
	int n = 0;

	pthread_mutex_lock(&s->mutex);
	for (const char *p = buf_cstr(&s->seen); (p = strstr(p, text)) != NULL; p++)
		n++;
	pthread_mutex_unlock(&s->mutex);
	return n;
}

int server_connections(struct server *s)
{
	pthread_mutex_lock(&s->mutex);
	int n = s->connections;

	pthread_mutex_unlock(&s->mutex);
	return n;
}

void server_stop(struct server *s)
{
	shutdown(s->listener, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->listener);
	buf_done(&s->seen);
	free(s);
}
