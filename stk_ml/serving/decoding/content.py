"""Content types and encodings: what kind of body it is, and the body itself, decompressed within a bound."""

from __future__ import annotations

import zlib
from typing import Literal

from stk_ml.errors import RequestError

Kind = Literal["json", "csv", "arrow"]
TAKEN: dict[str, Kind] = {
    "application/json": "json",
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
}
_CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")
_ENCODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's wbits
_RAW = -15
_CHUNK = 64 * 1024
#: Members of one gzip body: each costs a new inflater, and an empty one is only 20 bytes.
_MOST_MEMBERS = 10_000


def kind(content_type: str) -> Kind:
    """What a content type stands for; JSON when there is none.

    Raises:
        RequestError: 415 for another type, or another charset than UTF-8.

    Example:
        >>> kind(""), kind("text/csv; charset=UTF-8"), kind("application/json; format=pandas-split")
        ('json', 'csv', 'json')
    """
    if not content_type or content_type == "application/json":
        return "json"
    media, *rest = (part.strip() for part in content_type.lower().split(";"))
    found = TAKEN.get(media)
    if found is None:
        raise _unsupported(f"content type {media[:64]!r} is not taken", f"taken are {', '.join(TAKEN)}")
    parameters = {key.strip(): value.strip().strip('"') for key, _, value in (part.partition("=") for part in rest)}
    charset = parameters.get("charset", "utf-8")
    if charset not in _CHARSETS:
        raise _unsupported(f"charset {charset[:64]!r} is not taken", "send UTF-8")
    if found == "csv" and parameters.get("header", "present") != "present":
        raise _unsupported("CSV without a header is not taken", "name the columns in the first line")
    return found


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """A body without its content encoding.

    Args:
        body: as it came.
        encoding: the header's value: gzip (RFC 1952, of one or several members), deflate (RFC 1950; RFC 1951 without
            its wrapper as well), identity or empty.
        limit: most bytes of the result.

    Raises:
        RequestError: 400 when it is cut short or broken, 413 past the limit, 415 for another encoding.

    Example:
        >>> import gzip
        >>> decompress(gzip.compress(b"[1]") + gzip.compress(b"[2]"), "gzip", 100)
        b'[1][2]'
    """
    word = encoding.strip().lower()
    if word in ("", "identity"):
        return body
    if word not in _ENCODINGS:
        raise _unsupported(f"content encoding {word[:64]!r} is not taken", "taken are gzip, deflate, identity")
    bits = _ENCODINGS[word]
    try:
        return _inflate(body, bits, limit)
    except zlib.error as error:
        if word == "deflate":
            try:
                return _inflate(body, _RAW, limit)
            except zlib.error:
                pass
        raise RequestError(f"the body is not {word}", reason="encoding") from error


def _inflate(body: bytes, bits: int, limit: int) -> bytes:
    found, members = bytearray(), 1
    inflater = zlib.decompressobj(bits)
    for start in range(0, len(body), _CHUNK):
        chunk = body[start : start + _CHUNK]
        while chunk:
            if inflater.eof:
                members += 1
                if bits != _ENCODINGS["gzip"] or members > _MOST_MEMBERS:
                    raise zlib.error("there is more behind the end")
                inflater = zlib.decompressobj(bits)
            found += inflater.decompress(chunk, limit + 1 - len(found))
            if len(found) > limit:
                raise RequestError(f"the body is larger than {limit} bytes", status=413, reason="too_large")
            chunk = inflater.unused_data if inflater.eof else b""
    if not inflater.eof:
        raise RequestError("the compressed body is cut short", reason="encoding")
    return bytes(found)


def _unsupported(message: str, hint: str) -> RequestError:
    return RequestError(message, status=415, reason="content_type", hint=hint)
