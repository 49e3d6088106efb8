/* commands.c -- the table. Option names of pools are those of `az containerapp sessionpool`. */
#include <string.h>

#include "command.h"

#define N(a) (sizeof(a) / sizeof *(a))

const struct option_def common_options[] = {
	{"endpoint", OPTION_VALUE, "URL,...", "nodes to ask, tried in order (BERTH_ENDPOINTS)"},
	{"socket", OPTION_VALUE, "PATH", "a node's admin socket (BERTH_SOCKET; else those below BERTH_DIR)"},
	{"token", OPTION_VALUE, "TOKEN", "management token (BERTH_TOKEN)"},
	{"ca", OPTION_VALUE, "FILE", "CA that the endpoints' certificates are checked with (BERTH_CA)"},
	{"output", OPTION_VALUE, "json|table|tsv", "default: table on a terminal, else json"},
	{"progress", OPTION_SWITCH, NULL, "say what is waited for even when stderr is not a terminal"},
	{"timeout", OPTION_VALUE, "SECONDS", "stop waiting after so long (600)"},
	{"help", OPTION_SWITCH, NULL, "explain the command"},
};
const size_t n_common_options = N(common_options);

#define GROUP                                                                        \
	{"resource-group", OPTION_VALUE, "NAME",                                     \
	 "the pool's resource group (BERTH_RESOURCE_GROUP; default)"},               \
	{                                                                            \
		"subscription", OPTION_VALUE, "ID",                                  \
			"(BERTH_SUBSCRIPTION; 00000000-0000-0000-0000-000000000000)" \
	}
#define NAME                                                    \
	{                                                       \
		"name", OPTION_VALUE, "POOL", "the pool's name" \
	}
#define WAIT                                                                       \
	{"wait", OPTION_SWITCH, NULL, "wait until the operation ended (default)"}, \
	{                                                                          \
		"no-wait", OPTION_SWITCH, NULL, "return as soon as it is accepted" \
	}
#define IDENTIFIER                                                           \
	{                                                                    \
		"identifier", OPTION_VALUE, "ID", "the session's identifier" \
	}
#define DIR                                                                                             \
	{                                                                                               \
		"dir", OPTION_VALUE, "DIR", "where the cluster's files are (BERTH_DIR; /var/lib/berth)" \
	}

static const struct option_def pool_write[] = {
	NAME,
	GROUP,
	WAIT,
	{"file", OPTION_VALUE, "FILE", "an ARM template of the pool; the other options change it"},
	{"location", OPTION_VALUE, "TEXT", "default: local"},
	{"environment", OPTION_VALUE, "ID", "resource id of the environment; default: the built-in one"},
	{"container-type", OPTION_VALUE, "TEXT", "CustomContainer"},
	{"image", OPTION_VALUE, "REFERENCE", "container image"},
	{"container-name", OPTION_VALUE, "TEXT", "default: the pool's name"},
	{"cpu", OPTION_VALUE, "CORES", "0.25 to 2 (0.25)"},
	{"memory", OPTION_VALUE, "SIZE", "0.5Gi to 4Gi (0.5Gi)"},
	{"target-port", OPTION_VALUE, "PORT", "that the container's HTTP server listens on"},
	{"command", OPTION_VALUES, "WORD...", "replaces the image's entrypoint"},
	{"args", OPTION_VALUES, "WORD...", "replaces the image's command"},
	{"env-vars", OPTION_VALUES, "NAME=VALUE...", "environment; NAME=secretref:SECRET takes a secret"},
	{"secrets", OPTION_VALUES, "NAME=VALUE...", "secrets of the pool"},
	{"registry-server", OPTION_VALUE, "HOST", "registry of the image"},
	{"registry-username", OPTION_VALUE, "TEXT", "its user"},
	{"registry-password", OPTION_VALUE, "TEXT", "its password; kept as a secret"},
	{"registry-identity", OPTION_VALUE, "ID", "managed identity in place of user and password"},
	{"max-sessions", OPTION_VALUE, "N", "sessions at the same time (10)"},
	{"ready-sessions", OPTION_VALUE, "N", "sandboxes kept ready (5)"},
	{"cooldown-period", OPTION_VALUE, "SECONDS", "idle time until a session ends: 300 to 3600 (300)"},
	{"lifecycle-type", OPTION_VALUE, "TEXT", "Timed or OnContainerExit"},
	{"max-alive-period", OPTION_VALUE, "SECONDS", "a session ends after so long in any case"},
	{"network-status", OPTION_VALUE, "TEXT", "EgressDisabled or EgressEnabled"},
	{"node-labels", OPTION_VALUE, "NAME=VALUE,...",
	 "run only on nodes whose labels have these (the tag berth.nodeLabels)"},
	{"isolation", OPTION_VALUE, "vm|container",
	 "what each sandbox runs in, for good (the tag berth.isolation); default: the cluster's"},
};
static const struct option_def pool_one[] = {NAME, GROUP};
static const struct option_def session_many[] = {
	NAME,
	GROUP,
	{"ended", OPTION_SWITCH, NULL, "those that are over, and why"},
};
static const struct option_def pool_end[] = {NAME, GROUP, WAIT};
static const struct option_def pool_many[] = {
	{"resource-group", OPTION_VALUE, "NAME", "only this group's"},
	{"subscription", OPTION_VALUE, "ID", "(BERTH_SUBSCRIPTION; 00000000-0000-0000-0000-000000000000)"},
};
static const struct option_def session_one[] = {NAME, IDENTIFIER, GROUP};
static const struct option_def node_one[] = {
	{"name", OPTION_VALUE, "NODE", "its name or number; or as a plain argument"}};
