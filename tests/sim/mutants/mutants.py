"""Faults that are planted on purpose, one at a time: the simulator must find each.

    mutants.py NAME SOURCE_ROOT OUT...      writes the changed copies, in the order of the mutant's files
    mutants.py --list                       NAME SEEDS FILE... of each, for CMake

Each is a change of one or two places of the product; the place must be there exactly once. The copies are
compiled into a berth-sim of their own, in front of the libraries; the product's files know nothing of this. A place that is not there
is said while building, and the mutant's test fails: there is no fault to find. SEEDS is within how many it is found.
"""

import pathlib
import sys

SESSION, SANDBOX, NODE = (f"raft-store/state/apply/apply_{x}.c" for x in ("session", "sandbox", "node"))
MUTANTS = {
    "double_allocation": (60, [(SESSION, "} else if (session != NULL) {",
                                "} else if (session != NULL && session->state != SESSION_CLOSING) {"),
                               ("actors/placement/askers.c", "} else if (row == NULL && g->request == 0 &&",
                                "} else if ((row == NULL || row->state == SESSION_CLOSING) && g->request == 0 &&")]),
    "missed_fence": (200, [("actors/membership/membership.c", "&(struct sandboxd_fence){until_ms}",
                            "&(struct sandboxd_fence){until_ms + 60000}")]),
    "lost_ledger_close": (30, [(SANDBOX, "\tledger_ended(a->s, &end);\n\tstore_remove(a->s, KIND_SESSIONS, session);",
                                "\tif (reason != REAP_EXITED)\n\t\tledger_ended(a->s, &end);\n"
                                "\tstore_remove(a->s, KIND_SESSIONS, session);")]),
    "stale_route": (60, [("nodes/control/links/admit.c", "row->state == SESSION_LIVE && row->sandbox == sandbox",
                          "row->sandbox == sandbox")]),
    "early_free": (30, [("actors/session/session.c",
                         "\tself->request = context_request(c, (struct address){ADDRESS_SANDBOX, c->node, self->sandbox},\n"
                         "\t\t\t\t\tMSG_HALT, &body, HALT_MS);",
                         "\tself->request = context_propose(\n\t\tc, COMMAND_SESSION_CLOSED,\n"
                         "\t\t&(struct cmd_session_closed){self->pool, self->actor.key, 0, body.unserved}, PROPOSE_MS);")]),
    "orphans_by_stale_tables": (300, [("actors/sandbox/orphans.c", "\task(self, c);\n\treturn ORPHANS_ASKING;\n}\n\nstatic uint8_t again",
                                       "\tfor (uint32_t i = 0; i < self->n; i++)\n"
                                       "\t\tcontext_drive(c, SANDBOXD_STOP, &(struct sandboxd_stop){.sandbox = self->ids[i]}, 0, 0,\n"
                                       "\t\t\t      STOP_MS);\n\treturn ORPHANS_NONE;\n}\n\nstatic uint8_t again"),
                                      ("actors/sandbox/orphans.c", "[MSG_ORPHANS] = ON(found, T(ASKING)),\n\t\t\t[MSG_JUDGED] = IGNORE,",
                                       "[MSG_ORPHANS] = ON(found, T(ASKING) | T(NONE)),\n\t\t\t[MSG_JUDGED] = IGNORE,")]),
    "executed_twice": (30, [("raft-store/state/apply/apply.c", "\tif (kept != NULL) {\n", "\tif (kept != NULL && kept->sequence == 0) {\n")]),
    "waiter_served_twice": (30, [(SANDBOX, "\twaiter = state_next_waiter(a->s, row.pool, NULL);\n",
                                  "\twaiter = state_next_waiter(a->s, row.pool, NULL);\n"
                                  "\tif (waiter == NULL && a->now_ms % 8 == 0)\n"
                                  "\t\twaiter = state_next_pool_session(a->s, row.pool, NULL);\n")]),
    "acknowledged_before_commit": (60, [("nodes/control/proposer.c",
                                         "\t\tif (w->deadline_ms == 0 || now_ms < w->deadline_ms) {",
                                         "\t\tif ((w->type != COMMAND_SESSION_CLOSING || w->sent_ms == 0) &&\n"
                                         "\t\t    (w->deadline_ms == 0 || now_ms < w->deadline_ms)) {"),
                                        ("nodes/control/proposer.c",
                                         "w->correlation, -EINPROGRESS, NULL);\n\t\twaiting_free(w);\n\t}\n}\n\n/* -- Going out",
                                         "w->correlation,\n\t\t\t  w->type == COMMAND_SESSION_CLOSING ? 0 : -EINPROGRESS, NULL);\n"
                                         "\t\twaiting_free(w);\n\t}\n}\n\n/* -- Going out")]),
    "capacity_exceeded": (100, [(SANDBOX, "node->cpu_reserved + cpu_milli <= node->cpu_milli * x->overcommit_cpu &&", ""),
                                ("actors/placement/refill.c", "fits(spot->cpu_milli, spot->row->cpu_milli * x->overcommit_cpu, t->cpu_milli)",
                                 "fits(spot->cpu_milli, UINT64_MAX, t->cpu_milli)")]),
    "downgraded": (30, [("actors/sandbox/starting.c", ".isolation = pool->isolation}", ".isolation = ISOLATION_CONTAINER}")]),
    "booted_where_it_cannot_run": (30, [(SANDBOX, "if (!state_node_runs(node, pool->isolation)) {", "if (node == NULL) {"),
                                        ("actors/placement/refill.c", "!able_node(spot->row, pool, t) ||", "pool == NULL ||")]),
    "lost_without_a_look_at_the_renewal": (60, [("actors/membership/membership.c",
                                                 "if (heard->at_ms == 0 || heard->renewed_ms != row->renewed_ms) {",
                                                 "if (heard->at_ms == 0) {"),
                                                (NODE, "if (a->now_ms < node->renewed_ms + a->cluster.settings.lost_ms) {",
                                                 "if (a->cluster.settings.lost_ms == 0) {")]),
    "resumed_after_moved": (120, [("actors/sandbox/stopping.c", "row != NULL && row->node == c->node ? row : NULL", "row")]),
    "went_on_before_moved": (240, [("actors/arrival/arrival.c", "\tif (reply->code == 0 || reply->code == -EEXIST)\n\t\treturn propose(",
                                   "\tif (reply->code == 0)\n\t\tcontext_drive(c, SANDBOXD_GO_ON,\n\t\t\t      "
                                   "&(struct sandboxd_save){.sandbox = a->key, .save = self->save}, 0, 0, LOAD_MS);\n"
                                   "\tif (reply->code == 0 || reply->code == -EEXIST)\n\t\treturn propose(")]),
    "started_by_stale_tables": (200, [("actors/sandbox/sandbox.c", "context_epoch(c) == 0 ? SANDBOX_ACTOR_NEW : start(self, c)",
                                       "start(self, c)")]),
}


def main():
    if sys.argv[1] == "--list":
        for name, (seeds, changes) in MUTANTS.items():
            print(name, seeds, *dict.fromkeys(file for file, _, _ in changes))
        return
    name, root, outs = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    changes = MUTANTS[name][1]
    for file, out in zip(dict.fromkeys(file for file, _, _ in changes), outs):
        text = (root / file).read_text()
        for where, old, new in changes:
            if where != file:
                continue
            if text.count(old) != 1:
                print(f"mutant {name}: its place is {text.count(old)} times in {file}: write it anew in {__file__}", file=sys.stderr)
            text = text.replace(old, new)
        pathlib.Path(out).write_text(text)


main()
