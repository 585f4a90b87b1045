from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from token_makers import AUDIENCE, NOW

from stk_ml.errors import IdentityError, UsageError, VaultError
from stk_ml.identity.jwt import JwtVerifier
from stk_ml.identity.key_sources import JwksFile
from stk_ml.identity.local import DevIssuer

ROTATE = """
import sys
from stk_ml.identity.local import DevIssuer
issuer = DevIssuer(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    issuer.rotate()
    print("rotated", flush=True)
print(issuer.issue("ada", "api://stk-ml", ["score"], 60, 1_700_000_000.0), flush=True)
"""


def start(folder: Path, rotations: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", ROTATE, str(folder), str(rotations)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def issue(folder: Path, **changes: object) -> str:
    given = {"subject": "ada", "audience": AUDIENCE, "scopes": ["score"], "seconds": 600, "now": NOW, **changes}
    return DevIssuer(folder).issue(**given)  # type: ignore[arg-type]


def verifier(folder: Path) -> JwtVerifier:
    return JwtVerifier(JwksFile(folder / "jwks.json"), "stk-ml-dev", AUDIENCE)


def kids(folder: Path) -> list[str]:
    return [key["kid"] for key in json.loads((folder / "jwks.json").read_bytes())["keys"]]


def test_the_verifier_accepts_what_the_issuer_signs(tmp_path: Path) -> None:
    text = issue(tmp_path, scopes=["read", "score"])
    assert verifier(tmp_path).verify(text, now=NOW + 600).name == "ada"
    with pytest.raises(IdentityError, match="expired"):
        verifier(tmp_path).verify(text, now=NOW + 660)


def test_the_private_key_is_private_and_never_published(tmp_path: Path) -> None:
    folder = tmp_path / "identity"
    issue(folder)
    assert stat.filemode((folder / "signing-key.pem").stat().st_mode) == "-rw-------"
    assert stat.filemode(folder.stat().st_mode) == "drwx------"
    (key,) = json.loads((folder / "jwks.json").read_bytes())["keys"]
    assert set(key) == {"kty", "use", "alg", "kid", "n", "e"}
    assert "PRIVATE" not in repr(DevIssuer(folder))


def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    issue(tmp_path)
    (tmp_path / "signing-key.pem").chmod(0o644)
    with pytest.raises(VaultError, match="has mode 644"):
        issue(tmp_path)


def test_a_damaged_private_key_is_named_and_not_replaced(tmp_path: Path) -> None:
    issue(tmp_path)
    (tmp_path / "signing-key.pem").write_bytes(b"hunter2")
    with pytest.raises(VaultError, match="holds no private key") as caught:
        issue(tmp_path)
    assert "hunter2" not in str(caught.value)


def test_the_same_key_signs_until_it_is_rotated(tmp_path: Path) -> None:
    issue(tmp_path)
    issue(tmp_path)
    (first,) = kids(tmp_path)
    second = DevIssuer(tmp_path).rotate()
    assert kids(tmp_path) == [second, first]
    issue(tmp_path)
    assert kids(tmp_path) == [second, first]


def test_old_tokens_hold_through_one_rotation_and_not_two(tmp_path: Path) -> None:
    text, issuer, checks = issue(tmp_path), DevIssuer(tmp_path), verifier(tmp_path)
    issuer.rotate()
    assert checks.verify(text, now=NOW).name == "ada"
    issuer.rotate()
    with pytest.raises(IdentityError, match="does not publish"):
        checks.verify(text, now=NOW + 1)
    assert checks.verify(issue(tmp_path), now=NOW + 1).name == "ada"


def test_rotation_can_end_all_old_tokens(tmp_path: Path) -> None:
    issue(tmp_path)
    assert kids(tmp_path) != [DevIssuer(tmp_path).rotate(keep=1)]
    assert len(kids(tmp_path)) == 1
    with pytest.raises(UsageError, match="at least the new one"):
        DevIssuer(tmp_path).rotate(keep=0)


@pytest.mark.parametrize("damage", [None, b"{", b'{"keys": []}'])
def test_a_lost_public_key_is_published_again(tmp_path: Path, damage: bytes | None) -> None:
    text = issue(tmp_path)
    if damage is None:
        (tmp_path / "jwks.json").unlink()
    else:
        (tmp_path / "jwks.json").write_bytes(damage)
    issue(tmp_path)
    assert verifier(tmp_path).verify(text, now=NOW).name == "ada"


@pytest.mark.parametrize(
    "changes", [{"subject": ""}, {"seconds": 0}, {"seconds": -1}, {"seconds": float("nan")}], ids=str
)
def test_a_token_needs_a_subject_and_a_time(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="a token needs"):
        issue(tmp_path, **changes)


def test_processes_that_make_the_issuer_at_once_agree(tmp_path: Path) -> None:
    processes = [start(tmp_path, 0) for _ in range(2)]
    for process in processes:
        go(process)
    texts = [process.communicate(timeout=30)[0].strip() for process in processes]
    assert [verifier(tmp_path).verify(text, now=NOW).name for text in texts] == ["ada", "ada"]
    assert len(kids(tmp_path)) == 1


def test_killed_while_it_rotates_it_still_signs_what_is_published(tmp_path: Path) -> None:
    for rotations in range(3):
        process = start(tmp_path, 10_000)
        go(process)
        assert process.stdout is not None
        for _ in range(rotations):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert verifier(tmp_path).verify(issue(tmp_path), now=NOW).name == "ada"
