"""Secrets out of texts that people and logs get to see."""

import os
import re

_TOKEN = re.compile(r"\bhf_\w{6,}|(?i:bearer)\s+\S+")
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+")  # signed links carry a right of access there
_LOGIN = re.compile(r"(https?://)[^\s/@]+@")


def redact(text: str, *secrets: str | None) -> str:
    """`text` without Hub tokens, the queries of links, sign-ins in links, HF_TOKEN and the given `secrets`."""
    for secret in (os.environ.get("HF_TOKEN"), *secrets):
        if secret and secret.strip():
            text = text.replace(secret.strip(), "***")
    return _LOGIN.sub(r"\1***@", _QUERY.sub(r"\1?***", _TOKEN.sub("***", text)))
