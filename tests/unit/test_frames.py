"""The spool's file format: what was written is read, and damage costs what it hit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otelkit.delivery import frames

BATCHES = st.lists(st.tuples(st.binary(max_size=200), st.integers(1, 1000)), min_size=1, max_size=8)


def segment(batches: list[tuple[bytes, int]], done: frozenset[int] = frozenset()) -> bytes:
    """A segment of these bodies and counts."""
    content, before = b"", 0
    for place, (body, records) in enumerate(batches):
        made = frames.frame(body, records=records, before=before, raw=len(body) * 3, written_ns=7, key=place)
        if place in done:
            made = made[: frames.STATE_AT] + frames.DONE + made[frames.STATE_AT + 1 :]
        content += made
        before += records
    return content


@given(BATCHES, st.frozensets(st.integers(0, 7)))
def test_what_was_written_is_read(batches: list[tuple[bytes, int]], done: frozenset[int]) -> None:
    """Every field, and the state, which may change without a new checksum."""
    content = segment(batches, done)
    found, lost = frames.scan(content)
    assert lost == 0
    assert [(each.records, each.length, each.raw, each.written_ns, each.key) for each in found] == [
        (records, len(body), len(body) * 3, 7, place) for place, (body, records) in enumerate(batches)
    ]
    assert [each.done for each in found] == [place in done for place in range(len(batches))]
    for each, (body, _) in zip(found, batches, strict=True):
        start = each.offset + frames.HEADER_BYTES
        assert content[start : each.end] == body
        assert frames.body_is_whole(each, body)


@given(BATCHES, st.data())
def test_a_changed_bit_costs_one_frame(batches: list[tuple[bytes, int]], data: st.DataObject) -> None:
    """And is counted, unless the last one's header was hit: then nothing says what it held."""
    content = bytearray(segment(batches))
    places = frames.scan(bytes(content))[0]
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    hit = next(number for number, each in enumerate(places) if bit // 8 < each.end)
    found, lost = frames.scan(bytes(content))
    whole = [
        each
        for each in found
        if frames.body_is_whole(each, bytes(content[each.offset + frames.HEADER_BYTES : each.end]))
    ]
    expected = [each for number, each in enumerate(places) if number != hit]
    in_state = bit // 8 == places[hit].offset + frames.STATE_AT
    if in_state:  # the state is outside of the checksum: whatever is not D is pending
        assert [each.offset for each in whole] == [each.offset for each in places]
        return
    assert [each.offset for each in whole] == [each.offset for each in expected]
    damaged_body = len(found) - len(whole)
    if damaged_body:
        assert lost == 0
    elif hit < len(batches) - 1:
        assert lost == batches[hit][1]


@given(BATCHES, st.data())
def test_a_cut_costs_what_is_behind_it(batches: list[tuple[bytes, int]], data: st.DataObject) -> None:
    """A frame whose header is there is counted."""
    content = segment(batches)
    places = frames.scan(content)[0]
    end = data.draw(st.integers(0, len(content)))
    found, lost = frames.scan(content[:end])
    assert [each.offset for each in found] == [each.offset for each in places if each.end <= end]
    cut = [each for each in places if each.offset + frames.HEADER_BYTES <= end < each.end]
    assert lost == sum(each.records for each in cut)


@given(st.binary(max_size=300))
def test_nonsense_is_nothing(content: bytes) -> None:
    """Whatever the bytes are."""
    assert frames.scan(content) == ([], 0)
    assert frames.scan(frames.SYNC + content) == ([], 0)
