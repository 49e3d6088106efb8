#include "control/links/border.h"

#include "wire/messages.h"

enum who { FORGOTTEN, NOBODY, VOTERS, NODES };

static const uint8_t frames[PEER_FRAMES] = {
	[PEER_ENVELOPE] = NODES, [PEER_COMMANDS] = NODES, [PEER_FEED] = VOTERS,
	[PEER_FEED_ASK] = NODES, [PEER_REMOVED] = VOTERS, [PEER_REFUSED] = VOTERS,
};

static const uint8_t messages[MSG_TYPES] = {
	[MSG_NONE] = NOBODY,         [MSG_TIMER] = NOBODY,
	[MSG_LEADING] = NOBODY,      [MSG_CHANGED] = NOBODY,
	[MSG_PROPOSED] = NOBODY,     [MSG_DRIVEN] = NOBODY,
	[MSG_EXITED] = NOBODY,       [MSG_ADOPTED] = NOBODY,
	[MSG_PROBED] = NOBODY,       [MSG_OPEN] = NODES,
	[MSG_OPENED] = VOTERS, /* the leader answers */
	[MSG_DEAD] = NOBODY,   /* the owner's own gateway says so */
	[MSG_QUIESCE] = NOBODY,      [MSG_QUIET] = NOBODY,
	[MSG_REOPEN] = NOBODY,       [MSG_ENDED] = NOBODY,
	[MSG_REAP] = NOBODY,         [MSG_REAPED] = NOBODY,
	[MSG_POOL_PUT] = NOBODY,     [MSG_POOL_DELETE] = NOBODY,
	[MSG_POOL_ANSWER] = NOBODY,  [MSG_STOP] = NOBODY,
	[MSG_STOPPED] = NOBODY,      [MSG_CACHE] = VOTERS, /* the leader asks */
	[MSG_CACHED] = NODES,        [MSG_REFUSED] = NODES,
	[MSG_HALT] = NOBODY,         [MSG_HALTED] = NOBODY,
	[MSG_RENEW] = NODES,         [MSG_RENEWED] = VOTERS,
	[MSG_ORPHANS] = NOBODY,      [MSG_JUDGE] = NODES,
	[MSG_JUDGED] = VOTERS,       [MSG_LOG] = VOTERS, /* a worker reads no sandbox of others */
	[MSG_LOGGED] = NODES,        [MSG_INDEX] = NODES,
	[MSG_INDEXED] = VOTERS,      [MSG_ACTIVITY] = NODES,
	[MSG_ACTIVE] = NODES,        [MSG_HOLDINGS] = NODES,
	[MSG_HELD] = NODES,          [MSG_UNSEAL] = NODES,
	[MSG_UNSEALED] = VOTERS,     [MSG_NODE_ORDER] = NOBODY,
	[MSG_NODE_ORDERED] = NOBODY, [MSG_CLUSTER_LEVEL] = NOBODY,
	[MSG_RELAY] = NODES,         [MSG_RELAYED] = VOTERS,
	[MSG_CERTIFY] = NODES,       [MSG_CERTIFIED] = VOTERS,
	[MSG_PULSE] = NODES,         [MSG_PULSED] = NODES,
	[MSG_PART] = NOBODY,         [MSG_SAVE] = NOBODY,
	[MSG_REST] = NOBODY,         [MSG_RESTED] = NOBODY,
	[MSG_COPY] = NODES,          [MSG_COPIED] = NODES, /* the source looks whose it is */
};

