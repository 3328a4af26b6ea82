"""How many examples hypothesis makes: a quarter where somebody waits, all with `--hypothesis-profile=thorough`."""

from __future__ import annotations

from hypothesis import settings

THOROUGH = 100


def examples(most: int) -> int:
    """As many of these as the profile has of hypothesis' usual hundred."""
    return most * settings().max_examples // THOROUGH
