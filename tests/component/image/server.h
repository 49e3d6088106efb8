/* server.h -- small servers on loopback, each a thread, that answer every connection in one fixed way. */
#ifndef TEST_IMAGE_SERVER_H
#define TEST_IMAGE_SERVER_H

struct server;

/* `answer`: sent to each connection after its request head, then closed; NULL: accept and say nothing. */
struct server *server_start(const char *answer);
int server_port(const struct server *s);
/* Requests seen whose head holds `text`. */
int server_saw(struct server *s, const char *text);
int server_connections(struct server *s);
void server_stop(struct server *s);

#endif
