"""The webhook as a process: who may come in, what comes back, and what a storm of alerts amounts to."""

from __future__ import annotations

import json
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="pip install 'stk-ml[serving]'")
from alerts_server import Answer, Server, project, runs, storm, wait_for_rest
from test_retraining_alerts import azure

from stk_ml.identity.local import DevIssuer
from stk_ml.retraining import signature
from stk_ml.retraining.ledger import RunLedger


def drift(model: str, id_: object = "1", **more: Any) -> dict[str, Any]:
    """An alert that asks for a retrain."""
    return {"model": model, "kind": "drift", "id": id_} | more


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Takes any number of alerts. The model ``broken`` has broken data, so nothing is trained."""
    folder = project(tmp_path_factory.mktemp("alerts"), "broken", "other")
    with Server(folder, "--rate", "0") as running:
        assert running.send({"model": "broken", "kind": "quality", "id": "b"}).body["decision"] == "blocked"
        yield running


def token(server: Server, scope: str, *, now: float | None = None) -> str:
    issuer = DevIssuer(server.folder / ".stk" / "identity")
    return issuer.issue("ada", "api://stk-ml", [scope], 600, time.time() if now is None else now)


def test_the_same_alert_gets_the_same_decision_and_a_link_to_it(server: Server) -> None:
    first, again = server.send(drift("broken", "same")), server.send(drift("broken", "same"))
    assert (first.status, again.status) == (202, 200)
    assert first.body == again.body
    assert first.headers["location"] == first.body["link"] == f"/decisions/{first.body['key']}"
    assert first.body["decision"] == "blocked"
    shown = server.decision(first.body["link"])
    assert (shown.status, shown.body) == (200, first.body)


def test_azure_monitors_alert_fired_and_resolved(server: Server) -> None:
    about = {"custom": {"model": "broken", "kind": "performance"}}
    fired = server.send(azure(**about))
    resolved = server.send(azure(**about, monitorCondition="Resolved"))
    assert (fired.status, resolved.status) == (202, 202)
    assert fired.body["key"] != resolved.body["key"]


@pytest.mark.parametrize("scope", ["retrain", "ActionGroupsSecureWebhook"])
def test_a_bearer_token_comes_in(server: Server, scope: str) -> None:
    body = json.dumps(drift("broken", f"by {scope}")).encode()
    authorization = f"Bearer {token(server, scope)}"
    answer = server.call("POST", "/alerts", body, authorization=authorization)
    assert answer.status == 202
    assert server.call("GET", answer.body["link"], authorization=authorization).status == 200


def test_who_may_not_come_in(server: Server) -> None:
    body = json.dumps(drift("broken", "stranger")).encode()
    good, now = signature.sign(server.secret, body, now=time.time()), time.time()
    refused = {
        "no credential": {},
        "another scope": {"authorization": f"Bearer {token(server, 'score')}"},
        "an expired token": {"authorization": f"Bearer {token(server, 'retrain', now=now - 5000)}"},
        "no token": {"authorization": "Bearer abc"},
        "another scheme": {"authorization": "Basic abc"},
        "a bad token beside a good signature": {"authorization": "Bearer abc", "x_stk_signature": good},
        "another secret": {"x_stk_signature": signature.sign(b"guess", body, now=now)},
        "another body": {"x_stk_signature": signature.sign(server.secret, body + b" ", now=now)},
        "an old signature": {"x_stk_signature": signature.sign(server.secret, body, now=now - 301)},
        "one from the future": {"x_stk_signature": signature.sign(server.secret, body, now=now + 302)},
        "another time": {"x_stk_signature": good.replace(f"t={int(now)}", f"t={int(now) + 1}")},
        "nonsense": {"x_stk_signature": "t=x,v1="},
        "no time": {"x_stk_signature": good.split(",")[1]},
        "no signature": {"x_stk_signature": good.split(",")[0]},
        "letters of other alphabets": {"x_stk_signature": f"t={int(now)},v1=\xe9"},
    }
    answers = {what: server.call("POST", "/alerts", body, **headers) for what, headers in refused.items()}
    statuses = {what: answer.status for what, answer in answers.items()}
    assert statuses == dict.fromkeys(refused, 401) | {"another scope": 403}
    assert all(answer.body["error"]["type"] for answer in answers.values())
    assert server.call("GET", "/decisions/0000").status == 401
    assert server.call("GET", "/decisions/0000", x_stk_signature=good).status == 401


def test_an_old_and_a_new_secret_count_together(tmp_path: Path) -> None:
    from stk_ml.vault.local import FileSecretStore

    folder = project(tmp_path, "eta")
    store = FileSecretStore(folder / ".stk" / "vault.json")
    store.set("old", "first")
    store.set("new", "second")
    with Server(
        folder, "--rate", "0", "--auth", "signature", "--secret", "vault:new", "--secret", "vault:old"
    ) as server:
        quality = {"model": "eta", "kind": "quality"}
        assert server.send(quality, secret=b"first").status == 202
        assert server.send(quality, secret=b"second").status == 200
        store.set("old", "third")
        until = time.monotonic() + 10
        while server.send(quality, secret=b"first").status != 401:
            assert time.monotonic() < until
        assert server.send(quality, secret=b"third").status == 200
        bearer = server.call("POST", "/alerts", b"{}", authorization="Bearer a.b.c")
        assert (bearer.status, bearer.body["error"]["message"]) == (401, "bearer tokens are not accepted here")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not JSON"),
        ({"schemaId": "azureMonitorCommonAlertSchema2", "data": {}}, 422, "azureMonitorCommonAlertSchema2"),
        ({"model": "unheard-of", "kind": "drift"}, 422, "unheard-of"),
        ({"model": "broken", "kind": "drift", "detail": "x" * 300_000}, 413, "larger than"),
    ],
)
def test_what_is_not_taken_is_told(server: Server, body: Any, status: int, said: str) -> None:
    answer = server.send(body)
    assert answer.status == status
    assert said in answer.body["error"]["message"]
    assert answer.body["error"]["hint"] or status == 413


def test_other_paths_and_methods(server: Server) -> None:
    assert server.call("GET", "/health/live").status == 200
    assert server.call("GET", "/nothing").status == 404
    assert server.call("GET", "/alerts").status == 405
    path = "/decisions/0123456789abcdef0123456789abcdef"
    assert server.decision(path).status == 404


def test_a_body_that_never_ends_is_given_up(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as caller:
        caller.sendall(b"POST /alerts HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        answer = b""
        try:
            for _ in range(64):
                caller.sendall(chunk)
            answer = caller.recv(65536)
        except ConnectionError:
            answer = answer or b"HTTP/1.1 413"
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_caller_that_sends_too_much_is_told_to_wait(tmp_path: Path) -> None:
    folder = project(tmp_path, "eta")
    with Server(folder, "--rate", "0.5", "--burst", "3") as server:
        answers = [server.send({"model": "eta", "kind": "quality", "id": number}) for number in range(5)]
        assert [answer.status for answer in answers] == [202, 202, 202, 429, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
        # Another caller has tokens of its own.
        body = json.dumps({"model": "eta", "kind": "quality", "id": 0}).encode()
        bearer = server.call("POST", "/alerts", body, authorization=f"Bearer {token(server, 'retrain')}")
        assert bearer.status == 200


def test_nothing_secret_is_logged(server: Server) -> None:
    bearer, detail = token(server, "retrain"), "the-detail-of-an-alert"
    body = json.dumps(drift("broken", "logged", detail=detail)).encode()
    signed = signature.sign(server.secret, body, now=time.time())
    server.call("POST", "/alerts", body, authorization=f"Bearer {bearer}")
    server.call("POST", "/alerts", body, authorization=f"Bearer {bearer}x")
    server.call("POST", "/alerts", body, x_stk_signature=signed)
    server.call("POST", "/alerts", body + b" ", x_stk_signature=signed)
    log = server.log.read_text()
    assert "drift of broken fired, from 'ada': blocked" in log
    for secret in (server.secret.decode(), bearer, bearer.split(".")[2], signed, signed.split("v1=")[1], detail):
        assert secret not in log


def test_a_project_that_lets_everybody_in_only_when_it_is_told_to(tmp_path: Path) -> None:
    folder = project(tmp_path, "eta")
    with Server(folder, "--auth", "none") as server:
        assert server.call("POST", "/alerts", b'{"model": "eta", "kind": "quality"}').status == 202
        assert server.kill(signal.SIGTERM) == 0


def mixed(count: int, seed: int) -> list[Any]:
    """Alerts as they come when much goes wrong at once: mostly the same one, some others, resolutions, nonsense."""
    draw = random.Random(seed)
    alerts: list[Any] = []
    for number in range(count):
        model = draw.choice(["storm", "storm", "calm", "broken"])
        alerts.append(
            draw.choices(
                [
                    drift(model),
                    azure(
                        custom={"model": model, "kind": "performance"},
                        monitorCondition="Resolved" if model == "calm" else "Fired",
                    ),
                    drift(model, number % 150),
                    drift(model, number % 150, fired=False),
                    {"model": model, "kind": "boredom"},
                    {"model": "unheard-of", "kind": "drift"},
                ],
                [60, 20, 10, 5, 3, 2],
            )[0]
        )
    return [alert if alert.get("model") != "calm" else alert | {"fired": False} for alert in alerts]


@pytest.mark.slow
def test_a_storm_of_alerts_at_two_servers_is_one_run_per_model(tmp_path: Path) -> None:
    folder = project(tmp_path, "storm", "calm", "broken", "steady")
    with Server(folder) as one, Server(folder) as two:
        one.send({"model": "broken", "kind": "quality", "id": "b"})
        same = [drift("steady", "same")] * 5_000
        answers = storm([one, two], [*same, *mixed(5_000, seed=7)], threads=8)
        assert len(answers) == 10_000
        assert set(Counter(answer.status for answer in answers)) == {200, 202, 422}
        assert len(replies(answers, "steady")) == 1
        assert all(len(found) == 1 for found in by_key(answers).values())
        assert wait_for_rest(folder, "steady") == wait_for_rest(folder, "storm") == "failed"
        assert one.process.poll() is two.process.poll() is None
    # Runs have ended by now, and more alerts change nothing: the governor cools down.
    assert {model: runs(folder, model) for model in ("steady", "storm", "calm", "broken")} == {
        "steady": 1,
        "storm": 1,
        "calm": 0,
        "broken": 0,
    }


def by_key(answers: list[Answer]) -> dict[str, set[str]]:
    """Which decisions each key got."""
    found: dict[str, set[str]] = {}
    for answer in answers:
        if answer.status < 300:
            found.setdefault(answer.body["key"], set()).add(json.dumps(answer.body, sort_keys=True))
    return found


def replies(answers: list[Answer], model: str) -> set[str]:
    return {
        json.dumps(answer.body, sort_keys=True)
        for answer in answers
        if answer.status < 300 and answer.body["model"] == model
    }


def test_a_run_that_is_granted_while_the_process_of_the_last_one_ends_is_carried_out(tmp_path: Path) -> None:
    folder = project(tmp_path, "eta")
    with Server(folder) as server:
        ledger = RunLedger(folder / ".stk" / "monitoring" / "eta", "eta")
        for number in (1, 2):
            asked = server.send({"model": "eta", "kind": "request", "id": number})
            assert asked.body["decision"] == "start"
            until = time.monotonic() + 60
            while ledger.state().running is not None:  # ended in the ledger; its process still lives for a moment
                assert time.monotonic() < until, server.log.read_text()
                time.sleep(0.002)
    assert runs(folder, "eta") == 2


def test_a_server_that_is_killed_comes_back_to_the_same_decision_and_one_run(tmp_path: Path) -> None:
    folder = project(tmp_path, "eta")
    with Server(folder) as server:
        first = server.send(drift("eta", 7))
        assert first.body["decision"] == "start"
        assert first.body["run"]
        server.kill()
    with Server(folder) as server:
        again = server.send(drift("eta", 7))
        assert again.body == first.body
        assert wait_for_rest(folder, "eta") == "failed"
        assert server.decision(first.body["link"]).body["run_status"] == "failed"
        later = server.send(drift("eta", 8))
        assert later.body["decision"] == "wait"
        assert later.body["until"]
    assert runs(folder, "eta") == 1
