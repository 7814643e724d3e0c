"""Who the client is, and what pins its requests."""

from __future__ import annotations

from hashlib import sha256

import pytest

from enginehouse.wire.forwarded import MAX_HEADER, client_address, is_trusted, session_key

LOOPBACK = ("127.0.0.0/8", "::1/128")
PROXIES = ("10.0.0.0/8", "2001:db8::/32")


def test_a_spoofed_header_from_an_untrusted_peer_is_replaced_and_pins_nothing() -> None:
    """Defect: The client's address is neither used nor forwarded, while a spoofed X-Forwarded-For steers affinity."""
    client, header = client_address("203.0.113.9", [b"1.2.3.4, 127.0.0.1"], LOOPBACK)
    assert (client, header) == ("", b"203.0.113.9")
    assert session_key("m", "", client, b"curl") == ""


def test_a_bare_peer_never_pins_but_is_forwarded() -> None:
    for peer in ("203.0.113.9", "127.0.0.1", "::1"):
        assert client_address(peer, [], LOOPBACK) == ("", peer.encode())


def test_a_trusted_proxy_is_believed_and_appended() -> None:
    assert client_address("127.0.0.1", [b"198.51.100.7"], LOOPBACK) == ("198.51.100.7", b"198.51.100.7, 127.0.0.1")


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([b"1.1.1.1, 198.51.100.7, 10.1.2.3"], "198.51.100.7"),
        ([b"1.1.1.1", b"198.51.100.7,10.1.2.3"], "198.51.100.7"),
        ([b"198.51.100.7:4711"], "198.51.100.7"),
        ([b"[2001:db9::7]:4711, 10.0.0.1"], "2001:db9::7"),
        ([b"2001:DB9:0::7, 2001:db8::1"], "2001:db9::7"),
        ([b"::ffff:198.51.100.7"], "198.51.100.7"),
        ([b"fe80::1%eth0"], "fe80::1"),
        ([b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ([b"198.51.100.7, unknown"], ""),
        ([b"198.51.100.7, unknown, 10.0.0.1"], ""),
        ([b"unknown, 198.51.100.7"], "198.51.100.7"),
        ([b""], ""),
        ([b"\xff\xfe"], ""),
        ([b"198.51.100.7," + b" 10.0.0.1," * 500 + b"10.0.0.1"], "10.0.0.1"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_not_trusted(lines: list[bytes], client: str) -> None:
    found, header = client_address("10.9.9.9", lines, PROXIES)
    assert found == client
    assert header.endswith(b", 10.9.9.9")


def test_a_header_is_passed_on_in_bounded_length() -> None:
    _, header = client_address("10.9.9.9", [b"1.1.1.1, " * 2000 + b"2.2.2.2"], PROXIES)
    assert len(header) <= MAX_HEADER + 20
    assert header.endswith(b"2.2.2.2, 10.9.9.9")


def test_trust_is_a_matter_of_networks_of_both_families() -> None:
    assert is_trusted("127.9.9.9", LOOPBACK)
    assert is_trusted("::1", LOOPBACK)
    assert is_trusted("::ffff:127.0.0.1", LOOPBACK)
    assert not is_trusted("::2", LOOPBACK)
    assert not is_trusted("128.0.0.1", LOOPBACK)
    assert not is_trusted("", LOOPBACK)
    assert not is_trusted("127.0.0.1", ())
    assert is_trusted("10.0.0.77", ("10.0.0.5/24",))


# -- the key -----------------------------------------------------------------------------------------------------------


def test_a_prompt_cache_key_goes_before_the_address() -> None:
    assert session_key("m", "abc", "1.2.3.4", b"ua") == "m:prompt_cache:abc"
    assert session_key("", "abc", "", b"") == "default:prompt_cache:abc"


def test_the_header_x_session_id_is_a_key_where_there_is_no_prompt_cache_key() -> None:
    assert session_key("m", "", "1.2.3.4", b"ua", b"s-1") == "m:session:s-1"
    assert session_key("m", "abc", "", b"", b"s-1") == "m:prompt_cache:abc"
    assert session_key("m", "s-1", "", b"") != session_key("m", "", "", b"", b"s-1")
    assert len(session_key("m", "", "", b"", b"\xff" * 100_000)) < 200


def test_a_believed_address_and_the_user_agent_make_a_key() -> None:
    digest = sha256(b"1.2.3.4" + b"curl/8").hexdigest()[:16]
    assert session_key("m", "", "1.2.3.4", b"curl/8") == f"m:ip:{digest}"
    assert session_key("", "", "1.2.3.4", b"curl/8") == f"default:ip:{digest}"
    assert session_key("m", "", "", b"curl/8") == ""


def test_a_long_key_is_shortened_but_still_its_own() -> None:
    long, longer = session_key("m", "k" * 100_000, "", b""), session_key("m", "k" * 100_001, "", b"")
    assert len(long) < 200
    assert long != longer
