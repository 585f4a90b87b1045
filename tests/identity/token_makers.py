"""Issuers' keys and tokens for the tests, well-formed and not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

jwt = pytest.importorskip("jwt", reason="pip install 'stk-ml[serving]'")
pytest.importorskip("cryptography", reason="pip install 'stk-ml[serving]'")

from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: E402

NOW = 1_700_000_000.0
ISSUER, AUDIENCE = "https://issuer.example/v2.0", "api://stk-ml"
RSA_KEYS = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def entry(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    """A public key as it stands in a JWKS document; Entra ID's have no ``alg``."""
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {"use": "sig", **algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


def document(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": entries}).encode()


def publish(file: Path, *entries: dict[str, Any]) -> None:
    """Replaces a JWKS file as issuers do."""
    aside = file.with_suffix(".new")
    aside.write_bytes(document(*entries))
    aside.replace(file)


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token says; a change to None leaves a claim out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "scp": "read score", "nbf": NOW - 60, "exp": NOW + 3600}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def token(key: Any = RSA_KEYS[0], kid: str | None = "one", algorithm: str = "RS256", **changes: Any) -> str:
    headers = {"kid": kid} if kid is not None else {}
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=headers)


def public_pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def part(value: Any) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def forged(header: dict[str, Any], secret: bytes | None) -> str:
    """A token made by hand, signed with HS256 or not at all."""
    signed = part(header) + b"." + part(claims())
    signature = hmac.new(secret, signed, hashlib.sha256).digest() if secret is not None else b""
    return (signed + b"." + part(signature)).decode()
