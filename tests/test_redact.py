"""No secret passes the redactor, and plain text is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.redact import HIDDEN, Redactor


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("connecting to https://user:hunter2@host/path", "hunter2"),
        ("key AKIAIOSFODNN7EXAMPLE is wrong", "AKIAIOSFODNN7EXAMPLE"),
        ("GET /k?X-Amz-Signature=0123abcdef&x=1", "0123abcdef"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=abc", "AWS4-HMAC"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI"),
        ("{'password': 'open sesame'}", "open sesame"),
        ('{"api_key": "xyz123"}', "xyz123"),
        ("HF_TOKEN=hf_abcdefghijklmnopqrst", "hf_abcdefghijklmnopqrst"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text, secret):
    assert secret not in Redactor()(text)
    assert HIDDEN in Redactor()(text)


@given(secret=st.text(min_size=8, max_size=40), before=st.text(), after=st.text())
def test_a_known_secret_never_passes(secret, before, after):
    if secret in HIDDEN:
        return
    assert secret not in Redactor([secret])(before + secret + after).replace(HIDDEN, "")


def test_of_two_secrets_the_longer_one_goes_first():
    assert Redactor(["abcd", "abcdefgh"])("x abcdefgh y") == f"x {HIDDEN} y"


@pytest.mark.parametrize(
    "text",
    [
        "images 12000 of 25000, 4.1 images/s, loss g 0.71 d 1.2",
        "https://host/path?x=1",
        "training/state.pt: 12 tensors",
    ],
)
def test_plain_text_is_left_alone(text):
    assert Redactor()(text) == text
