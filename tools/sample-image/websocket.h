/* websocket.h -- a WebSocket that echoes (RFC 6455): text and binary messages, ping, close. */
#ifndef SAMPLE_WEBSOCKET_H
#define SAMPLE_WEBSOCKET_H

#include "exchange.h"

/* Answers the handshake and echoes until either side closes. The connection is over afterwards. */
void websocket_echo(struct exchange *x);

#endif
