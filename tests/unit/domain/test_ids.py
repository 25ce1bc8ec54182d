"""Ids are UUIDs of version 7 that sort by time."""

from uuid import RFC_4122

from opsfleet.domain.ids import new_id


def test_ids_are_of_version_seven_and_differ() -> None:
    ids = [new_id() for _ in range(1_000)]
    assert {one.version for one in ids} == {7}
    assert {one.variant for one in ids} == {RFC_4122}
    assert len(set(ids)) == 1_000


def test_the_first_48_bits_are_the_time() -> None:
    early, late = new_id(), new_id()
    assert early.int >> 80 <= late.int >> 80
