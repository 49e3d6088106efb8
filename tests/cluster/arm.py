"""The contract with Azure's clients over the wire: the document's two templates and every example of the published
OpenAPI answer the documented status, headers, fields and types; wrong input is refused with the field's name."""
import copy
import json
import pathlib
import re

import harness
from harness import Cluster, run, wait_until

DATA = pathlib.Path(__file__).parent.parent / "data"
EXAMPLES = DATA / "azure-spec/management-2024-08-02-preview"
# Fields of the definition that an example does not show.
EXTRA = {"systemData", "tags", "secrets", "nodeCount", "registryCredentials"}
POOL = "testsessionpool"

# No registry may be asked: nothing leaves this machine, and images are imported by name.
cluster = Cluster(settings=["cooldown_min=2", "start_ms=4000", "allowed_registries=127.0.0.1:9", "domain=berth.test"]).start()


def manage(method, path, body=None, node=1, token=None, headers=None):
    """A management request over TLS with a token, as Azure's clients send it."""
    h = {"Authorization": "Bearer " + (token or cluster.token("management"))}
    if body is not None:
        h["Content-Type"] = "application/json"
    h.update(headers or {})
    h = {k: v for k, v in h.items() if v is not None}
    return cluster._request(cluster.connection(node, tls=True), method, path, body, h)


def path_of_url(url):
    return "/" + url.split("/", 3)[3]


def error(answer):
    """The error of an answer, whose form must be ARM's."""
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    document = answer.json()
    assert set(document) == {"error"} and {"code", "message"} <= set(document["error"]), document
    assert document["error"]["code"] and document["error"]["message"], document
    return document["error"]


def same_shape(want, got, at):
    """Fields and types of `want` are in `got`, and nothing beside them but EXTRA; numbers are equal. Returns how many
    values were compared."""
    number = (int, float)
    if isinstance(want, number) and not isinstance(want, bool):
        assert isinstance(got, number), (at, want, got)
    else:
        assert type(want) is type(got), (at, want, got)
    n = 1
    if isinstance(want, dict):
        for key, value in want.items():
            if key == "nextLink" and key not in got:
                continue  # on the last page there is none
            assert key in got, f"{at}.{key} is in the example and not in the answer"
            n += same_shape(value, got[key], f"{at}.{key}")
        more = set(got) - set(want) - EXTRA
        assert not more, f"{at} has {more} beyond the definition"
    elif isinstance(want, list):
        assert len(want) == len(got), (at, want, got)
        for i, value in enumerate(want):
            n += same_shape(value, got[i], f"{at}[{i}]")
    elif at.endswith("nodeCount"):
        assert got >= 1, (at, got)  # of this cluster
    elif isinstance(want, number) or (isinstance(want, str) and "ndpoint" not in at and not at.endswith("State")):
        assert want == got, (at, want, got)
    return n


def example(name):
    return json.loads((EXAMPLES / f"SessionPools_{name}.json").read_text())


def check_common(answer):
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-ms-request-id"]), answer.headers
    assert answer.headers["x-ms-correlation-request-id"] == answer.headers["x-ms-request-id"], answer.headers
    assert answer.headers["api-supported-versions"].startswith("2024-02-02-preview"), answer.headers


def poll(url, node=2):
    """Polls as Azure's clients do; the last answer."""
    def ended():
        a = manage("GET", path_of_url(url), node=node)
        if a.status == 202:
            assert a.headers["location"] and int(a.headers["retry-after"]) >= 1, a.headers
            return None
        if a.status == 200 and a.json().get("status") == "InProgress":
            return None
        return a
    return wait_until("the operation ends", 60, ended, 0.1)


def create():
    spec = example("CreateOrUpdate")
    body = spec["parameters"]["sessionPoolEnvelope"]
    # Its responses show credentials that its request does not have.
    template = spec["responses"]["201"]["body"]["properties"]["customContainerTemplate"]
    body["properties"]["customContainerTemplate"]["registryCredentials"] = template["registryCredentials"]
    return spec, manage("PUT", cluster.arm_path(POOL), body)