static const uint8_t commands[COMMAND_TYPES] = {
	[COMMAND_NONE] = NOBODY,
	[COMMAND_CLUSTER_INIT] = VOTERS,
	[COMMAND_NODE_JOIN] = NODES, /* of itself, and not as a voter */
	[COMMAND_NODE_RENEW] = VOTERS,
	[COMMAND_NODE_LOST] = VOTERS,
	[COMMAND_NODE_ORDER] = VOTERS,
	[COMMAND_CLUSTER_LEVEL] = VOTERS,
	[COMMAND_NODE_IMAGES] = NODES, /* of itself */
	[COMMAND_POOL_PUT] = VOTERS,
	[COMMAND_POOL_DELETE] = VOTERS,
	[COMMAND_OPERATION_STEP] = VOTERS,
	[COMMAND_SANDBOX_BOOT] = VOTERS,
	[COMMAND_SANDBOX_READY] = NODES, /* apply knows whose it is; so in the next ones */
	[COMMAND_SANDBOX_STOPPING] = VOTERS,
	[COMMAND_SANDBOX_GONE] = NODES,
	[COMMAND_SESSION_OPEN] = VOTERS,
	[COMMAND_SESSION_CLOSING] = NODES, /* anyone may ask for it */
	[COMMAND_SESSION_CLOSED] = NODES,
	[COMMAND_WAITERS_EXPIRE] = VOTERS,
	[COMMAND_RECORDS_TRIM] = VOTERS,
	[COMMAND_KEY_PUT] = VOTERS,
	[COMMAND_KEY_USE] = VOTERS,
	[COMMAND_KEY_RETIRE] = VOTERS,
	[COMMAND_SECRET_RESEAL] = VOTERS,
	[COMMAND_NODE_KEYS] = NODES, /* names none: the sender's */
	[COMMAND_NODE_ABLE] = NODES, /* the same */
	[COMMAND_NODE_TOKEN] = VOTERS,
	[COMMAND_NODE_ADMIT] = VOTERS,
	[COMMAND_NODE_LEAVE] = VOTERS,
	[COMMAND_NODE_DROP] = VOTERS,
	[COMMAND_MEMBER_BEGIN] = VOTERS,
	[COMMAND_MEMBER_END] = VOTERS,
	[COMMAND_SESSION_SUSPEND] = VOTERS,
	[COMMAND_SESSION_WAKE] = VOTERS,
	[COMMAND_SANDBOX_MOVE] = VOTERS,
	[COMMAND_SANDBOX_SAVED] =
		NODES, /* apply knows whose it is, or whose it becomes; so in the next ones */
	[COMMAND_SANDBOX_KEPT] = NODES,
	[COMMAND_SANDBOX_MOVED] = NODES,
	[COMMAND_SANDBOX_AWAKE] = NODES,
};

static bool lets(uint8_t who, bool voter)
{
	return who == NODES || (who == VOTERS && voter);
}

bool border_lets_frame(bool voter, uint8_t type)
{
	return type < PEER_FRAMES && lets(frames[type], voter);
}

bool border_lets_message(bool voter, uint16_t type)
{
	return type < MSG_TYPES && lets(messages[type], voter);
}

static const char *refuses_join(bool voter, uint64_t from, const struct command *command, struct arena *arena)
{
	struct cmd_node_join join;

	if (codec_decode(command->body.p, command->body.n, command_body_codec[COMMAND_NODE_JOIN], arena,
			 &join, NULL) < 0)
		return NULL; /* apply says what is wrong */
	if (join.id != from)
		return "it joins in the name of another node";
	return join.voter && !voter ? "its certificate is a worker's, and it joins as a voter" : NULL;
}

static const char *refuses_images(uint64_t from, const struct command *command, struct arena *arena)
{
	struct cmd_node_images images;

	if (codec_decode(command->body.p, command->body.n, command_body_codec[COMMAND_NODE_IMAGES], arena,
			 &images, NULL) < 0)
		return NULL;
	return images.node != from ? "it lists the images of another node" : NULL;
}

const char *border_refuses_command(bool voter, uint64_t from, const struct command *command)
{
	CLEANUP_ARENA struct arena arena = {0};

	if (command->type >= COMMAND_TYPES || !lets(commands[command->type], voter))
		return voter ? "no node may send that command" : "workers may not send that command";
	if (command->type == COMMAND_NODE_JOIN)
		return refuses_join(voter, from, command, &arena);
	if (command->type == COMMAND_NODE_IMAGES)
		return refuses_images(from, command, &arena);
	return NULL;
}

bool border_knows_message(uint16_t type)
{
	return messages[type] != FORGOTTEN;
}

bool border_knows_command(uint8_t type)
{
	return commands[type] != FORGOTTEN;
}
