"""This module signs assertions (JSON Web Signature, RFC 7515) and writes the public half of a key as a JSON Web Key.

It knows the four algorithms that token endpoints of EHRs and CRMs ask for: RS256, RS384, ES256 and ES384 (RFC 7518).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from broker.errors import ConfigError

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

ALGORITHMS: Final = ("RS384", "ES384", "RS256", "ES256")

_RSA_BITS: Final = 3072
_FEWEST_RSA_BITS: Final = 2048  # RFC 7518, 3.3
_CURVES: Final[Mapping[str, ec.EllipticCurve]] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}
_CURVE_NAMES: Final = {"secp256r1": ("ES256", "P-256", 32), "secp384r1": ("ES384", "P-384", 48)}  # coordinate: bytes


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, the algorithm that it signs with, and the name (``kid``) that others know it by."""

    name: str
    algorithm: str
    private: PrivateKey = field(repr=False)

    def sign(self, claims: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> str:
        """Return claims as a signed compact JWT (RFC 7519); ``headers`` are added to ``alg``, ``kid`` and ``typ``."""
        head = {"alg": self.algorithm, "kid": self.name, "typ": "JWT", **(headers or {})}
        signed = f"{_encode(orjson.dumps(head))}.{_encode(orjson.dumps(claims))}"
        return f"{signed}.{_encode(self._signature(signed.encode('ascii')))}"

    def public_jwk(self) -> dict[str, str]:
        """Return the public half as a JSON Web Key (RFC 7517)."""
        return {**_public_numbers(self.private), "kid": self.name, "alg": self.algorithm, "use": "sig"}

    def pem(self) -> str:
        """Return the private key as PEM (PKCS #8, not encrypted)."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")

    def _signature(self, data: bytes) -> bytes:
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(data, padding.PKCS1v15(), _digest(self.algorithm))
        one, other = decode_dss_signature(self.private.sign(data, ec.ECDSA(_digest(self.algorithm))))
        size = _CURVE_NAMES[self.private.curve.name][2]
        return one.to_bytes(size, "big") + other.to_bytes(size, "big")  # RFC 7518, 3.4


def make_key(algorithm: str) -> SigningKey:
    """Make a key for one of `ALGORITHMS`; its name is made of its thumbprint."""
    private: PrivateKey
    if algorithm in _CURVES:
        private = ec.generate_private_key(_CURVES[algorithm])
    else:
        private = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    return SigningKey(_name(private), algorithm, private)


def read_key(pem: str, where: str, *, algorithm: str = "", name: str = "") -> SigningKey:
    """Read a private key from PEM; by default it gets the algorithm that its kind allows and its thumbprint as name.

    Raises `ConfigError`, which begins with ``where``, when it is no private key or one that ``algorithm`` cannot use.
    """
    try:
        private = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        message = f"{where}: this is no private key in PEM without a passphrase (BEGIN PRIVATE KEY)"
        raise ConfigError(message) from None
    if not isinstance(private, PrivateKey):
        message = f"{where}: needs an RSA key or one on the curve P-256 or P-384"
        raise ConfigError(message)
    allowed = _algorithms(private, where)
    if algorithm and algorithm not in allowed:
        message = f"{where}: this key cannot sign with {algorithm} (it can with {', '.join(allowed)})"
        raise ConfigError(message)
    return SigningKey(name or _name(private), algorithm or allowed[0], private)


def _algorithms(private: PrivateKey, where: str) -> tuple[str, ...]:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        if private.curve.name not in _CURVE_NAMES:
            message = f"{where}: needs a key on the curve P-256 or P-384, found one on {private.curve.name}"
            raise ConfigError(message)
        return (_CURVE_NAMES[private.curve.name][0],)
    if private.key_size < _FEWEST_RSA_BITS:
        message = f"{where}: an RSA key needs {_FEWEST_RSA_BITS} bits or more, found {private.key_size}"
        raise ConfigError(message)
    return ("RS384", "RS256")


def _digest(algorithm: str) -> HashAlgorithm:
    return SHA384() if algorithm.endswith("384") else SHA256()


def _public_numbers(private: PrivateKey) -> dict[str, str]:
    """Return the members of a JSON Web Key that make the key what it is (RFC 7518, 6.2.1 and 6.3.1)."""
    if isinstance(private, rsa.RSAPrivateKey):
        numbers = private.public_key().public_numbers()
        return {"e": _whole(numbers.e), "kty": "RSA", "n": _whole(numbers.n)}
    point = private.public_key().public_numbers()
    _, curve, size = _CURVE_NAMES[private.curve.name]
    return {"crv": curve, "kty": "EC", "x": _whole(point.x, size), "y": _whole(point.y, size)}


def thumbprint(members: Mapping[str, str]) -> str:
    """Return the thumbprint of a key (RFC 7638) by the members that make it what it is, in hexadecimal."""
    return sha256(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _name(private: PrivateKey) -> str:
    """Return a name for a key: half of its thumbprint, which is short enough to be typed."""
    return thumbprint(_public_numbers(private))[:32]


def _whole(number: int, size: int = 0) -> str:
    return _encode(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
