from __future__ import annotations

import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stk_ml.errors import IdentityError
from stk_ml.identity.protocol import Caller
from stk_ml.serving.auth import HeaderVerifier, KeyRing, NoVerifier
from stk_ml.vault import keys
from stk_ml.vault.local import FileSecretStore

Headers = list[tuple[bytes, bytes]]
JWT = b"aGVhZA.Ym9keQ.c2lnbg"


class Tokens:
    """A verifier of tokens that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    def verify(self, token: str, *, now: float) -> Caller:
        self.asked.append((token, now))
        return Caller("ada", "token")


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Counting(FileSecretStore):
    """A vault that counts how often it is asked."""

    looks = reads = 0

    def modified(self) -> Hashable:
        self.looks += 1
        return super().modified()

    def get(self, name: str) -> str:
        self.reads += 1
        return super().get(name)


@pytest.fixture
def store(tmp_path: Path) -> FileSecretStore:
    store = FileSecretStore(tmp_path / "vault.json")
    keys.ensure(store, "flights")
    keys.ensure(store, "other")
    return store


@pytest.fixture
def verifier(store: FileSecretStore) -> HeaderVerifier:
    return HeaderVerifier(KeyRing(store, "flights"), None)


def key(store: FileSecretStore, which: str = "primary", endpoint: str = "flights") -> bytes:
    return dict(keys.read(store, endpoint))[which].encode()


NAMED = b"x-api-key authorization: bearer"


def refusal(verifier: HeaderVerifier, headers: Sequence[tuple[bytes, bytes]]) -> tuple[int, str]:
    """Status and reason of the refusal; no credential shows in it."""
    with pytest.raises(IdentityError) as caught:
        verifier.verify(headers)
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint + repr(caught.value)
    # What a message says anyway, such as the name of a header, is no secret.
    given = [value for _, value in headers if len(set(value)) > 4 and len(value) > 8 and value.lower() not in NAMED]
    assert not any(value.decode("latin-1") in shown for value in given)
    return caught.value.status, caught.value.reason


@pytest.mark.parametrize("which", ["primary", "secondary"])
def test_each_key_opens_in_either_header(verifier: HeaderVerifier, store: FileSecretStore, which: str) -> None:
    value = key(store, which)
    for header in (
        (b"x-api-key", value),
        (b"x-api-key", b" " + value + b" "),
        (b"authorization", b"Bearer " + value),
        (b"authorization", b"bearer  " + value),
        (b"authorization", b"BEARER " + value + b" "),
    ):
        assert verifier.verify([(b"host", b"x"), header, (b"accept", b"*/*")]) == Caller(which, "key")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "missing"),
        ([(b"accept", b"x")], "missing"),
        ([(b"x-api-key", b"")], "missing"),
        ([(b"x-api-key", b"  ")], "missing"),
        ([(b"authorization", b"")], "scheme"),
        ([(b"authorization", b"Bearer")], "scheme"),
        ([(b"authorization", b"Bearer ")], "missing"),
        ([(b"authorization", b"Bearer    ")], "missing"),
        ([(b"authorization", b"Basic dXNlcjpodW50ZXIy")], "scheme"),
        ([(b"authorization", b"Bearerhunter2hunter2")], "scheme"),
        ([(b"x-api-key", b"hunter2hunter2")], "key"),
        ([(b"authorization", b"Bearer hunter2hunter2")], "key"),
        ([(b"authorization", b"Bearer \xff\x00\xe9 x")], "key"),
        ([(b"authorization", b"Bearer " + JWT)], "token"),
        ([(b"x-api-key", b"a"), (b"x-api-key", b"b")], "ambiguous"),
        ([(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], "ambiguous"),
        ([(b"X-API-KEY", b"x")], "missing"),
    ],
    ids=str,
)
def test_what_opens_nothing_is_401_with_a_reason(verifier: HeaderVerifier, headers: Headers, reason: str) -> None:
    assert refusal(verifier, headers) == (401, reason)


def test_a_key_of_another_endpoint_or_a_part_of_one_opens_nothing(
    verifier: HeaderVerifier, store: FileSecretStore
) -> None:
    good = key(store)
    for wrong in (key(store, endpoint="other"), good[:-1], good + b"A", good.swapcase(), good + b"\x00", good * 2):
        assert refusal(verifier, [(b"x-api-key", wrong)]) == (401, "key")


def test_a_wrong_api_key_is_not_saved_by_a_right_bearer(verifier: HeaderVerifier, store: FileSecretStore) -> None:
    both = [(b"authorization", b"Bearer " + key(store)), (b"x-api-key", b"wrong-wrong")]
    assert refusal(verifier, both) == (401, "key")


def test_the_same_header_twice_is_one(verifier: HeaderVerifier, store: FileSecretStore) -> None:
    assert verifier.verify([(b"x-api-key", key(store))] * 2).name == "primary"


def test_an_endpoint_without_keys_opens_to_nobody(store: FileSecretStore, caplog: pytest.LogCaptureFixture) -> None:
    verifier = HeaderVerifier(KeyRing(store, "new"), None)
    for value in (b"x", b"None", b"primary"):
        assert refusal(verifier, [(b"x-api-key", value)]) == (401, "key")
    assert "endpoint new has no API keys" in caplog.text


def test_two_dots_make_a_token(store: FileSecretStore) -> None:
    tokens = Tokens()
    verifier = HeaderVerifier(KeyRing(store, "flights"), tokens, clock=lambda: 7.0)
    assert verifier.verify([(b"authorization", b"Bearer " + JWT)]) == Caller("ada", "token")
    assert verifier.verify([(b"authorization", b"Bearer " + key(store))]) == Caller("primary", "key")
    for value in (b"a.b", b"a.b.c.d", b"..."):
        assert refusal(verifier, [(b"authorization", b"Bearer " + value)]) == (401, "key")
    assert refusal(verifier, [(b"x-api-key", JWT)]) == (401, "key")
    assert tokens.asked == [(JWT.decode(), 7.0)]


def test_where_only_tokens_count_no_key_does(store: FileSecretStore) -> None:
    verifier = HeaderVerifier(None, Tokens())
    assert refusal(verifier, [(b"x-api-key", key(store))]) == (401, "key")
    assert refusal(verifier, [(b"authorization", b"Bearer " + key(store))]) == (401, "key")
    assert verifier.verify([(b"authorization", b"Bearer " + JWT)]).name == "ada"


def test_an_open_endpoint_lets_everybody_in() -> None:
    assert NoVerifier().verify([(b"x-api-key", b"whatever")]) == Caller("anonymous", "none")


TEXTS = st.binary(max_size=60)
NAMES = st.sampled_from([b"x-api-key", b"authorization", b"host", b"cookie", b""]) | TEXTS
VALUES = (
    TEXTS | st.binary(max_size=20).map(b"Bearer ".__add__) | st.sampled_from([b"Bearer a.b.c", b"bearer  ", b"Basic x"])
)


class OneKey:
    """A vault with one known key."""

    def get(self, name: str) -> str:
        return "k" * 43

    def modified(self) -> Hashable:
        return 1


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_any_headers_are_refused_with_a_reason(headers: Headers) -> None:
    verifier = HeaderVerifier(KeyRing(OneKey(), "e"), None)  # type: ignore[arg-type]
    status, reason = refusal(verifier, headers)
    assert status == 401
    assert reason in ("missing", "ambiguous", "scheme", "key", "token")


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=6), st.integers(0, 6), st.booleans())
def test_the_key_opens_wherever_its_header_stands(others: Headers, place: int, bearer: bool) -> None:
    verifier = HeaderVerifier(KeyRing(OneKey(), "e"), None)  # type: ignore[arg-type]
    header = (b"authorization", b"Bearer " + b"k" * 43) if bearer else (b"x-api-key", b"k" * 43)
    headers = [other for other in others if other[0] not in (b"x-api-key", b"authorization")]
    headers.insert(place, header)
    assert verifier.verify(headers).kind == "key"


class TestRotation:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def ring(self, store: FileSecretStore, clock: Clock) -> KeyRing:
        return KeyRing(store, "flights", refresh=1.0, grace=300.0, clock=clock)

    def test_a_new_key_counts_at_once_and_the_other_all_along(
        self, ring: KeyRing, store: FileSecretStore, clock: Clock
    ) -> None:
        old, other = key(store), key(store, "secondary")
        assert ring.caller(old) == Caller("primary", "key")
        new = keys.regenerate(store, "flights", "primary").encode()
        clock.now += 0.06
        assert [ring.caller(value) for value in (old, new)] == [Caller("primary", "key"), Caller("primary", "key")]
        clock.now += 1
        assert [ring.caller(value) for value in (old, new)] == [None, Caller("primary", "key")]
        assert ring.caller(other) == Caller("secondary", "key")

    def test_both_keys_can_be_changed_in_turn_without_a_refused_call(
        self, ring: KeyRing, store: FileSecretStore, clock: Clock
    ) -> None:
        for which, in_use in (("secondary", "primary"), ("primary", "secondary")):
            caller = key(store, in_use)
            keys.regenerate(store, "flights", which)  # type: ignore[arg-type]
            for _ in range(5):
                assert ring.caller(caller) == Caller(in_use, "key")
                clock.now += 0.5

    def test_a_change_by_another_process_counts(self, ring: KeyRing, store: FileSecretStore, clock: Clock) -> None:
        old = key(store)
        assert ring.caller(old)
        code = "import sys; from stk_ml.vault import keys, local; keys.regenerate(local.FileSecretStore(sys.argv[1]), 'flights', 'primary')"  # noqa: E501
        subprocess.run([sys.executable, "-c", code, str(store.path)], check=True)
        clock.now += 1
        assert [ring.caller(old), ring.caller(key(store))] == [None, Caller("primary", "key")]

    def test_removed_keys_end(self, ring: KeyRing, store: FileSecretStore, clock: Clock) -> None:
        old = key(store)
        assert ring.caller(old)
        keys.remove(store, "flights")
        clock.now += 1
        assert ring.caller(old) is None

    def test_a_removed_vault_ends_its_keys(self, ring: KeyRing, store: FileSecretStore, clock: Clock) -> None:
        old = key(store)
        assert ring.caller(old)
        store.path.unlink()
        clock.now += 1
        assert ring.caller(old) is None

    def test_the_vault_is_asked_once_a_second_and_read_when_changed(self, store: FileSecretStore, clock: Clock) -> None:
        counting = Counting(store.path)
        ring = KeyRing(counting, "flights", refresh=1.0, clock=clock)
        known = key(store)
        before = counting.looks
        for _ in range(1000):
            assert ring.caller(known)
            clock.now += 0.01
        assert 9 <= counting.looks - before <= 11

    def test_unknown_keys_make_it_ask_a_bounded_number_of_times(self, store: FileSecretStore, clock: Clock) -> None:
        counting = Counting(store.path)
        ring = KeyRing(counting, "flights", refresh=1.0, clock=clock)
        for _ in range(1000):
            ring.caller(b"x")
            clock.now += 0.01
        assert counting.looks <= 201
        assert counting.reads == 2

    @pytest.mark.parametrize(
        "trouble",
        [lambda path: path.chmod(0o644), lambda path: path.write_bytes(b"{")],
        ids=["others may read it", "damaged"],
    )
    def test_while_the_vault_fails_the_last_keys_count_for_five_minutes(
        self,
        ring: KeyRing,
        store: FileSecretStore,
        clock: Clock,
        trouble: Callable[[Path], None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        value, good = key(store), store.path.read_bytes()
        assert ring.caller(value)
        trouble(store.path)
        for seconds in (1, 149, 150):
            clock.now += seconds
            assert ring.caller(value) == Caller("primary", "key")
        assert len(caplog.records) == 1, "told once, not each second"
        clock.now += 1
        verifier = HeaderVerifier(ring, None)
        for value_sent in (value, b"wrong-wrong"):
            assert refusal(verifier, [(b"x-api-key", value_sent)]) == (503, "vault")
        store.path.write_bytes(good)
        store.path.chmod(0o600)
        assert ring.caller(value) == Caller("primary", "key"), "back at once"
        assert value.decode() not in caplog.text

    def test_a_vault_that_fails_from_the_start_is_503(self, ring: KeyRing, store: FileSecretStore) -> None:
        store.path.chmod(0o644)
        assert refusal(HeaderVerifier(ring, None), [(b"x-api-key", b"x")]) == (503, "vault")

    def test_keys_show_nowhere(self, ring: KeyRing, store: FileSecretStore, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(0)
        ring.caller(key(store))
        assert repr(ring) == "KeyRing('flights', 2 keys)"
        verifier = HeaderVerifier(ring, None)
        shown = f"{ring} {verifier!r} {verifier.verify([(b'x-api-key', key(store))])!r} {caplog.text}"
        assert not any(value in shown for _, value in keys.read(store, "flights"))


def test_a_key_is_checked_in_microseconds(store: FileSecretStore) -> None:
    verifier = HeaderVerifier(KeyRing(store, "flights"), None)
    headers = [(b"host", b"x"), (b"content-type", b"application/json"), (b"x-api-key", key(store, "secondary"))]

    def best(repeats: int = 7, calls: int = 2000) -> float:
        def once() -> float:
            start = time.perf_counter()
            for _ in range(calls):
                verifier.verify(headers)
            return (time.perf_counter() - start) / calls

        return min(once() for _ in range(repeats))

    assert best() < 10e-6, "about 0.6 us where it was measured; the bound leaves room for slow machines"
