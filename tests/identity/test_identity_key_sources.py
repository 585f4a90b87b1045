from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from token_makers import AUDIENCE, ISSUER, NOW, RSA_KEYS, document, entry, publish, token

from stk_ml.errors import IdentityError, SettingError
from stk_ml.identity.jwt import JwtVerifier, key_source
from stk_ml.identity.key_sources import JwksFile, JwksUrl

ONE, TWO = entry(RSA_KEYS[0], "one"), entry(RSA_KEYS[1], "two")


class Issuer(ThreadingHTTPServer):
    """Publishes ``body`` with ``status``; answers once ``open`` is set; counts the requests."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.server_port}/keys"
        self.body, self.status, self.headers = document(ONE), 200, {}
        self.open, self.requests = threading.Event(), 0
        self.open.set()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class Answer(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.server.requests += 1
        self.server.open.wait(10)
        self.send_response(self.server.status)
        for name, value in {"content-length": str(len(self.server.body)), **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def running(issuer: Issuer) -> Iterator[Issuer]:
    thread = threading.Thread(target=issuer.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield issuer
    finally:
        issuer.open.set()
        issuer.shutdown()
        issuer.server_close()
        thread.join()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running(Issuer()) as started:
        yield started


def names(source: JwksFile | JwksUrl, now: float) -> list[str]:
    return sorted(source.current(now).keys)


def fetched() -> None:
    """Waits for the fetches in the background."""
    for thread in threading.enumerate():
        if thread.name == "jwks":
            thread.join()


def refused(source: JwksFile | JwksUrl, now: float) -> tuple[int, str]:
    with pytest.raises(IdentityError) as caught:
        source.current(now)
    return caught.value.status, caught.value.reason


def test_a_setting_is_a_file_or_a_url() -> None:
    assert isinstance(key_source("/x/jwks.json"), JwksFile)
    assert isinstance(key_source("https://login.microsoftonline.com/t/discovery/v2.0/keys"), JwksUrl)


@pytest.mark.parametrize(
    "url", ["http://login.example/keys", "ftp://127.0.0.1/keys", "file:///etc/passwd", "https://", "http://u:pw@h/k"]
)
def test_keys_are_fetched_over_https_or_from_this_machine_only(url: str) -> None:
    with pytest.raises(SettingError, match="over https") as caught:
        key_source(url)
    assert "pw" not in str(caught.value)


class TestFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        publish(tmp_path / "jwks.json", ONE)
        return tmp_path / "jwks.json"

    def test_it_is_the_same_object_until_the_file_changes(self, file: Path) -> None:
        source = JwksFile(file)
        first = source.current(NOW)
        assert source.current(NOW + 100) is first
        publish(file, ONE, TWO)
        assert sorted(source.current(NOW + 200).keys) == ["one", "two"]

    def test_it_is_looked_at_once_a_second(self, file: Path) -> None:
        source = JwksFile(file)
        source.current(NOW)
        publish(file, TWO)
        assert names(source, NOW + 0.9) == ["one"]
        assert names(source, NOW + 1.0) == ["two"]

    def test_a_clock_that_is_set_back_does_not_stop_the_looks(self, file: Path) -> None:
        source = JwksFile(file)
        source.current(NOW)
        publish(file, TWO)
        assert names(source, NOW - 86_400) == ["two"]

    def test_an_unknown_key_has_it_looked_at_at_once_but_not_for_each_token(self, file: Path) -> None:
        source = JwksFile(file)
        source.current(NOW)
        publish(file, TWO)
        assert list(source.reload(NOW + 0.1).keys) == ["two"]
        publish(file, ONE)
        assert list(source.reload(NOW + 0.2).keys) == ["two"]
        assert list(source.reload(NOW + 1.2).keys) == ["one"]

    def test_absent_it_holds_no_keys_until_it_appears(self, tmp_path: Path) -> None:
        source = JwksFile(tmp_path / "jwks.json")
        assert names(source, NOW) == []
        publish(tmp_path / "jwks.json", ONE)
        assert names(source, NOW + 1) == ["one"]

    def test_damaged_its_last_keys_count_for_a_while(self, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        source = JwksFile(file, keep=300)
        source.current(NOW)
        file.write_bytes(b"{")
        assert names(source, NOW + 1) == ["one"]
        assert names(source, NOW + 300) == ["one"]
        assert "holds no JSON Web Key Set" in source.trouble
        assert refused(source, NOW + 301) == (503, "keys")
        assert len(caplog.records) == 1, "told once, not each second"
        publish(file, TWO)
        assert names(source, NOW + 302) == ["two"]
        assert source.trouble == ""

    def test_damaged_from_the_start_tokens_cannot_be_checked(self, file: Path) -> None:
        file.write_bytes(b"{")
        assert refused(JwksFile(file), NOW) == (503, "keys")


class TestUrl:
    def test_keys_are_fetched_once_and_then_kept(self, issuer: Issuer) -> None:
        source = JwksUrl(issuer.url, patience=10)
        first = source.current(NOW)
        assert all(source.current(NOW + seconds) is first for seconds in range(100))
        assert issuer.requests == 1

    def test_old_keys_answer_while_new_ones_are_fetched(self, issuer: Issuer) -> None:
        source = JwksUrl(issuer.url, patience=10, ttl=60)
        source.current(NOW)
        issuer.body = document(TWO)
        issuer.open.clear()
        assert names(source, NOW + 60) == ["one"], "and it did not wait"
        issuer.open.set()
        fetched()
        assert names(source, NOW + 61) == ["two"]

    def test_the_same_answer_again_is_the_same_object(self, issuer: Issuer) -> None:
        source = JwksUrl(issuer.url, patience=10, ttl=60)
        first = source.current(NOW)
        source.current(NOW + 60)
        fetched()
        assert source.current(NOW + 61) is first
        assert issuer.requests == 2

    def test_unknown_keys_make_no_storm(self, issuer: Issuer) -> None:
        verifier = JwtVerifier(JwksUrl(issuer.url, patience=10, retry=10), ISSUER, AUDIENCE)
        assert verifier.verify(token(), now=NOW).name == "ada"
        for n in range(50):
            with pytest.raises(IdentityError, match="does not publish"):
                verifier.verify(token(kid=f"unknown-{n}"), now=NOW + 10 + n / 10)
        assert issuer.requests == 2

    def test_a_rolled_key_is_found_by_its_first_token(self, issuer: Issuer) -> None:
        verifier = JwtVerifier(JwksUrl(issuer.url, patience=10, retry=10), ISSUER, AUDIENCE)
        old = token()
        verifier.verify(old, now=NOW)
        issuer.body = document(TWO)
        assert verifier.verify(token(RSA_KEYS[1], "two"), now=NOW + 10).name == "ada"
        with pytest.raises(IdentityError, match="does not publish"):
            verifier.verify(old, now=NOW + 11)

    @pytest.mark.parametrize(
        ("status", "body"),
        [(500, b""), (404, b"{}"), (200, b"<html>"), (200, b'{"keys": []}'), (200, b" " * (2**20 + 1))],
        ids=["500", "404", "html", "no keys", "too large"],
    )
    def test_a_bad_answer_leaves_the_last_good_keys_for_a_day(self, issuer: Issuer, status: int, body: bytes) -> None:
        source = JwksUrl(issuer.url, patience=10, ttl=60, keep=86_400)
        source.current(NOW)
        issuer.status, issuer.body = status, body
        source.current(NOW + 60)
        fetched()
        assert source.trouble
        assert names(source, NOW + 86_400) == ["one"]
        fetched()
        assert refused(source, NOW + 86_401) == (503, "keys")
        issuer.status, issuer.body = 200, document(TWO)
        assert names(source, NOW + 86_420) == ["two"]
        assert source.trouble == ""

    def test_an_issuer_that_is_away_is_tried_again_later(self, issuer: Issuer) -> None:
        issuer.status = 503
        source = JwksUrl(issuer.url, patience=10, retry=10)
        assert {refused(source, NOW + second) for second in range(10)} == {(503, "keys")}
        assert issuer.requests == 1
        issuer.status = 200
        assert names(source, NOW + 10) == ["one"]

    def test_nobody_waits_long_for_an_issuer_that_does_not_answer(self, issuer: Issuer) -> None:
        issuer.open.clear()
        source = JwksUrl(issuer.url, patience=0.01)
        assert refused(source, NOW) == (503, "keys")
        issuer.open.set()
        fetched()
        assert names(source, NOW + 1) == ["one"]

    def test_it_does_not_follow_to_elsewhere(self, issuer: Issuer) -> None:
        with running(Issuer()) as elsewhere:
            issuer.status, issuer.headers = 302, {"location": elsewhere.url}
            assert refused(JwksUrl(issuer.url, patience=10), NOW) == (503, "keys")
            assert elsewhere.requests == 0

    def test_https_with_a_certificate_that_is_not_trusted_gives_no_keys(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*_certificate(tmp_path))
        with running(Issuer(context)) as issuer:
            source = JwksUrl(issuer.url, patience=10)
            assert refused(source, NOW) == (503, "keys")
            assert "CERTIFICATE_VERIFY_FAILED" in source.trouble
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
            assert names(JwksUrl(issuer.url, patience=10), NOW) == ["one"]

    def test_a_password_in_the_url_shows_nowhere(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(0)
        with Issuer() as closed:
            url = closed.url.replace("://", "://user:hunter2@")
        source = JwksUrl(url, patience=10, timeout=1)
        refused(source, NOW)
        fetched()
        assert "hunter2" not in caplog.text + source.trouble
        assert source.trouble


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, signed by itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    key, now = RSA_KEYS[0], datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files
