"""The texts of validation errors: what did not pass and why, never the value."""

from __future__ import annotations

import builtins
import sys

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from otelkit.signals import exceptions

SECRET = "s3cr3t\nof two lines"


class Item(BaseModel):
    price: int
    names: list[int] = []


def invalid(**values: object) -> ValidationError:
    """What Pydantic raises for an item with these values."""
    with pytest.raises(ValidationError) as caught:
        Item.model_validate(values)
    return caught.value


def test_the_message_says_where_and_why() -> None:
    """By the names of fields and the kinds of errors."""
    error = invalid(price=SECRET, names=[1, SECRET])
    assert exceptions.message(error) == "2 validation errors: price (int_parsing), names.1 (int_parsing)"
    fastapis = RequestValidationError(error.errors())
    assert exceptions.message(fastapis) == exceptions.message(error)


def test_of_many_errors_the_first_are_named() -> None:
    """A list of a thousand wrong values is no message of a thousand parts."""
    error = invalid(price=1, names=["x"] * 1000)
    assert exceptions.message(error).startswith("1000 validation errors: names.0 (int_parsing), ")
    assert exceptions.message(error).endswith("names.9 (int_parsing), …")


def test_causes_and_contexts_of_a_stack_trace() -> None:
    """Whatever was raised because of it."""
    try:
        try:
            raise invalid(price=SECRET)
        except ValidationError as error:
            raise LookupError("no item") from error
    except LookupError as error:
        text = exceptions.stack_trace(error)
    assert "s3cr3t" not in text
    assert "1 validation error: price (int_parsing)\n" in text
    assert "LookupError: no item" in text


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are Python 3.11's")
def test_members_of_a_group() -> None:
    """There each line is indented."""
    group = vars(builtins)["ExceptionGroup"]("two", [invalid(price=SECRET), ValueError("other")])
    text = exceptions.stack_trace(group)
    assert "s3cr3t" not in text
    assert "ValueError: other" in text
