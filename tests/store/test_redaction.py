import pytest

from pipeline.store.redaction import redact


@pytest.mark.parametrize(
    "text",
    [
        "token hf_aBcDeFgHiJkLmN was refused",
        "Authorization: Bearer aBcDeFgHiJkLmN",
        "authorization: bearer aBcDeFgHiJkLmN",
        "while reading https://cdn.example/file?Signature=aBcDeFgHiJkLmN&Expires=1: closed",
        "https://me:aBcDeFgHiJkLmN@hub.example/x",
        "a secret aBcDeFgHiJkLmN.",
    ],
)
def test_secrets_are_cut_out_and_the_rest_stays(text, environment):
    environment.setenv("HF_TOKEN", " aBcDeFgHiJkLmN\n")
    assert "aBcDeFgHiJkLmN" not in redact(text)
    assert "***" in redact(text)
    environment.delenv("HF_TOKEN")
    assert "aBcDeFgHiJkLmN" not in redact(text, "aBcDeFgHiJkLmN")


def test_a_text_without_secrets_stays_as_it_is(environment):
    text = "Error while downloading https://hub.example/a/b/resolve/main/c.pth: hf_ x"
    assert redact(text, None, "") == text
