"""Signatures of requests to S3: AWS's published examples, and botocore as a second opinion."""

import calendar
import hashlib
import string
from typing import Any, Final

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from broker.sigv4 import Signer, host_of

# "Examples: Signature Calculations", Amazon S3 API reference, sig-v4-header-based-auth.
KEY: Final = "AKIAIOSFODNN7EXAMPLE"
SECRET: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
AT: Final = calendar.timegm((2013, 5, 24, 0, 0, 0))
BASE: Final = "https://examplebucket.s3.amazonaws.com"
EMPTY: Final = hashlib.sha256(b"").hexdigest()


def signature(headers: dict[str, str]) -> str:
    return headers["Authorization"].rpartition("Signature=")[2]


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "expected"),
    [
        ("GET", "/test.txt", {"Range": "bytes=0-9"}, b"",
         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        ("PUT", "/test%24file.text",
         {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
         b"Welcome to Amazon S3.", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
        ("GET", "/?lifecycle", {}, b"", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("GET", "/?max-keys=2&prefix=J", {}, b"", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)  # fmt: skip
def test_published_examples_come_out(
    method: str, path: str, headers: dict[str, str], body: bytes, expected: str
) -> None:
    signer = Signer(KEY, SECRET, "us-east-1")
    signed = signer.sign(method, BASE + path, headers, hashlib.sha256(body).hexdigest(), AT)
    assert signature(signed) == expected


@given(
    path=st.text(string.ascii_letters + string.digits + "-_.~/", max_size=40),
    value=st.text(string.printable.strip(), max_size=40),
    token=st.sampled_from(["", "temporary/token+="]),
    body=st.binary(max_size=50),
)
def test_botocore_signs_the_same(path: str, value: str, token: str, body: bytes) -> None:
    url = f"http://127.0.0.1:9000/bucket/{path.strip('/')}x"
    headers = {"x-amz-meta-note": value, "Content-Type": "text/plain", "If-None-Match": "*"}
    ours = Signer(KEY, SECRET, "eu-central-1", token).sign("PUT", url, headers, hashlib.sha256(body).hexdigest(), AT)
    request: Any = AWSRequest("PUT", url, headers={**headers, "Host": "127.0.0.1:9000"}, data=body)
    request.context |= {"payload_signing_enabled": True, "timestamp": "20130524T000000Z"}
    theirs: Any = S3SigV4Auth(Credentials(KEY, SECRET, token or None), "s3", "eu-central-1")
    theirs._modify_request_before_signing(request)
    told = theirs.string_to_sign(request, theirs.canonical_request(request))
    assert signature(ours) == theirs.signature(told, request)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://s3.example/x", "s3.example"),
        ("https://s3.example:443/x", "s3.example"),
        ("http://s3.example:443/x", "s3.example:443"),
        ("http://[::1]:9000/x", "[::1]:9000"),
    ],
)
def test_host_is_written_as_it_is_sent(url: str, host: str) -> None:
    assert host_of(url) == host


def test_secrets_do_not_show() -> None:
    assert SECRET not in repr(Signer(KEY, SECRET, "x", "token"))
    assert EMPTY in signature_headers()["x-amz-content-sha256"]


def signature_headers() -> dict[str, str]:
    return Signer(KEY, SECRET, "us-east-1").sign("GET", BASE, {}, EMPTY, AT)