def test_example_create():
    for node in range(1, 4):
        a = cluster.admin("POST", "/.berth/v1/images/import", {"path": harness.IMAGE, "reference": "repo/testcontainer:v4"},
                          node=node)
        assert a.status == 200, a
    spec, a = create()
    assert a.status == 201, a
    check_common(a)
    assert same_shape(spec["responses"]["201"]["body"], a.json(), "201") > 30
    assert a.json()["properties"]["provisioningState"] == "InProgress"
    assert a.headers["x-ms-async-operation-timeout"] == "PT30M"
    url = a.headers["azure-asyncoperation"]
    assert re.fullmatch(rf"https://127\.0\.0\.1:{cluster.port(1, 'https')}/subscriptions/{harness.SUBSCRIPTION}/providers/"
                        r"Microsoft\.App/locations/eastus/operationStatuses/[0-9a-zA-Z-]+\?api-version=2024-08-02-preview"
                        r"&azureAsyncOperation=true", url), url
    status = manage("GET", path_of_url(url))
    assert status.status == 200 and {"id", "name", "status", "startTime"} <= set(status.json()), status
    done = poll(url)
    assert done.json()["status"] == "Succeeded", done
    a = manage("GET", cluster.arm_path(POOL))
    assert a.status == 200 and a.json()["properties"]["provisioningState"] == "Succeeded", a
    same_shape(spec["responses"]["200"]["body"], a.json(), "200")


def test_example_get_and_lists():
    subscription = f"/subscriptions/{harness.SUBSCRIPTION}/providers/Microsoft.App/sessionPools?api-version={harness.API}"
    for name, path in (("Get", cluster.arm_path(POOL)), ("ListByResourceGroup", cluster.arm_path()),
                       ("ListBySubscription", subscription)):
        for node in (1, 2, 3):
            a = manage("GET", path, node=node)
            assert a.status == 200, a
            check_common(a)
            same_shape(example(name)["responses"]["200"]["body"], a.json(), name)


def test_example_patch():
    spec = example("Patch")
    a = manage("PATCH", cluster.arm_path(POOL), spec["parameters"]["sessionPoolEnvelope"])
    assert a.status == 202 and a.body == b"", a
    check_common(a)
    assert "/locations/eastus/operationResults/" in a.headers["location"], a.headers
    done = poll(a.headers["location"])
    assert done.status == 200, done
    same_shape(spec["responses"]["200"]["body"], done.json(), "patched")


def test_example_delete():
    a = manage("DELETE", cluster.arm_path(POOL))
    assert a.status == 202 and a.body == b"", a
    check_common(a)
    done = poll(a.headers["location"])
    assert done.status == 204 and done.body == b"", done
    a = manage("GET", cluster.arm_path(POOL), node=3)
    assert a.status == 404 and error(a)["code"] == "ResourceNotFound", a
    assert manage("DELETE", cluster.arm_path(POOL), node=2).status == 204


def template(n):
    return json.loads((DATA / f"document/template-{n}.json").read_text())


def test_templates_without_their_image():
    """Pulls from elsewhere are refused here: accepted, then an operation error that names the image."""
    for n in (1, 2):
        a = manage("PUT", cluster.arm_path("my-session-pool"), template(n))
        assert a.status == 201, a
        done = poll(a.headers["azure-asyncoperation"]).json()
        assert done["status"] == "Failed" and done["error"]["code"], done
        assert "image" in done["error"]["message"] and "myregistry.azurecr.io" in done["error"]["message"], done
        state = manage("GET", cluster.arm_path("my-session-pool")).json()["properties"]["provisioningState"]
        assert state == "Failed", state
        poll(manage("DELETE", cluster.arm_path("my-session-pool")).headers["location"])


