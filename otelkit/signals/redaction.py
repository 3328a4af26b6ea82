"""Which values must not leave the process: those under a secret's name, and those that begin as secrets do.

The names are what OWASP's logging cheat sheet keeps out of logs (passwords, access tokens, encryption keys and other
primary secrets), as HTTP, OAuth, databases and clouds spell them. The beginnings are those that issuers put before
their tokens so that scanners find them; GitHub's secret scanning and gitleaks look for the same.

The encoder asks about a key when it meets it for the first time, about a text unless it knows it already.
"""

from __future__ import annotations

import re

_WORD_BEGINS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SECRET_KEY = re.compile(
    r"passw(?:or)?d|passphrase|credential|cookie|secret(?!ar)|(?:api|access|private|signing|encryption)[-_. ]?key"
    r"|(?:authorization|token|(?<![a-z])(?:auth|pass|pwd))$"
)
# What names a secret does not hold it: the semantic conventions' aws.secretsmanager.secret.arn.
_NAME_OF_SECRET = re.compile(r"[^a-z](?:arn|name|path|file|type)$")
# How a credential begins, and what must follow.
_CREDENTIALS = {
    # A sentence may begin with a scheme too: a credential is a long word, or one that mixes its characters.
    ("Bearer ", "bearer ", "Basic ", "basic "): r" *(?:(?=[^\sa-z]*[a-z][^\sA-Z0-9=]*[A-Z0-9=])\S{8}|\S{16})",
    ("-----BEGIN ",): "",
    ("eyJ",): r"[\w+/=-]{13}",  # a JSON Web Token, or other JSON in base64
    ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"): r"\w{16}",
    ("glpat-",): r"[\w-]{16}",  # GitLab
    ("xoxa-", "xoxb-", "xoxe-", "xoxp-", "xoxr-", "xoxs-", "xapp-"): r"[\w-]{10}",  # Slack
    ("sk_live_", "sk_test_", "rk_live_", "rk_test_"): r"\w{10}",  # Stripe
    ("sk-",): r"[\w-]{32}",  # OpenAI, Anthropic
    ("AKIA", "ASIA"): "[A-Z0-9]{16}",  # AWS
    ("AIza",): r"[\w-]{30}",  # Google
    ("ya29.",): r"[\w-]{16}",  # Google
    ("hf_", "npm_"): "[A-Za-z0-9]{30}",
    ("pypi-Ag",): r"[\w-]{16}",
    ("SG.",): r"[\w-]{16,}\.[\w-]{16}",  # SendGrid
    ("dop_v1_", "shpat_", "shpca_", "shppa_", "shpss_"): "[0-9a-fA-F]{32}",  # DigitalOcean, Shopify
}
_SECRET_TEXT = re.compile(
    "|".join(f"(?:{'|'.join(map(re.escape, begins))}){follows}" for begins, follows in _CREDENTIALS.items())
)
# Three characters tell nearly every text apart, at a fraction of the expression's price.
_BEGINNINGS = frozenset(begin[:3] for begins in _CREDENTIALS for begin in begins)
_SHORTEST_SECRET = 16


class Redaction:
    """The rules by key and by beginning."""

    @staticmethod
    def is_secret_key(key: str) -> bool:
        """Whether the texts under this key are secrets: `password`, `http.request.header.authorization`, `apiKey`."""
        words = _WORD_BEGINS.sub("_", key).lower()
        return _SECRET_KEY.search(words) is not None and _NAME_OF_SECRET.search(words) is None

    @staticmethod
    def is_secret_text(text: str) -> bool:
        """Whether a text begins as a credential does: `Bearer …`, `ghp_…`, `AKIA…`."""
        return text[:3] in _BEGINNINGS and len(text) >= _SHORTEST_SECRET and _SECRET_TEXT.match(text) is not None
