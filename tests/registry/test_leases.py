"""The rules of leases, decided without a store."""

import pytest

from enginehouse.core.record import Record, RecordError, parse_record
from enginehouse.registry.leases import RETIRED_KEPT, Entry, LeaseMismatch, UnknownService, amend, holder, put

RECORD = parse_record({"name": "e", "host": "h", "port": 1})
OTHER = parse_record({"name": "e", "host": "h", "port": 2})


def post(old: Entry | None, lease: str = "", *, record: Record = RECORD, live: bool = True, fresh: str = "f") -> Entry:
    revision = old.revision + 1 if old else 1
    return put(old, record, lease, fresh=fresh, live=live, revision=revision, wall=5.0)


def test_a_post_with_a_lease_keeps_it_and_one_without_is_given_a_fresh_one() -> None:
    assert (post(None, "L1").lease, post(None, "L1").leased) == ("L1", True)
    assert (post(None).lease, post(None).leased) == ("f", False)


def test_the_same_instance_may_post_again_and_changes_nothing_if_nothing_changed() -> None:
    first = post(None, "L1")
    assert post(first, "L1") is first
    changed = post(first, "L1", record=OTHER)
    assert (changed.record, changed.lease, changed.revision, changed.retired) == (OTHER, "L1", 2, ())


def test_a_new_lease_takes_over_and_retires_the_old_one_for_good() -> None:
    taken = post(post(None, "L1"), "L2")
    assert (taken.lease, taken.retired) == ("L2", ("L1",))
    with pytest.raises(LeaseMismatch, match="taken over"):
        post(taken, "L1")
    with pytest.raises(LeaseMismatch, match="taken over"):
        post(post(taken, "L3", record=OTHER), "L1")


def test_only_so_many_retired_leases_are_remembered() -> None:
    entry = post(None, "L0")
    for number in range(1, 50):
        entry = post(entry, f"L{number}")
    assert len(entry.retired) == RETIRED_KEPT
    assert entry.retired[-1] == "L48"


def test_a_post_without_a_lease_is_refused_over_a_live_leased_record_and_accepted_over_a_silent_one() -> None:
    leased = post(None, "L1")
    with pytest.raises(LeaseMismatch, match="with a lease"):
        post(leased, live=True)
    silent = post(leased, live=False)
    assert (silent.leased, silent.lease, silent.retired) == (False, "f", ("L1",))


def test_records_made_without_a_lease_may_be_replaced_by_anybody() -> None:
    first = post(None, fresh="f1")
    assert post(first) is first
    second = post(first, record=OTHER, fresh="f2")
    assert (second.lease, second.retired) == ("f2", ("f1",))
    assert post(second, "L1").leased


@pytest.mark.parametrize(
    ("made_with", "lease", "may"),
    [("L1", "L1", True), ("L1", "", False), ("L1", "L2", False), ("", "", True), ("", "f", True), ("", "L2", False)],
)
def test_who_may_change_a_record(made_with: str, lease: str, may: bool) -> None:
    entry = post(None, made_with)
    if may:
        assert holder(entry, "e", lease) is entry
    else:
        with pytest.raises(LeaseMismatch):
            holder(entry, "e", lease)


def test_nobody_may_change_what_does_not_exist() -> None:
    with pytest.raises(UnknownService, match="'e' not found"):
        holder(None, "e", "L1")


def change(entry: Entry, **fields: object) -> Entry:
    return amend(entry, fields, entry.lease, allow_networks=(), revision=9, wall=7.0)


def test_amending_replaces_fields_and_derives_again_what_was_derived() -> None:
    moved = change(post(None, "L1"), host="h2", port=3).record
    assert (moved.hostname, moved.url) == ("h2", "http://h2:3")
    stated = post(None, "L1", record=parse_record({"name": "e", "host": "h", "port": 1, "url": "https://h/p"}))
    assert change(stated, port=3).record.url == "https://h/p"
    with pytest.raises(RecordError, match="host of the service"):
        change(stated, host="h2")


def test_amending_cannot_rename_and_null_means_no_change() -> None:
    entry = post(None, "L1")
    assert change(entry, name="other", weight=None) is entry