def test_templates():
    image = "myregistry.azurecr.io/my-container-image:1.0"
    cluster.import_image(name=image)
    for n in (1, 2):
        sent = template(n)
        a = manage("PUT", cluster.arm_path("my-session-pool"), sent, node=n)
        assert a.status == 201, a
        done = poll(a.headers["azure-asyncoperation"])
        assert done.json()["status"] == "Succeeded", done
        got = manage("GET", cluster.arm_path("my-session-pool"), node=3).json()
        properties = got["properties"]
        assert properties["provisioningState"] == "Succeeded", got
        assert properties["dynamicPoolConfiguration"] == sent["properties"]["dynamicPoolConfiguration"], got
        assert properties["customContainerTemplate"]["containers"][0]["env"] == \
            sent["properties"]["customContainerTemplate"]["containers"][0]["env"], got
        assert "hunter2" not in json.dumps(got)
        if n == 2:
            (identity,) = got["identity"]["userAssignedIdentities"].values()
            assert len(identity["clientId"]) == len(identity["principalId"]) == 36, got
            assert properties["managedIdentitySettings"] == sent["properties"]["managedIdentitySettings"], got
    # The template's command serves nothing on port 80: accepted all the same, and its state says so.
    status = "/.berth/v1" + cluster.arm_path("my-session-pool").split("?")[0] + "/status"
    wait_until("the pool's status says why no sandbox becomes ready", 60,
               lambda: "80" in manage("GET", status).json().get("failure", {}).get("message", ""), 0.5)
    poll(manage("DELETE", cluster.arm_path("my-session-pool")).headers["location"])


WRONG = [  # path below the resource, value, the target that the error names; None deletes
    ("location", None, "location"),
    ("location", 7, "location"),
    ("tags", {"a": 1}, "tags.a"),
    ("identity", {"type": "Nobody"}, "identity.type"),
    ("colour", "red", "colour"),
    ("properties", None, "properties"),
    ("properties.environmentId", "env", "properties.environmentId"),
    ("properties.poolManagementType", "Manual", "properties.poolManagementType"),
    ("properties.containerType", "PythonLTS", "properties.containerType"),
    ("properties.scaleConfiguration", None, "properties.scaleConfiguration"),
    ("properties.scaleConfiguration.maxConcurrentSessions", 0, "properties.scaleConfiguration.maxConcurrentSessions"),
    ("properties.scaleConfiguration.maxConcurrentSessions", "many", "properties.scaleConfiguration.maxConcurrentSessions"),
    ("properties.scaleConfiguration.readySessionInstances", 11, "properties.scaleConfiguration.readySessionInstances"),
    ("properties.scaleConfiguration.readySessionInstances", -1, "properties.scaleConfiguration.readySessionInstances"),
    ("properties.dynamicPoolConfiguration.executionType", "Never", "properties.dynamicPoolConfiguration.executionType"),
    ("properties.dynamicPoolConfiguration.cooldownPeriodInSeconds", 1,
     "properties.dynamicPoolConfiguration.cooldownPeriodInSeconds"),
    ("properties.dynamicPoolConfiguration.cooldownPeriodInSeconds", 3601,
     "properties.dynamicPoolConfiguration.cooldownPeriodInSeconds"),
    ("properties.customContainerTemplate.containers", [], "properties.customContainerTemplate.containers"),
    ("properties.customContainerTemplate.containers.0.image", "a b",
     "properties.customContainerTemplate.containers[0].image"),
    ("properties.customContainerTemplate.containers.0.resources.cpu", 0.3,
     "properties.customContainerTemplate.containers[0].resources.cpu"),
    ("properties.customContainerTemplate.containers.0.resources.memory", "9Ti",
     "properties.customContainerTemplate.containers[0].resources.memory"),
    ("properties.customContainerTemplate.containers.0.command", "/bin/sh",
     "properties.customContainerTemplate.containers[0].command"),
    ("properties.customContainerTemplate.containers.0.env", [{"name": "A=B", "value": "x"}],
     "properties.customContainerTemplate.containers[0].env[0].name"),
    ("properties.customContainerTemplate.containers.0.env", [{"name": "A", "secretRef": "unknown"}],
     "properties.customContainerTemplate.containers[0].env[0].secretRef"),
    ("properties.customContainerTemplate.ingress.targetPort", 65536,
     "properties.customContainerTemplate.ingress.targetPort"),
    ("properties.customContainerTemplate.ingress.targetPort", None,
     "properties.customContainerTemplate.ingress.targetPort"),
    ("properties.sessionNetworkConfiguration.status", "EgressMaybe", "properties.sessionNetworkConfiguration.status"),
    ("properties.secrets", [{"name": "Upper", "value": "x"}], "properties.secrets[0].name"),
    ("properties.managedIdentitySettings", [{"identity": "puller", "lifecycle": "None"}],
     "properties.managedIdentitySettings[0].identity"),
]