static const struct option_def drain_options[] = {
	{"name", OPTION_VALUE, "NODE", "its name or number; or as a plain argument"},
	{"deadline", OPTION_VALUE, "DURATION", "what is left then is stopped: 90s, 30m, 2h (30m)"},
	{"wait", OPTION_SWITCH, NULL, "show what is left until the node is empty"},
	{"show", OPTION_SWITCH, NULL, "only show what is left, and which sessions are busy"},
	{"cancel", OPTION_SWITCH, NULL,
	 "end the drain; the node takes sandboxes again if the drain cordoned it"},
};
static const struct option_def image_new[] = {
	{"name", OPTION_VALUE, "REFERENCE", "what pools will call it, such as app:1"},
	{"file", OPTION_VALUE, "PATH", "archive (docker save, OCI) or OCI layout; or as a plain argument"},
};
static const struct option_def image_one[] = {
	{"digest", OPTION_VALUE, "DIGEST", "as image list shows it; or as a plain argument"},
};
static const struct option_def logs_options[] = {
	NAME,
	GROUP,
	IDENTIFIER,
	{"sandbox", OPTION_VALUE, "ID", "a sandbox of the pool, also one that ended; default: any"},
	{"follow", OPTION_SWITCH, NULL, "go on until the sandbox is gone"},
	{"tail", OPTION_VALUE, "N", "begin with the last N lines"},
};
static const struct option_def billing_options[] = {
	{"from", OPTION_VALUE, "TIME",
	 "2026-01-02, 2026-01-02T03:04:05Z, now, or back from now: -90m -12h -30d (-30d)"},
	{"to", OPTION_VALUE, "TIME", "(now)"},
	{"format", OPTION_VALUE, "csv|json", "(csv)"},
};
static const struct option_def token_options[] = {
	{"audience", OPTION_VALUE, "management|data|URL", "(management)"},
	{"subject", OPTION_VALUE, "TEXT", "who it is for (operator)"},
	{"ttl", OPTION_VALUE, "SECONDS", "60 to 86400 (3600)"},
	{"role", OPTION_VALUES, "ROLE[@SCOPE]...",
	 "default: Owner, or for data 'Azure ContainerApps Session Executor', at /"},
};
static const struct option_def init_options[] = {
	DIR,
	{"nodes", OPTION_VALUE, "N", "voters: 1, 3 or 5 (3)"},
	{"workers", OPTION_VALUE, "N", "nodes beside them that hold no log and no keys (0)"},
	{"host", OPTION_VALUE, "ADDRESS[,...]",
	 "IPv4 address that all listen on (127.0.0.1), or one for each node, which then all have the same "
	 "ports"},
	{"base-port", OPTION_VALUE, "PORT", "node i uses base + 10 x (i - 1) and the next four (7400)"},
	{"user", OPTION_VALUE, "USER", "that berthd runs as (berth)"},
	{"admin-group", OPTION_VALUE, "GROUP", "may use the admin socket"},
	{"domain", OPTION_VALUE, "NAME", "pools get https://<pool>.<environment>.<region>.<domain>"},
	{"environment", OPTION_VALUE, "LABEL", "part of that name"},
	{"region", OPTION_VALUE, "LABEL", "part of that name"},
	{"tls-cert", OPTION_VALUE, "FILE", "certificate chain for clients; default: from the cluster's CA"},
	{"tls-key", OPTION_VALUE, "FILE", "its key"},
	{"gateway-loops", OPTION_VALUE, "N", "threads that serve requests, per node (1)"},
	{"isolation", OPTION_VALUE, "vm|container",
	 "of pools that name none; asked for on a terminal, else container, which is not for hostile code"},
	{"set", OPTION_VALUES, "NAME=VALUE...", "further lines of berth.conf"},
};
static const struct option_def node_token_options[] = {
	{"role", OPTION_VALUE, "voter|worker", "what the node may become (voter)"},
	{"ttl", OPTION_VALUE, "SECONDS", "1 to 604800 (3600)"},
};
static const struct option_def node_join_options[] = {
	{"name", OPTION_VALUE, "NODE", "name of the new node (the host's)"},
	DIR,
	{"host", OPTION_VALUE, "ADDRESS", "IPv4 address that the other nodes reach this machine at"},
	{"base-port", OPTION_VALUE, "PORT", "it uses this and the next four (7400)"},
	{"user", OPTION_VALUE, "USER", "that berthd runs as (berth)"},
	{"admin-group", OPTION_VALUE, "GROUP", "may use the admin socket"},
	{"gateway-loops", OPTION_VALUE, "N", "threads that serve requests (1)"},
	{"set", OPTION_VALUES, "NAME=VALUE...", "further lines of berth.conf"},
};
static const struct option_def node_remove_options[] = {
	{"name", OPTION_VALUE, "NODE", "its name or number"},
	{"force", OPTION_SWITCH, NULL, "though it has sessions: they end"},
	WAIT,
};
static const struct option_def node_purge_options[] = {
	{"name", OPTION_VALUE, "NODE", "the name of its folder"},
	DIR,
	{"force", OPTION_SWITCH, NULL, "though nobody removed it from its cluster: what it held is lost"},
};
static const struct option_def start_options[] = {DIR};
static const struct option_def backup_key_options[] = {
	{"to", OPTION_VALUE, "FILE", "the identity file to make; keep it away from the cluster"},
};
static const struct option_def backup_options[] = {
	{"to", OPTION_VALUE, "FILE", "the backup to make"},
	{"recipient", OPTION_VALUE, "KEY", "whom it is encrypted to, as backup-key printed it"},
	{"check", OPTION_VALUE, "FILE", "read a backup whole instead, and say what it holds"},
	{"identity", OPTION_VALUE, "FILE", "the identity file, for --check"},
};
static const struct option_def restore_options[] = {
	{"from", OPTION_VALUE, "FILE", "the backup"},
	{"identity", OPTION_VALUE, "FILE", "the identity file that opens it"},
	{"dir", OPTION_VALUE, "DIR", "where to make the first node's files (BERTH_DIR; /var/lib/berth)"},
	{"host", OPTION_VALUE, "ADDRESS", "IPv4 address that it listens on (127.0.0.1)"},
	{"base-port", OPTION_VALUE, "PORT", "this port and the next four (7400)"},
	{"user", OPTION_VALUE, "USER", "that berthd runs as (berth)"},
	{"admin-group", OPTION_VALUE, "GROUP", "may use the admin socket"},
	{"domain", OPTION_VALUE, "NAME", "default: the backup's"},
	{"tls-cert", OPTION_VALUE, "FILE", "certificate chain for clients; default: from the cluster's CA"},
	{"tls-key", OPTION_VALUE, "FILE", "its key"},
	{"gateway-loops", OPTION_VALUE, "N", "threads that serve requests (1)"},
	{"set", OPTION_VALUES, "NAME=VALUE...", "further lines of berth.conf"},
};
static const struct option_def recover_options[] = {
	{"dir", OPTION_VALUE, "DIR", "the folder of the node, with its berth.conf"},
	{"yes", OPTION_SWITCH, NULL, "do it; without this, only say what the node has"},
};
static const struct option_def rotate_options[] = {
	{"what", OPTION_VALUE, "secrets|issuer|ca|all", "(all)"},
	WAIT,
};
static const struct option_def stop_options[] = {
	DIR,
	{"purge", OPTION_SWITCH, NULL, "also end all sandboxes and what they left on the host"},
};

