"""Where sandboxes go, on real nodes: labels of nodes and pools, a nearly full disk, capacity; and what `berth node list` shows."""
from harness import Cluster, run, wait_until

cluster = Cluster()
MEMORY_MI = 4096


def configure(node, *lines):
    path = cluster.node_dir(node) / "berth.conf"
    path.write_text(path.read_text() + "".join(line + "\n" for line in lines))


for n in (1, 2, 3):
    configure(n, f"memory = {MEMORY_MI}Mi", f"labels = disk={'ssd' if n < 3 else 'hdd'},zone=z{n}")
configure(2, "disk_free_min = 99")  # nearly full, as it is told
cluster.start()
cluster.import_image()


def nodes():
    return {n["id"]: n for n in cluster.admin("GET", "/.berth/v1/nodes").json()["value"]}


def create(pool, ready, *options):
    cluster.berth("pool", "create", "--name", pool, "--image", "berth/sample:1", "--target-port", "80", "--max-sessions", "40",
                  "--ready-sessions", str(ready), *options)
    wait_until("the share is ready", 30, lambda: spread(pool)[0]["ready"] == ready)
    return nodes()


def delete(pool):
    cluster.berth("pool", "delete", "--name", pool)
    wait_until("all of it is gone", 20, lambda: sum(n["ready"] + n["memoryBytesReserved"] for n in nodes().values()) == 0)


def spread(pool):
    group = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/providers/Microsoft.App/sessionPools/"
    a = cluster.admin("GET", f"/.berth/v1{group}{pool}/status")
    assert a.status == 200, a
    return a.json()["sandboxes"], {i: n["ready"] for i, n in nodes().items()}


def test_a_nearly_full_node_gets_nothing():
    wait_until("node 2 told of its disk", 10, lambda: nodes()[2]["diskNearlyFull"])
    found = create("spread", 6)
    assert found[2]["ready"] == 0 and found[1]["ready"] == found[3]["ready"] == 3, {i: n["ready"] for i, n in found.items()}
    assert found[2]["scheduling"] == "disk full" and found[1]["scheduling"] == "open"


def test_node_list_shows_what_is_needed():
    one = nodes()[1]
    assert one["memoryBytes"] == MEMORY_MI << 20 and one["memoryBytesReserved"] == 3 * 512 << 20, one
    assert one["memoryBytesFree"] == one["memoryBytes"] - one["memoryBytesReserved"] and one["cpuMilliReserved"] == 750, one
    assert 0 < one["diskBytesFree"] < one["diskBytes"] and 0 <= one["diskUsedPercent"] <= 100, one
    assert one["labels"] == "disk=ssd,zone=z1", one
    table = cluster.berth("node", "list", "--output", "table").stdout
    for word in ("STATE", "SCHEDULING", "CPU", "MEMORY", "READY", "BOUND", "DISK %", "disk full"):
        assert word in table, (word, table)
    delete("spread")


def test_labels():
    found = create("labelled", 3, "--node-labels", "disk=hdd")
    assert {i: n["ready"] for i, n in found.items()} == {1: 0, 2: 0, 3: 3}
    cluster.berth("pool", "update", "--name", "labelled", "--node-labels", "disk=ssd")
    wait_until("they moved to where the labels are now", 30, lambda: spread("labelled")[1] == {1: 3, 2: 0, 3: 0})
    r = cluster.berth("pool", "update", "--name", "labelled", "--node-labels", "disk", check=False)
    assert r.returncode == 1 and "tags.berth.nodeLabels" in r.stderr, r.stderr
    delete("labelled")


def test_capacity_bounds_what_is_ready():
    """Two nodes of 4 GiB: eight sandboxes of 512 MiB each, and not one more."""
    cluster.berth("pool", "create", "--name", "large", "--image", "berth/sample:1", "--target-port", "80", "--max-sessions", "40",
                  "--ready-sessions", "30")
    wait_until("both are full", 60, lambda: spread("large")[1] == {1: 8, 2: 0, 3: 8})
    assert all(n["memoryBytesReserved"] <= n["memoryBytes"] for n in nodes().values())
    delete("large")


run([test_a_nearly_full_node_gets_nothing, test_node_list_shows_what_is_needed, test_labels,
     test_capacity_bounds_what_is_ready], cluster)