def change(document, path, value):
    *way, last = path.split(".")
    for part in way:
        document = document[int(part) if part.isdigit() else part]
    if value is None:
        del document[last]
    else:
        document[last] = value


def test_each_wrong_field_is_named():
    for i, (path, value, target) in enumerate(WRONG):
        body = copy.deepcopy(cluster.resource())
        change(body, path, value)
        a = manage("PUT", cluster.arm_path("wrong"), body, node=i % 3 + 1)
        assert a.status == 400, (path, value, a)
        e = error(a)
        targets = [e.get("target")] + [d["target"] for d in e.get("details", [])]
        assert target in targets, (path, value, e)
        last = target.rsplit(".", 1)[-1].split("[")[0]
        assert last in e["message"] + json.dumps(e.get("details", [])), e
    assert manage("GET", cluster.arm_path("wrong")).status == 404


def test_wrong_requests():
    good = cluster.resource()
    bare = cluster.arm_path("wrong").split("?")[0]
    for version in ("2023-05-01", "yesterday", "2024-13-01", "9"):
        a = manage("PUT", f"{bare}?api-version={version}", good)
        assert a.status == 400 and error(a)["code"] == "InvalidApiVersionParameter", a
        assert "2024-02-02-preview" in error(a)["message"] and "2025-01-01" in error(a)["message"], a
    assert error(manage("GET", bare))["code"] == "MissingApiVersionParameter"
    for name in ("ab", "Upper", "1abc", "a--b", "ab-", "a_b", "a" * 64):
        a = manage("PUT", cluster.arm_path(name), good)
        assert a.status == 400 and error(a)["code"] == "InvalidResourceName", a
    for body in (b"", b"[]", b"{", b'{"location":1,"location":2}', b"\xff\xfe", b"[" * 10000):
        a = manage("PUT", cluster.arm_path("wrong"), body)
        assert a.status == 400 and error(a)["code"] == "InvalidRequestContent", (body[:20], a)
    for size in (600 * 1024, 3 << 20):
        a = manage("PUT", cluster.arm_path("wrong"), b'{"location":"' + b"x" * size + b'"}')
        assert a.status == 413 and error(a)["code"] == "RequestTooLarge", (size, a)
    for method in ("POST", "HEAD", "OPTIONS"):
        a = manage(method, cluster.arm_path("wrong"))
        assert a.status == 405, (method, a)
        assert set(a.headers["allow"].split(", ")) == {"PUT", "GET", "PATCH", "DELETE"}, a.headers
    assert manage("GET", "/subscriptions/x/nothing/here").status == 404
    a = manage("GET", cluster.arm_path("unknown"))
    assert a.status == 404 and error(a)["code"] == "ResourceNotFound", a
    a = manage("PATCH", cluster.arm_path("unknown"), {"tags": {}})
    assert a.status == 404 and error(a)["code"] == "ResourceNotFound", a
    assert manage("GET", "/a%zz").status == 400


def test_request_ids():
    asked = "5c8a5a0e-2f5e-4d3b-9f0e-4a1f0f0c9d11"
    a = manage("GET", cluster.arm_path("unknown"), headers={"x-ms-client-request-id": asked,
                                                             "x-ms-return-client-request-id": "true"})
    assert a.headers["x-ms-client-request-id"] == asked, a.headers
    b = manage("GET", cluster.arm_path("unknown"))
    assert "x-ms-client-request-id" not in b.headers, b.headers
    assert a.headers["x-ms-request-id"] != b.headers["x-ms-request-id"]
    refused = manage("GET", cluster.arm_path("unknown"), headers={"Authorization": None})
    assert refused.status == 401 and refused.headers["x-ms-request-id"], refused.headers
    a = manage("GET", cluster.arm_path("unknown"), headers={"x-ms-client-request-id": 'a"b\\' + "x" * 300})
    assert "x-ms-client-request-id" not in a.headers, a.headers


run([test_example_create, test_example_get_and_lists, test_example_patch, test_example_delete,
     test_templates_without_their_image, test_templates, test_each_wrong_field_is_named, test_wrong_requests,
     test_request_ids], cluster)
