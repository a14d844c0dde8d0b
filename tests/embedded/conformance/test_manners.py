"""A client that behaves badly harms only itself."""

from __future__ import annotations

import os
import struct

from kafka.protocol.metadata import ApiVersionsRequest, ApiVersionsResponse

from tests.embedded.conformance.clients import Raw, Record, eventually, read, send


def test_garbage_costs_the_connection_and_nothing_else(address: str, topic: str) -> None:
    for garbage in (
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500),  # a TLS client
        struct.pack(">i", -1) + b"x" * 100,
        struct.pack(">ihhih", 2**31 - 1, 0, 8, 1, -1),  # two gigabytes announced
        struct.pack(">ihhih", 20, 999, 0, 1, -1) + bytes(10),  # no such API
        struct.pack(">ihhih", 60, 0, 8, 1, -1) + b"\x7f" * 50,  # produce with nonsense inside
        struct.pack(">ihhih", 60, 3, 9, 1, -1) + b"\xff" * 50,  # metadata with nonsense inside
        struct.pack(">ihhih", 60, 1, 11, 1, 30000) + b"\x00" * 50,  # client id longer than the frame
    ):
        with Raw(address) as bad:
            bad.socket.sendall(garbage)
            assert eventually(bad.closed, f"hung up on {garbage[:20]!r}")
    send(address, topic, [Record(b"k", b"v")])
    assert read(address, topic, 1)[0].value == b"v"


def test_half_a_request_and_silence_hold_nobody_up(address: str, topic: str) -> None:
    with Raw(address) as slow, Raw(address) as silent:
        slow.socket.sendall(struct.pack(">ih", 50_000_000, 0))
        silent.post_fetch(topic, 0, max_wait_ms=300_000)
        send(address, topic, [Record(b"k", b"v" * 1000)] * 10)
        assert len(read(address, topic, 10)) == 10


def test_a_client_that_never_reads_holds_nobody_up(address: str, topic: str) -> None:
    send(address, topic, [Record(b"k", b"v" * 900_000)] * 3)
    with Raw(address) as deaf:
        for _ in range(40):
            deaf.post_fetch(topic, 0, max_wait_ms=0)
        assert len(read(address, topic, 3)) == 3
        send(address, topic, [Record(b"k", b"v")])


def test_pipelined_requests_are_answered_in_order(raw: Raw, topic: str) -> None:
    from kafka.protocol.consumer import FetchResponse

    for offset in (0, 1, 0, 1, 0):
        raw.post_fetch(topic, offset, max_wait_ms=0)
    codes = [raw.take(FetchResponse, 11).responses[0].partitions[0].error_code for _ in range(5)]
    assert codes == [0, 1, 0, 1, 0]


def test_a_client_from_the_future_learns_in_which_version_to_ask(raw: Raw) -> None:
    raw.socket.sendall(struct.pack(">ihhihB", 11, 18, 120, 5, -1, 0))
    size = struct.unpack(">i", raw.exactly(4))[0]
    answer = ApiVersionsResponse.decode(raw.exactly(size)[4:], version=0)
    assert answer.error_code == 35
    assert [key.api_key for key in answer.api_keys] == [18]


def test_versions_are_told_in_every_version(raw: Raw) -> None:
    for version in range(4):
        request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
        answer = raw.call(request, ApiVersionsResponse, version)
        assert answer.error_code == 0
        assert {key.api_key for key in answer.api_keys} >= {0, 1, 3, 18}
