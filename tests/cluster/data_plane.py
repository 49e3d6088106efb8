"""The data plane as its clients use it: calls of the code interpreters' paths arrive unchanged, pools answer by Host and
by path, `.management` calls do what Azure's do; wrong identifiers, tokens, roles and methods are refused."""
import base64
import hashlib
import hmac
import json
import time

import harness
from harness import API, Cluster, in_parallel, run, wait_until

cluster = Cluster(settings=["cooldown_min=2", "domain=berth.test"]).start()
cluster.import_image()
assert cluster.put_pool("data", max_sessions=20, ready=2)["status"] == "Succeeded"
SCOPE = cluster.arm_path("data").split("?")[0]
HEX = "0123456789abcdef"


def ask(method, path, body=None, node=1, headers=None, token=None, tls=False):
    h = {"Authorization": "Bearer " + (token or cluster.token())}
    h.update(headers or {})
    h = {k: v for k, v in h.items() if v is not None}
    return cluster._request(cluster.connection(node, tls=tls), method, path, body, h)


def error(answer):
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    document = answer.json()
    assert set(document) == {"error"} and document["error"]["code"] and document["error"]["message"], document
    return document["error"]


def endpoint():
    return cluster.pool("data").json()["properties"]["poolManagementEndpoint"]


def test_calls_of_code_interpreters_arrive_unchanged():
    """What LangChain's session tools send: path, ?identifier=&api-version=, a bearer token."""
    code = {"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "print('é')"}}
    boundary = "5f0c"
    upload = (f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a b.csv"\r\n'
              "Content-Type: application/octet-stream\r\n\r\n").encode() + bytes(range(256)) + f"\r\n--{boundary}--\r\n".encode()
    calls = [("POST", "/code/execute", json.dumps(code).encode(), "application/json"),
             ("POST", "/executions", json.dumps(code).encode(), "application/json"),
             ("GET", "/executions/0f9e-1", None, None),
             ("POST", "/files/upload", upload, f"multipart/form-data; boundary={boundary}"),
             ("GET", "/files", None, None),
             ("GET", "/files/content/a%20b.csv", None, None),
             ("GET", "/files/a%20b.csv/content", None, None),
             ("DELETE", "/files/a%20b.csv", None, None)]
    guids = set()
    for i, (method, path, body, kind) in enumerate(calls):
        query = f"identifier=langchain-1&api-version=2024-10-02-preview&maxresults={i}"
        a = ask(method, f"{cluster.pool_path('data')}{path}?{query}", body, node=i % 3 + 1, tls=i % 2 == 1,
                headers={"Content-Type": kind, "User-Agent": "langchain-azure-dynamic-sessions/0.2.0 (Language=Python)"})
        assert a.status == 200, (path, a)
        seen = a.json()
        assert (seen["method"], seen["path"], seen["query"]) == (method, path, query), seen
        headers = {k.lower(): v for k, v in seen["headers"]}
        assert "authorization" not in headers, headers
        assert headers["user-agent"].startswith("langchain-azure-dynamic-sessions/"), headers
        assert headers.get("content-type") == kind, headers
        if body is not None:
            assert headers["content-length"] == str(len(body)), headers
        if path != "/files/upload" and body is not None:
            assert seen["body"].encode() == body, seen
        guids.add(a.headers["x-ms-session-guid"])
        assert a.headers["x-ms-allocation-time"].isdigit(), a.headers
        assert a.headers["x-ms-new-allocation"] in ("true", "false"), a.headers
    assert len(guids) == 1, guids
    a = ask("POST", f"{cluster.pool_path('data')}/upload?identifier=langchain-1", upload, node=2)
    assert a.json()["bytes"] == len(upload), a


def test_traceparent():
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for node in (1, 2, 3):
        a = ask("GET", f"{cluster.pool_path('data')}/?identifier=langchain-1", node=node,
                headers={"traceparent": given, "tracestate": "a=b"})
        headers = {k.lower(): v for k, v in a.json()["headers"]}
        assert headers["traceparent"] == given and headers["tracestate"] == "a=b", headers
        a = ask("GET", f"{cluster.pool_path('data')}/?identifier=langchain-1", node=node, headers={"traceparent": "00-zz"})
        made = {k.lower(): v for k, v in a.json()["headers"]}["traceparent"]
        assert made != "00-zz" and len(made) == 55 and set(made) <= set(HEX + "-"), made


def test_pool_by_host():
    url = endpoint()
    host = url.split("/")[2]
    assert host.split(":")[0] == "data.default.local.berth.test", url
    for node in (1, 2, 3):
        a = ask("GET", "/code/execute?identifier=by-host", node=node, headers={"Host": host})
        assert a.status == 200 and a.json()["path"] == "/code/execute", a
        a = ask("POST", f"/.management/getSession?identifier=by-host&api-version={API}", node=node, headers={"Host": host})
        assert a.status == 200 and a.json()["identifier"] == "by-host", a


WRONG_IDENTIFIERS = ["", "identifier=", "identifier", "identifier=abc", "identifier=" + "a" * 129, "identifier=abc%zz",
                     "identifier=abcd%2", "identifier=ab%20cd", "identifier=ab%00cd", "identifier=abc%C3%A9",
                     "identifier=abcd&identifier=abcd", "identifier=abcd&IDENTIFIER=efgh", "identifier=abcd%5C"]


def test_wrong_identifiers():
    before = len(cluster.sessions("data"))
    for i, query in enumerate(WRONG_IDENTIFIERS):
        for path in ("/x", "/.management/stopSession", "/.management/getSession"):
            a = ask("POST", f"{cluster.pool_path('data')}{path}?{query}&api-version={API}".replace("?&", "?"), node=i % 3 + 1)
            assert a.status == 400, (path, query, a)
            e = error(a)
            assert "identifier" in e["message"] or "query" in e["message"], (query, e)
    assert len(cluster.sessions("data")) == before
    for good in ("abcd", "a" * 128, "a+b-|&^%$#(){}[];<>".replace("&", "%26").replace("%$", "%25$").replace("#", "%23")):
        a = ask("GET", f"{cluster.pool_path('data')}/?identifier={good}", node=2)
        assert a.status == 200, (good, a)
        a = ask("POST", f"{cluster.pool_path('data')}/.management/stopSession?identifier={good}&api-version={API}", node=3)
        assert a.status == 200, (good, a)


def test_unknown_pools():
    for path in ("/x?identifier=abcd", f"/.management/getSession?identifier=abcd&api-version={API}"):
        a = ask("GET", cluster.pool_path("nowhere") + path, node=2)
        assert a.status == 404 and error(a)["code"] == "ResourceNotFound", a


def expired():
    """A token that was good: its claims with an end in the past, signed by nobody who may."""
    head, claims, signature = cluster.token().split(".")
    body = json.loads(base64.urlsafe_b64decode(claims + "=="))
    body["exp"] = int(time.time()) - 3600
    text = base64.urlsafe_b64encode(json.dumps(body).encode()).rstrip(b"=").decode()
    return f"{head}.{text}.{signature}"


def unsigned():
    _, claims, _ = cluster.token().split(".")
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    key = hmac.new(b"", claims.encode(), hashlib.sha256).digest()
    return f"{head}.{claims}." + base64.urlsafe_b64encode(key).rstrip(b"=").decode()


def test_tokens():
    session = f"{cluster.pool_path('data')}/?identifier=tokens-1"
    stop = f"{cluster.pool_path('data')}/.management/listSessions?api-version={API}"
    resource = cluster.arm_path("data")
    management = cluster.token("management")
    for node in (1, 2, 3):
        for headers in ({"Authorization": None}, {"Authorization": "Bearer"}, {"Authorization": "Basic dXNlcjp4"},
                        {"Authorization": "Bearer a.b.c"}, {"Authorization": "Bearer " + expired()},
                        {"Authorization": "Bearer " + unsigned()}, {"Authorization": "Bearer " + "x" * 9000}):
            for path in (session, stop, resource):
                a = ask("GET", path, node=node, headers=headers)
                assert a.status in (401, 431) and (a.status == 401 or len(headers["Authorization"]) > 8000), (path, headers, a)
                if a.status == 401:
                    assert error(a) and a.headers["www-authenticate"].startswith("Bearer"), a.headers
        assert ask("GET", session, node=node, token=management).status == 401
        assert ask("GET", stop, node=node, token=management).status == 401
        assert ask("GET", resource, node=node, token=cluster.token()).status == 401


def test_roles():
    elsewhere = SCOPE.replace("/data", "/other")
    session = f"{cluster.pool_path('data')}/?identifier=roles-1"
    for roles in ([{"role": harness.EXECUTOR, "scope": elsewhere}], [{"role": "Owner", "scope": "/"}],
                  [{"role": harness.EXECUTOR, "scope": SCOPE + "/x"}], [{"role": harness.EXECUTOR, "scope": SCOPE[:-1]}]):
        a = ask("GET", session, token=cluster.token("data", roles))
        assert a.status == 403 and error(a), (roles, a)
        a = ask("POST", f"{cluster.pool_path('data')}/.management/listSessions?api-version={API}",
                token=cluster.token("data", roles))
        assert a.status == 403 and error(a), (roles, a)
    for scope in (SCOPE, SCOPE.upper(), f"/subscriptions/{harness.SUBSCRIPTION}", "/"):
        a = ask("GET", session, token=cluster.token("data", [{"role": harness.EXECUTOR, "scope": scope}]))
        assert a.status == 200, (scope, a)
    reader = cluster.token("management", [{"role": "Reader", "scope": "/"}])
    assert ask("GET", cluster.arm_path("data"), token=reader).status == 200
    for method, body in (("PUT", cluster.resource()), ("PATCH", {"tags": {}}), ("DELETE", None)):
        a = ask(method, cluster.arm_path("data"), body, token=reader)
        assert a.status == 403 and error(a)["code"] == "AuthorizationFailed", (method, a)
    stranger = cluster.token("management", [{"role": "Owner", "scope": f"/subscriptions/{'0' * 36}"}])
    assert ask("GET", cluster.arm_path("data"), token=stranger).status == 403
    assert ask("POST", "/.berth/v1/tokens", {}, token=cluster.token("management")).status == 403


def test_management_calls():
    ask("GET", f"{cluster.pool_path('data')}/?identifier=managed-1", node=3)
    base = f"{cluster.pool_path('data')}/.management"
    for node in (1, 2, 3):
        a = ask("POST", f"{base}/getSession?identifier=managed-1&api-version={API}", node=node)
        assert a.status == 200, a
        got = a.json()
        assert set(got) == {"identifier", "etag", "expiresAt", "createdAt", "lastAccessedAt"}, got
        assert got["createdAt"] <= got["lastAccessedAt"] < got["expiresAt"], got
        a = ask("POST", f"{base}/listSessions?skip=0&api-version={API}", node=node)
        listed = a.json()
        assert set(listed) == {"value", "count", "nextLink"} and listed["count"] == len(listed["value"]), listed
        assert "managed-1" in [s["identifier"] for s in listed["value"]], listed
        a = ask("POST", f"{base}/getSession?identifier=nobody-there&api-version={API}", node=node)
        assert a.status == 400 and error(a)["code"] == "SessionWithIdentifierNotFound", a
        a = ask("POST", f"{base}/stopSession?identifier=nobody-there&api-version={API}", node=node)
        assert a.status == 400 and a.body == b"Failed to stop session, session not found.", a
        a = ask("POST", f"{base}/startSession?identifier=managed-1&api-version={API}", node=node)
        assert a.status == 400 and error(a)["code"] == "SessionRequestNotSupported", a
        a = ask("DELETE", f"{base}/stopSession?identifier=managed-1&api-version={API}", node=node)
        assert a.status == 405 and a.headers["allow"] == "POST", a
        a = ask("POST", f"{base}/listSessions?skip=-1&api-version={API}", node=node)
        assert a.status == 400 and "skip" in error(a)["message"], a


def test_last_access_is_the_owners():
    path = f"{cluster.pool_path('data')}/.management/getSession?identifier=access-1&api-version={API}"
    ask("GET", f"{cluster.pool_path('data')}/?identifier=access-1", node=1)
    first = ask("POST", path, node=2).json()
    time.sleep(0.05)
    ask("GET", f"{cluster.pool_path('data')}/?identifier=access-1", node=3)
    seen = [ask("POST", path, node=node).json() for node in (1, 2, 3)]
    for got in seen:
        assert got["createdAt"] == first["createdAt"], (first, got)
        assert got["lastAccessedAt"] > first["lastAccessedAt"], (first, got)
        assert got["expiresAt"] > first["expiresAt"], (first, got)


def test_older_revision_keeps_its_port():
    """A session that is bound to the revision with port 80 goes on after an update to port 8081."""
    guid = ask("GET", f"{cluster.pool_path('data')}/count?identifier=old-port", node=1).headers["x-ms-session-guid"]
    done = cluster.put_pool("data", max_sessions=20, ready=1, port=8081, env=[{"name": "PORT", "value": "8081"}], node=2)
    assert done["status"] == "Succeeded", done
    for node in (1, 2, 3):  # connections of their own: nothing is reused
        time.sleep(1.2)
        a = ask("POST", f"{cluster.pool_path('data')}/count?identifier=old-port", b"", node=node)
        assert a.status == 200 and a.headers["x-ms-session-guid"] == guid, a
    assert ask("GET", f"{cluster.pool_path('data')}/count?identifier=new-port", node=2).status == 200


def test_a_write_is_read_through_every_node():
    for i in range(30):
        writer, reader, other = i % 3 + 1, (i + 1) % 3 + 1, (i + 2) % 3 + 1
        a = cluster.admin("PATCH", cluster.arm_path("data"), {"tags": {"round": str(i)}}, node=writer)
        assert a.status == 202, a
        for node in (reader, other):
            got = cluster.pool("data", node).json()["tags"]
            assert got == {"round": str(i), "berth.isolation": "container"}, (i, writer, node, got)


def test_patches_at_once_keep_each_other():
    def patch(i):
        return cluster.admin("PATCH", cluster.arm_path("data"), {"tags": {f"writer{i}": str(i)}}, node=i % 3 + 1)
    answers = in_parallel(9, patch)
    assert [a.status for a in answers] == [202] * 9, answers
    tags = cluster.pool("data", 2).json()["tags"]
    assert {f"writer{i}": str(i) for i in range(9)}.items() <= tags.items(), tags


def test_deleted_pool():
    a = cluster.admin("DELETE", cluster.arm_path("data"), node=3)
    assert a.status == 202, a
    cluster.wait_operation(a, 1)
    a = wait_until("the pool is gone from the data plane", 5, lambda: (
        lambda r: r if r.status == 404 else None)(ask("GET", f"{cluster.pool_path('data')}/?identifier=langchain-1", node=2)))
    assert error(a)["code"] == "ResourceNotFound", a


run([test_calls_of_code_interpreters_arrive_unchanged, test_traceparent, test_pool_by_host, test_wrong_identifiers,
     test_unknown_pools, test_tokens, test_roles, test_management_calls, test_last_access_is_the_owners,
     test_older_revision_keeps_its_port, test_a_write_is_read_through_every_node,
     test_patches_at_once_keep_each_other, test_deleted_pool], cluster)
