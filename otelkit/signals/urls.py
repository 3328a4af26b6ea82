"""URLs without what callers put into them: values of parameters, user and password.

Also within texts that are not ours: requests and urllib3 put the URL into their exceptions, `Max retries exceeded with
url: /path?token=…`.
"""

from __future__ import annotations

import re

# A value ends with the white space or the next parameter; the quotation mark behind it is the line's, not the value's.
# What `?` stands for in SQL, a bind value, is followed by a comma or a bracket where a parameter has its name.
_PARAMETER = re.compile(r"([?&](?![,)])[^\s?&=]*=)[^\s&]*?(?=[\"']?(?:[\s&]|$))")
_USER = re.compile(r"://[^/\s?#@]+@")


def safe_query(query: str) -> str:
    """A query string with its parameters' names and none of their values."""
    return "&".join(f"{part.partition('=')[0]}=REDACTED" if "=" in part else part for part in query.split("&"))


def without_values(text: str) -> str:
    """A text in which the URLs have their parameters' names and no values, no user and no password.

    A text without a question mark and an at sign, as most are, is only searched for these.
    """
    if "@" in text:
        text = _USER.sub("://", text)
    return _PARAMETER.sub(r"\1REDACTED", text) if "?" in text else text
