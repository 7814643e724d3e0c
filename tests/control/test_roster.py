"""What the sources say, merged: who is in the house, since when, and who is not used and why."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.control import roster as roster_module
from enginehouse.control.access import Accesses
from enginehouse.control.roster import Entry, Rejected, Roster, Source, snapshot
from enginehouse.control.slots import CAPACITY
from enginehouse.core.fleet import Fleet
from enginehouse.core.record import Record, parse_record
from enginehouse.machines.health import Command, Probe, ProbeFailed, ProbePassed, Readmit, State

GRACE = 60.0


class Play:
    """A roster and what it commanded."""

    def __init__(self, *sources: Source) -> None:
        self.commands: list[tuple[str, Command]] = []
        self.roster = Roster(sources or ("static", "registry"), 3, GRACE, self._obey)

    def _obey(self, entry: Entry, command: Command) -> None:
        self.commands.append((entry.name, command))

    def registry(self, *records: Record, now: float = 0.0, rejected: Iterable[Rejected] = ()) -> None:
        self.roster.replace("registry", records, rejected, now)

    def static(self, *records: Record, now: float = 0.0) -> None:
        self.roster.replace("static", records, (), now)

    @property
    def names(self) -> set[str]:
        return set(self.roster.entries)

    def entry(self, name: str) -> Entry:
        return self.roster.entries[name]

    def fleet(self, access: dict[str, tuple[str, str]] | None = None) -> Fleet:
        return snapshot(self.roster, Accesses(lambda name: (access or {}).get(name, ("", ""))), 1)

    def bring_up(self, *names: str) -> None:
        for name in names:
            entry = self.entry(name)
            entry.addresses = ("127.0.0.1",)
            self.roster.handle(entry, ProbePassed(), 0.0)


def record(name: str = "a", port: int = 8000, metadata: dict[str, Any] | None = None, **fields: Any) -> Record:
    given_metadata = {"type": "openai-api"} if metadata is None else metadata
    return parse_record({"name": name, "host": "127.0.0.1", "port": port, "metadata": given_metadata} | fields)


def with_babysitter(name: str = "a", **fields: Any) -> Record:
    return record(name, metadata={"type": "openai-api", "babysitter": "enhanced"}, **fields)


# who is in


def test_of_a_registry_only_services_of_type_openai_api_get_in_a_babysitter_never_does() -> None:
    play = Play()
    play.registry(record("engine"), record("sitter", metadata={"type": "babysitter"}), record("bare", metadata={}))
    assert play.names == {"engine"}


def test_static_services_are_in_whatever_their_type() -> None:
    play = Play()
    play.static(record("plain", metadata={}))
    assert play.names == {"plain"}


def test_a_name_in_both_sources_is_the_static_one_and_that_is_reported() -> None:
    play = Play()
    play.registry(record("a", 1111), record("b"))
    play.static(record("a", 2222))
    assert play.entry("a").endpoint.port == 2222
    assert play.roster.rejected == [Rejected("a", "registry", "the static file has a service of this name")]
    play.static()
    assert play.entry("a").endpoint.port == 1111
    assert play.roster.rejected == []


def test_metadata_static_true_means_never_remove__a_dead_one_goes_like_any_other() -> None:
    """Defect: `metadata.static=true` means "never remove", so dead services stay."""
    play = Play()
    play.registry(record("a", metadata={"type": "openai-api", "static": True}))
    play.registry(now=1.0)
    play.roster.expire(1.0 + GRACE)
    assert play.names == set()


def test_a_service_removed_from_the_static_file_is_gone_at_once() -> None:
    play = Play()
    play.static(record("a"), record("b"))
    play.static(record("b"))
    assert play.names == {"b"}


def test_a_service_too_many_is_rejected_and_the_others_stay() -> None:
    play = Play()
    play.registry(*[record(f"e{n}") for n in range(CAPACITY)])
    play.registry(*[record(f"e{n}") for n in range(CAPACITY)], record("late"))
    assert len(play.names) == CAPACITY
    assert [item.name for item in play.roster.rejected] == ["late"]


# the grace period


def test_a_service_missing_from_the_registry_stays_for_the_grace_period_with_its_health() -> None:
    play = Play()
    play.registry(record("a"), record("b"))
    play.bring_up("a", "b")
    play.registry(record("b"), now=10.0)
    play.registry(record("b"), now=30.0)
    play.roster.expire(10.0 + GRACE - 0.1)
    assert play.entry("a").up
    assert play.roster.missing_since(play.entry("a")) == 10.0
    play.roster.expire(10.0 + GRACE)
    assert play.names == {"b"}


def test_a_registry_that_comes_back_empty_loses_nobody_who_registers_again_within_the_grace_period() -> None:
    play = Play()
    play.registry(record("a"))
    play.bring_up("a")
    entry = play.entry("a")
    play.registry(now=10.0)
    play.registry(record("a"), now=40.0)
    play.roster.expire(1000.0)
    assert play.entry("a") is entry
    assert entry.up
    assert play.roster.missing_since(entry) is None


def test_a_service_its_babysitter_takes_back_is_gone_at_once() -> None:
    play = Play()
    play.registry(record("a"))
    play.roster.delete("a", 1.0)
    assert play.names == set()


def test_a_service_that_only_fell_silent_at_the_registry_gets_the_grace_period() -> None:
    play = Play()
    play.registry(record("a"))
    play.roster.lose("a", 1.0)
    play.roster.expire(1.0)
    assert play.names == {"a"}
    play.roster.expire(1.0 + GRACE)
    assert play.names == set()


# health and registration


def test_health_flaps__a_sync_that_says_running_again_does_not_set_a_bad_service_back_to_healthy() -> None:
    """Defect: Health flaps: every 10 s the sync sets bad ones back to healthy."""
    play = Play()
    play.registry(record("a"))
    play.roster.handle(play.entry("a"), ProbeFailed("connection refused", refused=True), 0.0)
    for now in range(1, 100):
        play.registry(record("a"), now=float(now))
        assert play.entry("a").health.state is State.DOWN


def test_a_new_service_waits_for_its_first_probe() -> None:
    play = Play()
    play.registry(with_babysitter("a"))
    assert not play.entry("a").health.up


def test_a_service_its_babysitter_has_just_registered_is_up_and_probed_at_once() -> None:
    play = Play()
    play.registry()
    play.roster.put(with_babysitter("a"), 1.0)
    assert play.entry("a").health.up
    assert ("a", Probe()) in play.commands


def test_a_service_registered_by_somebody_else_waits_for_its_first_probe_even_if_pushed() -> None:
    play = Play()
    play.registry()
    play.roster.put(record("a"), 1.0)
    assert play.names == {"a"}
    assert not play.entry("a").health.up


def test_a_service_registered_as_not_running_is_no_candidate_whatever_probes_say_until_it_runs() -> None:
    play = Play()
    play.registry(record("a"))
    play.bring_up("a")
    play.registry(record("a", status="starting"), now=1.0)
    play.roster.handle(play.entry("a"), ProbePassed(), 1.0)
    assert not play.entry("a").up
    play.registry(record("a"), now=2.0)
    assert play.entry("a").up


def test_a_changed_weight_keeps_health_slot_and_generation_a_changed_port_begins_anew() -> None:
    play = Play()
    play.registry(record("a"))
    play.bring_up("a")
    before = play.entry("a")
    play.registry(record("a", weight=5))
    assert play.entry("a") is before
    assert before.record.weight == 5
    play.registry(record("a", 9000))
    after = play.entry("a")
    assert (after.slot, after.health.state) == (before.slot, State.UNKNOWN)
    assert after.generation != before.generation


def test_a_slot_is_readmitted_when_its_service_goes_so_that_the_next_one_is_not_ejected_for_it() -> None:
    play = Play()
    play.registry(record("a"))
    play.roster.delete("a", 1.0)
    assert play.commands == [("a", Readmit())]


# what cannot be used


def test_a_record_that_turns_bad_is_rejected_and_no_longer_used() -> None:
    play = Play()
    play.registry(record("a"))
    play.roster.reject(Rejected("a", "registry", "`port` must be an integer"), 1.0)
    assert play.names == set()
    assert [item.name for item in play.roster.rejected] == ["a"]
    play.roster.put(record("a"), 2.0)
    assert play.names == {"a"}
    assert play.roster.rejected == []


def test_trouble_with_a_source_is_reported_once_and_until_it_is_over() -> None:
    play = Play()
    play.registry(record("a"), rejected=[Rejected("b", "registry", "bad")])
    play.roster.report("registry", "cannot be reached")
    play.roster.report("registry", "still cannot be reached")
    assert [item.reason for item in play.roster.rejected] == ["still cannot be reached", "bad"]
    assert play.names == {"a"}
    play.roster.report("registry", "")
    assert [item.reason for item in play.roster.rejected] == ["bad"]


def test_rejected_records_are_listed_up_to_a_bound() -> None:
    play = Play()
    play.registry(rejected=[Rejected(f"r{n}", "registry", "bad") for n in range(5000)])
    for n in range(2000):
        play.roster.reject(Rejected(f"s{n}", "registry", "bad"), 1.0)
    assert len(play.roster.rejected) == roster_module.MAX_REJECTED


# models and snapshots


def test_models_a_record_lists_go_before_what_the_engine_lists_itself() -> None:
    play = Play()
    listed = {"type": "openai-api", "models": ["m1", "m2"]}
    play.registry(record("a", metadata=listed), record("b"))
    for name in "ab":
        play.entry(name).learn(({"id": "own", "owned_by": "me"},))
    assert play.entry("a").models == ("m1", "m2")
    assert play.entry("b").models == ("own",)
    play.registry(record("a", metadata={"type": "openai-api"}), record("b", metadata=listed))
    assert play.entry("a").models == ("own",)
    assert play.entry("b").models == ("m1", "m2")


def test_the_fleet_says_who_can_go_on_with_a_stream_as_soon_as_its_engine_has_named_itself() -> None:
    play = Play()
    play.registry(record("a"), record("b", metadata={"type": "openai-api", "continue_final_message": False}))
    assert [service.continues for service in play.fleet().services] == [False, False]
    for name in "ab":
        play.entry(name).learn(({"id": "m", "owned_by": "vllm"},))
    assert [service.continues for service in play.fleet().services] == [True, False]


def test_a_model_once_seen_stays_known_when_its_service_is_gone() -> None:
    play = Play()
    play.registry(record("a", metadata={"type": "openai-api", "models": ["m"]}))
    assert play.fleet().known_models == ("m",)
    play.roster.delete("a", 1.0)
    assert play.fleet().known_models == ("m",)
    assert play.fleet().services == ()


def test_a_snapshot_says_of_each_service_where_it_is_how_to_reach_it_and_whether_it_may_be_used() -> None:
    play = Play()
    metadata = {"type": "openai-api", "models": ["m"], "cache_type": "paged", "capacity": 9}
    play.registry(
        record("b", weight=3, metadata=metadata, url="https://127.0.0.1:8443/engine/1"),
        record("a"),
    )
    play.bring_up("b")
    first, second = play.fleet({"b": ("key", "/ca.pem")}).services
    assert (first.name, first.up, first.api_key) == ("a", False, "")
    assert (second.name, second.up, second.weight, second.cache_type) == ("b", True, 3, "paged")
    assert (first.capacity, second.capacity) == (0, 9)
    assert (second.host, second.port, second.tls, second.prefix) == ("127.0.0.1", 8443, True, "/engine/1")
    assert (second.api_key, second.ca_file, second.models) == ("key", "/ca.pem", ("m",))
    assert (second.addresses, second.slot) == (("127.0.0.1",), play.entry("b").slot)


def test_a_service_whose_host_is_at_no_usable_address_is_not_up() -> None:
    play = Play()
    play.registry(record("a"))
    play.bring_up("a")
    play.entry("a").addresses = ()
    assert not play.fleet().services[0].up


def test_a_house_is_synced_when_every_configured_source_has_answered_once() -> None:
    assert Play("registry").roster.synced is False
    play = Play("static", "registry")
    play.static()
    assert play.fleet().synced is False
    play.registry()
    play.roster.report("registry", "away again")
    assert play.fleet().synced is True


record_names = st.sampled_from("abcd")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("static"), st.sets(record_names)),
        st.tuples(st.just("registry"), st.sets(record_names)),
        st.tuples(st.just("put"), record_names),
        st.tuples(st.just("delete"), record_names),
        st.tuples(st.just("lose"), record_names),
        st.tuples(st.just("wait"), st.integers(1, 80)),
    )
)


@given(steps=steps)
def test_in_any_order_of_words_from_the_sources_the_house_holds_who_it_should(steps: list[tuple[str, Any]]) -> None:
    play = Play()
    static: set[str] = set()
    listed: dict[str, float | None] = {}  # name -> missing since
    now = 0.0
    for verb, what in steps:
        match verb:
            case "static":
                static = what
                play.static(*[record(name) for name in what], now=now)
            case "registry":
                listed = {name: listed[name] if listed[name] is not None else now for name in listed} | dict.fromkeys(
                    what
                )
                play.registry(*[record(name) for name in what], now=now)
            case "put":
                listed[what] = None
                play.roster.put(record(what), now)
            case "delete":
                listed.pop(what, None)
                play.roster.delete(what, now)
            case "lose":
                if what in listed and listed[what] is None:
                    listed[what] = now
                play.roster.lose(what, now)
            case "wait":
                now += what
        play.roster.expire(now)
        listed = {name: since for name, since in listed.items() if since is None or now - since < GRACE}
        assert play.names == static | listed.keys()
        slots = [entry.slot for entry in play.roster.entries.values()]
        assert len(set(slots)) == len(slots)