const struct command_def commands[] = {
	{"cluster init", "make files, keys and certificates of a new cluster", init_options, N(init_options),
	 cluster_init_run},
	{"cluster start", "start the nodes below a directory, wait until they are ready", start_options,
	 N(start_options), cluster_start_run},
	{"cluster stop", "stop them", stop_options, N(stop_options), cluster_stop_run},
	{"cluster backup-key", "make the pair of keys that backups are encrypted with", backup_key_options,
	 N(backup_key_options), cluster_backup_key_run},
	{"cluster backup", "write all tables and keys into one encrypted file, from a voter's admin socket",
	 backup_options, N(backup_options), cluster_backup_run},
	{"cluster restore", "make the first node of a cluster's new incarnation from a backup",
	 restore_options, N(restore_options), cluster_restore_run},
	{"cluster recover", "let one stopped voter go on alone when the majority is lost", recover_options,
	 N(recover_options), cluster_recover_run},
	{"cluster keys", "what the cluster signs and seals with: kinds, states, what is still of each", NULL,
	 0, cluster_keys_show},
	{"cluster rotate-keys",
	 "replace keys, with what is under way and without refusing what the former ones signed",
	 rotate_options, N(rotate_options), cluster_rotate_run},
	{"cluster status", "leader, quorum, and of each node how far it is, its clock, disk and version",
	 NULL, 0, cluster_status_show},
	{"cluster upgrade", "use what the new version brings, once every node runs it; there is no way back",
	 NULL, 0, cluster_upgrade},
	{"node list", "nodes with their capacity and sandboxes", NULL, 0, node_list},
	{"node show", "one node: state, lease, disk, what it keeps and the bounds", node_one, N(node_one),
	 node_show},
	{"node cordon", "put no new sandbox on a node; its ready ones move elsewhere", node_one, N(node_one),
	 node_cordon},
	{"node uncordon", "let a node take sandboxes again; ends its drain", node_one, N(node_one),
	 node_uncordon},
	{"node drain", "empty a node: cordon it, hand over leadership, wait for its sessions to be idle",
	 drain_options, N(drain_options), node_drain},
	{"node token", "mint a token that lets one machine join, once", node_token_options,
	 N(node_token_options), node_token},
	{"node join",
	 "make this machine a node of the cluster whose node token printed the --token; @FILE or - keep it "
	 "out of "
	 "the list of processes",
	 node_join_options, N(node_join_options), node_join},
	{"node remove", "let a node go for good: drained, or lost", node_remove_options,
	 N(node_remove_options), node_remove},
	{"node purge", "wipe a node that was removed, or is damaged, from this machine", node_purge_options,
	 N(node_purge_options), node_purge},
	{"pool create", "create a session pool, or replace one", pool_write, N(pool_write), pool_create},
	{"pool show", "a pool, its endpoint, what is ready, booting or failing and why", pool_one,
	 N(pool_one), pool_show},
	{"pool list", "the pools", pool_many, N(pool_many), pool_list},
	{"pool update", "change what is named; the rest stays", pool_write, N(pool_write), pool_update},
	{"pool delete", "end a pool and its sessions", pool_end, N(pool_end), pool_delete},
	{"session list", "the sessions of a pool", session_many, N(session_many), session_list},
	{"session show", "one session", session_one, N(session_one), session_show},
	{"session stop", "end a session at once", session_one, N(session_one), session_stop},
	{"session suspend", "keep a session of a virtual machine on its node's disk until its next request",
	 session_one, N(session_one), session_suspend},
	{"session resume", "wake a suspended session now", session_one, N(session_one), session_resume},
	{"image import", "put an image of this host into the store of each node whose admin socket is here",
	 image_new, N(image_new), image_import},
	{"image list", "images in a node's store", NULL, 0, image_list},
	{"image remove",
	 "remove an image that no pool and no sandbox uses from the nodes whose admin sockets are here",
	 image_one, N(image_one), image_remove},
	{"image prune", "remove all images that nothing uses from these nodes; imports stay", NULL, 0,
	 image_prune},
	{"logs", "console output of a sandbox, of an ended one until log_retention is over", logs_options,
	 N(logs_options), logs_show},
	{"billing export", "what the pools consumed", billing_options, N(billing_options), billing_export},
	{"token", "mint a token, over an admin socket", token_options, N(token_options), token_issue},
};
const size_t n_commands = N(commands);

const char *command_argument(const struct command_def *command)
{
	static const char *const arguments[][2] = {
		{"image import", "PATH"}, {"image remove", "DIGEST"}, {"node show", "NODE"},
		{"node cordon", "NODE"},  {"node uncordon", "NODE"},  {"node drain", "NODE"},
		{"node remove", "NODE"},  {"node purge", "NODE"},
	};

	for (size_t i = 0; i < N(arguments); i++)
		if (strcmp(command->words, arguments[i][0]) == 0)
			return arguments[i][1];
	return NULL;
}
