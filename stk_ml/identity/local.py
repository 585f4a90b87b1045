"""The laptop's token issuer: signs like Entra ID (RS256), with a key pair of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stk_ml import private_files
from stk_ml.errors import UsageError, VaultError
from stk_ml.identity.jwks import library

#: The name of the public key set in the issuer's folder.
JWKS = "jwks.json"
_BITS = 2048


class DevIssuer:
    """Signs tokens for tests and laptops.

    Args:
        folder: holds ``signing-key.pem`` (mode 600) and ``jwks.json``; both are created when first needed.
        issuer: what the tokens name as ``iss``.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> issuer = DevIssuer(folder.name)
        >>> issuer.issue("ada", "api://stk-ml", ["score"], 60, now=1_000_000).count(".")
        2
        >>> issuer.rotate() in {key["kid"] for key in json.loads((Path(folder.name) / JWKS).read_text())["keys"]}
        True
        >>> folder.cleanup()
    """

    def __init__(self, folder: str | Path, issuer: str = "stk-ml-dev") -> None:
        self.folder, self.issuer = Path(folder), issuer
        self._private, self._public = self.folder / "signing-key.pem", self.folder / JWKS

    def __repr__(self) -> str:
        return f"DevIssuer({str(self.folder)!r})"

    def issue(self, subject: str, audience: str, scopes: Iterable[str], seconds: float, now: float) -> str:
        """A signed token.

        Args:
            subject: whom it names.
            audience: for whom it is.
            scopes: what it allows.
            seconds: how long it counts, from ``now``.
            now: unix seconds.

        Raises:
            UsageError: the subject is empty, or the time is not above 0.
            VaultError: the key cannot be read or written.
            MissingLibraryError: PyJWT is not installed.
        """
        if not subject or not seconds > 0:
            raise UsageError("a token needs a subject and a time above 0")
        key = self._key()
        begins = int(now)
        claims = {"iss": self.issuer, "sub": subject, "aud": audience, "scp": " ".join(scopes), "iat": begins,
                  "nbf": begins, "exp": int(now + seconds), "jti": secrets.token_hex(8)}  # fmt: skip
        return str(library().encode(claims, key, algorithm="RS256", headers={"kid": _thumbprint(key)}))

    def rotate(self, *, keep: int = 2) -> str:
        """Signs with a new key from now on, and returns its id.

        Args:
            keep: how many public keys stay published: the new one, and the newest of the old ones, whose tokens still
                hold. At least 1: then all old tokens end.

        Raises:
            UsageError: ``keep`` is below 1.
            VaultError: the keys cannot be read or written.
        """
        if keep < 1:
            raise UsageError(f"{keep} keys cannot be kept; at least the new one is")
        with private_files.locked(self._private):
            old = self._load()
            return self._replace(old, keep)

    def _key(self) -> Any:
        """The private key, made and published when it is not."""
        with private_files.locked(self._private):
            key = self._load()
            if key is None:
                self._replace(None, 1)
                key = self._load()
            elif _thumbprint(key) not in {entry.get("kid") for entry in self._published()}:
                self._publish([_entry(key), *self._published()])
        return key

    def _replace(self, old: Any, keep: int) -> str:
        """Makes a new key; published before it signs, so that a kill in between leaves every token good."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
        entries = [_entry(key)] + ([_entry(old)] if old is not None else [])
        names = {entry["kid"] for entry in entries}
        entries += [entry for entry in self._published() if entry.get("kid") not in names]
        self._publish(entries[: max(keep, len(names))])
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        private_files.write(self._private, pem)
        self._publish(entries[:keep])
        return str(entries[0]["kid"])

    def _load(self) -> Any:
        library()
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        pem = private_files.read(self._private)
        if pem is None:
            return None
        try:
            return load_pem_private_key(pem, None)
        except (ValueError, TypeError):
            raise VaultError(
                f"{self._private} holds no private key, or is damaged", hint="remove it, and a new one is made"
            ) from None

    def _published(self) -> list[dict[str, Any]]:
        try:
            return [entry for entry in json.loads(self._public.read_bytes())["keys"] if isinstance(entry, dict)]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def _publish(self, entries: list[dict[str, Any]]) -> None:
        if entries != self._published():
            private_files.write(self._public, json.dumps({"keys": entries}, indent=2).encode() + b"\n", mode=0o644)


def _entry(key: Any) -> dict[str, Any]:
    public: dict[str, Any] = library().algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": _thumbprint(key), "n": public["n"], "e": public["e"]}


def _thumbprint(key: Any) -> str:
    """The key's id: its JWK thumbprint (RFC 7638)."""
    public = library().algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    canonical = json.dumps({"e": public["e"], "kty": "RSA", "n": public["n"]}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()
