"""What a valid record is, and what is read out of one."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.address import address_allowed, networks
from enginehouse.core.record import (
    MAX_DEPTH,
    Endpoint,
    Record,
    RecordError,
    cache_type,
    continues,
    endpoint,
    health_url,
    is_inference,
    model_ids,
    model_objects,
    parse_record,
)
from enginehouse.core.units import MAX_MODEL_ID, MAX_MODELS, MAX_RECORD

LEAST = {"name": "engine-1", "host": "10.0.0.7", "port": 8000}


def record(**fields: Any) -> Record:
    return parse_record(LEAST | fields)


def refused(**fields: Any) -> RecordError:
    with pytest.raises(RecordError) as caught:
        record(**fields)
    return caught.value


def test_hostname_url_and_status_are_derived_where_they_are_missing_or_null() -> None:
    whole = Record(
        name="engine-1", host="10.0.0.7", port=8000, hostname="10.0.0.7", url="http://10.0.0.7:8000", status="running"
    )
    assert record() == whole
    assert record(hostname=None, url=None, status=None, weight=None, metadata=None, timestamp=None) == whole


def test_a_record_in_full_is_taken_as_it_is_and_unknown_fields_are_dropped() -> None:
    full = LEAST | {
        "hostname": "gpu-box",
        "url": "https://10.0.0.7:8000/engine",
        "status": "starting",
        "weight": 3,
        "metadata": {"type": "openai-api", "rack": {"row": 1, "tags": ["a", None, 1.5, True]}},
    }
    parsed = parse_record(full | {"timestamp": "2026-01-01T00:00:00Z", "health_status": "healthy", "whatever": [1]})
    assert msgspec.structs.asdict(parsed) == full


def test_what_was_parsed_parses_again_to_the_same() -> None:
    once = record(metadata={"models_list": [{"id": "m", "x": {}}]}, url="http://10.0.0.7:8000/p/")
    assert parse_record(msgspec.structs.asdict(once)) == once


@pytest.mark.parametrize("name", ["a", "x" * 128, "A-b_c.9", "..", "-"])
def test_names_of_the_allowed_characters_are_accepted(name: str) -> None:
    assert record(name=name).name == name


@pytest.mark.parametrize("name", [None, "", "x" * 129, "a/b", "a b", "ä", "a\n", "a%2Fb", 7, True, ["a"]])
def test_other_names_are_refused(name: object) -> None:
    assert refused(name=name).field == "name"


@pytest.mark.parametrize("host", ["localhost", "a", "gpu-1.lan", "gpu_1", "h.", "127.0.0.1", "::1", "fd00::7"])
def test_names_and_addresses_are_accepted_as_hosts(host: str) -> None:
    assert record(host=host).host == host


LINK_LOCAL = [
    "169.254.169.254",
    "::ffff:169.254.1.1",
    "::FFFF:A9FE:0101",
    "::169.254.1.1",
    "64:ff9b::169.254.1.1",
    "2002:a9fe:0101::",
    "fe80::1",
    "fe80::1%eth0",
]
ODD_SPELLINGS = ["2852039166", "0xa9fea9fe", "0251.0376.1.1", "169.254.257", "127.1", "1.2.3.4.5", "0x7f.1", "a.0x1"]
NOBODY = ["0.0.0.0", "::", "::ffff:0.0.0.0", "255.255.255.255", "224.0.0.1", "ff02::1"]
NO_HOSTS = [None, "", " ", "a b", "a\x00", "a\r\nb", "ä.lan", "[::1]", "a/b", "a:80", "-a", "a..b", "x" * 254, 5, "a@b"]


@pytest.mark.parametrize("host", [*LINK_LOCAL, *ODD_SPELLINGS, *NOBODY, *NO_HOSTS])
def test_a_host_that_is_link_local_unspecified_oddly_spelled_or_none_is_refused(host: object) -> None:
    """Defect: make the router call any host."""
    assert refused(host=host).field == "host"


@pytest.mark.parametrize("port", [None, 0, -1, 65536, "8000", 8000.0, True, 10**30])
def test_a_port_out_of_range_or_of_another_type_is_refused(port: object) -> None:
    assert refused(port=port).field == "port"


@pytest.mark.parametrize("weight", [0, -1, 1001, 1.5, "1", True, []])
def test_a_weight_out_of_range_or_of_another_type_is_refused(weight: object) -> None:
    assert refused(weight=weight).field == "weight"


@pytest.mark.parametrize("field", ["hostname", "status"])
@pytest.mark.parametrize("value", ["", "a\nb", "x\x7f", "\u2028", "x" * 300, 1, {}])
def test_texts_with_control_characters_too_long_or_of_another_type_are_refused(field: str, value: object) -> None:
    assert refused(**{field: value}).field == field


URLS = [
    "ftp://10.0.0.7",
    "10.0.0.7:8000",
    "http://",
    "http://other:8000",
    "http://user@10.0.0.7",
    "http://user:secret@10.0.0.7",
    "http://10.0.0.7:8000@evil",
    "http://10.0.0.7?x=1",
    "http://10.0.0.7/#a",
    "http://10.0.0.7/?",
    "http://10.0.0.7:0",
    "http://10.0.0.7:99999",
    "http://10.0.0.7:x",
    "http://10.0.0.7/a b",
    "http://10.0.0.7/\n",
    "http://10.0.0.7/ä",
    "http://10.0.0.7\\@evil",
    "http://10.0.0.7/../admin",
    "http://10.0.0.7/%2e%2E/admin",
    "http://[::1",
    "x" * 3000,
    "",
    7,
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_of_another_host_scheme_or_with_more_than_a_path_is_refused_wherever_it_stands(url: object) -> None:
    assert refused(url=url).field == "url"
    assert refused(metadata={"base_url": url}).field == "metadata.base_url"
    assert refused(metadata={"health_url": url}).field == "metadata.health_url"


def test_the_url_of_a_host_may_be_written_in_other_case_and_ipv6_takes_brackets() -> None:
    assert record(host="Gpu-1", url="http://gpu-1:8000").url == "http://gpu-1:8000"
    assert record(host="fd00::7", url="https://[FD00::7]/p").url == "https://[FD00::7]/p"
    assert record(host="fd00::7").url == "http://[fd00::7]:8000"


def nested(levels: int) -> Any:
    value: Any = "x"
    for level in range(levels - 1):
        value = [value] if level % 2 else {"k": value}
    return {"k": value}


def test_metadata_may_be_nested_to_a_stated_depth_and_no_deeper() -> None:
    assert record(metadata=nested(MAX_DEPTH)).metadata
    assert refused(metadata=nested(MAX_DEPTH + 1)).field == "metadata"
    assert refused(metadata=nested(100_000)).field == "metadata"


def test_a_record_may_have_a_stated_size_and_no_more() -> None:
    fits = MAX_RECORD - len(msgspec.json.encode(record(metadata={"k": ""})))
    assert record(metadata={"k": "x" * fits}).metadata
    assert refused(metadata={"k": "x" * (fits + 1)}).field == "metadata"


@pytest.mark.parametrize("metadata", [[], "x", 1, True, {1: 2}, {"k": object()}, {"k": "\ud800"}])
def test_metadata_that_is_no_json_object_is_refused(metadata: object) -> None:
    assert refused(metadata=metadata).field == "metadata"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("type", 1),
        ("cache_type", []),
        ("continue_final_message", "yes"),
        ("capacity", 0),
        ("capacity", True),
        ("capacity", "8"),
        ("models", "m"),
        ("models", [1]),
        ("models", [""]),
        ("models", ["a\nb"]),
        ("models", ["x" * (MAX_MODEL_ID + 1)]),
        ("models", ["m"] * (MAX_MODELS + 1)),
        ("models_list", {}),
        ("models_list", ["m"]),
        ("models_list", [{}]),
        ("models_list", [{"id": 5}]),
        ("models_list", [{"id": None}]),
        ("models_list", [{"id": "m"}] * (MAX_MODELS + 1)),
    ],
)
def test_metadata_that_routing_reads_has_to_have_its_type(key: str, value: object) -> None:
    assert refused(metadata={key: value}).field == f"metadata.{key}"


@pytest.mark.parametrize("data", [None, [], "x", 7, [LEAST]])
def test_what_is_no_object_is_no_record(data: object) -> None:
    with pytest.raises(RecordError) as caught:
        parse_record(data)
    assert caught.value.field == "service"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
FIELDS = ["name", "host", "port", "hostname", "url", "status", "weight", "metadata"]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.booleans())
def test_whatever_json_comes_it_is_a_record_or_a_record_error(data: dict[str, Any], completed: bool) -> None:
    try:
        parsed = parse_record(LEAST | data if completed else data)
    except RecordError:
        return
    endpoint(parsed)
    model_ids(parsed)
    cache_type(parsed)


def test_the_endpoint_is_the_base_url_of_the_metadata_then_the_url_and_has_the_records_port_by_default() -> None:
    """Defect: `port+1` and `http://` are hard-wired (no TLS, no path prefix, no NAT)."""
    assert endpoint(record()) == Endpoint(tls=False, host="10.0.0.7", port=8000, prefix="")
    assert endpoint(record(url="https://10.0.0.7")) == Endpoint(True, "10.0.0.7", 8000, "")
    assert endpoint(record(url="https://10.0.0.7:8443/engine/1/")) == Endpoint(True, "10.0.0.7", 8443, "/engine/1")
    nat = {"base_url": "https://10.0.0.7:443/e"}
    assert endpoint(record(url="http://10.0.0.7:8000", metadata=nat)) == Endpoint(True, "10.0.0.7", 443, "/e")


def test_the_health_url_is_the_stated_one_or_none() -> None:
    assert health_url(record()) == ""
    stated = "http://10.0.0.7:9000/healthz"
    assert health_url(record(metadata={"health_url": stated})) == stated


def test_only_metadata_of_type_openai_api_makes_a_service_get_prompts() -> None:
    assert is_inference(record(metadata={"type": "openai-api"}))
    assert not is_inference(record(metadata={"type": "babysitter"}))
    assert not is_inference(record())


def test_models_are_the_objects_of_the_list_the_first_of_each_id_else_the_ids() -> None:
    first, other, again = {"id": "org/a", "n": 1}, {"id": "b"}, {"id": "org/a", "n": 2}
    both = record(metadata={"models_list": [first, other, again], "models": ["c"]})
    assert model_objects(both) == (first, other)
    assert model_ids(both) == ("org/a", "b")
    ids = record(metadata={"models": ["c", "d", "c"]})
    assert model_objects(ids) == ({"id": "c"}, {"id": "d"})
    assert model_ids(record()) == ()
    assert model_ids(record(metadata={"models_list": [], "models": ["c"]})) == ("c",)


@pytest.mark.parametrize(("stated", "known"), [("static", "static"), ("paged", "paged"), ("other", ""), (None, "")])
def test_the_cache_type_is_one_that_size_routing_knows(stated: str | None, known: str) -> None:
    assert cache_type(record(metadata={"cache_type": stated})) == known


@pytest.mark.parametrize(
    ("stated", "owners", "does"),
    [
        (None, ["vllm"], True),
        (None, ["sglang", "vllm"], True),
        (None, ["llamacpp"], True),
        (None, ["enginehouse-sim"], True),
        (None, ["vllm", "openai"], False),
        (None, ["somebody"], False),
        (None, [None], False),
        (None, [["vllm"]], False),
        (None, [], False),
        (True, ["somebody"], True),
        (True, [], True),
        (False, ["vllm"], False),
    ],
)
def test_who_goes_on_with_an_assistants_message_is_stated_or_known_by_the_engines_own_name(
    stated: bool | None, owners: list[Any], does: bool
) -> None:
    models = [{"id": "m", "owned_by": owner} if owner else {"id": "m"} for owner in owners]
    assert continues(record(metadata={"continue_final_message": stated}), models) is does


@pytest.mark.parametrize("ip", [*LINK_LOCAL, *NOBODY, "", "localhost", "127.1"])
def test_no_connection_is_made_to_a_link_local_or_unspecified_address_whatever_a_name_resolves_to(ip: str) -> None:
    assert not address_allowed(ip)
    assert not address_allowed(ip, ["0.0.0.0/0", "::/0"])


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", "10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "8.8.8.8"])
def test_other_addresses_are_allowed_where_no_list_is_given(ip: str) -> None:
    assert address_allowed(ip)


def test_an_allow_list_admits_its_networks_only_also_inside_ipv6_spellings() -> None:
    blocks = ["10.0.0.0/8", "fd00::/8"]
    assert all(address_allowed(ip, blocks) for ip in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1"))
    assert not any(address_allowed(ip, blocks) for ip in ("127.0.0.1", "11.0.0.1", "::ffff:11.0.0.1", "::1"))
    assert parse_record(LEAST, allow_networks=blocks).host == "10.0.0.7"
    assert parse_record(LEAST | {"host": "name.lan"}, allow_networks=blocks).host == "name.lan"
    with pytest.raises(RecordError, match=r"10\.0\.0\.0/8"):
        parse_record(LEAST | {"host": "192.168.0.1"}, allow_networks=blocks)


def test_a_block_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0/33"):
        networks(("10.0.0/33",))


@given(st.ip_addresses())
def test_every_address_is_judged_the_same_as_text_of_its_exploded_form(ip: Any) -> None:
    assert address_allowed(str(ip)) == address_allowed(ip.exploded)
