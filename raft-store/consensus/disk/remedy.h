/* remedy.h -- what to do with a server whose files must not be used any more: the end of each such message. */
#ifndef RAFT_CONSENSUS_DISK_REMEDY_H
#define RAFT_CONSENSUS_DISK_REMEDY_H

#define REMEDY                                                                            \
	"this node must come back as a new one: run \"berth node purge\" on it and then " \
	"\"berth node join\" with a new token"

#endif
