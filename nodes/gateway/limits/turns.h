/* turns.h -- first requests on their way to placement. Each pool has a window of its own of questions that are not yet answered;
 * above it, those of its tokens' subjects take turns, so that neither a pool nor a token keeps the others waiting.
 * Thread: the loop's. */
#ifndef GATEWAY_TURNS_H
#define GATEWAY_TURNS_H

struct account;
struct client;
struct gw;
struct open;

/* Asks placement, now or when it is o's turn. `c` is the first who waits for it. -errno: not taken; o is the caller's. */
int turns_ask(struct client *c, struct open *o);
/* o is over, or nobody waits for it: out of the lane or the window. Before its memory goes. */
void turns_leave(struct gw *gw, struct open *o);
/* What now has its turn in this pool. NULL is fine. */
void turns_next(struct gw *gw, struct account *pool);

#endif
