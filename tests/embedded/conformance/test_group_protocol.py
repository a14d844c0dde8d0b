"""The group protocol request by request: generations, static members, fencing, and what strangers are told."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka.protocol.consumer import (
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)

from tests.embedded.conformance.clients import Raw, eventually

pytestmark = pytest.mark.usefixtures("coordinator")

NONE, ILLEGAL_GENERATION, UNKNOWN_MEMBER, BAD_SESSION, REBALANCING = 0, 22, 25, 26, 27
INCONSISTENT, MEMBER_ID_REQUIRED, FENCED = 23, 79, 82


class Talker:
    """A member made of single requests; each has its own connection, because answers may wait for one another."""

    def __init__(self, address: str, group: str, instance: str | None = None) -> None:
        self.raw = Raw(address)
        self.group = group
        self.instance = instance
        self.member = ""
        self.generation = -1

    def post_join(
        self, metadata: bytes = b"m", protocol: str = "range", session_ms: int = 10_000, version: int = 7
    ) -> None:
        request = JoinGroupRequest(
            group_id=self.group,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=20_000,
            member_id=self.member,
            group_instance_id=self.instance,
            protocol_type="consumer",
            protocols=[JoinGroupRequest.JoinGroupRequestProtocol(name=protocol, metadata=metadata)],
        )
        self.raw.post(request, version)

    def take_join(self, version: int = 7) -> Any:
        answer = self.raw.take(JoinGroupResponse, version)
        if answer.error_code in (NONE, MEMBER_ID_REQUIRED):
            self.member = answer.member_id
            self.generation = answer.generation_id
        return answer

    def join(self, **how: Any) -> Any:
        self.post_join(**how)
        answer = self.take_join()
        if answer.error_code == MEMBER_ID_REQUIRED:
            self.post_join(**how)
            answer = self.take_join()
        return answer

    def post_sync(self, shares: dict[str, bytes] | None = None) -> None:
        share = SyncGroupRequest.SyncGroupRequestAssignment
        request = SyncGroupRequest(
            group_id=self.group,
            generation_id=self.generation,
            member_id=self.member,
            group_instance_id=self.instance,
            assignments=[share(member_id=i, assignment=data) for i, data in (shares or {}).items()],
        )
        self.raw.post(request, 3)

    def sync(self, shares: dict[str, bytes] | None = None) -> Any:
        self.post_sync(shares)
        return self.raw.take(SyncGroupResponse, 3)

    def heartbeat(self) -> int:
        request = HeartbeatRequest(
            group_id=self.group,
            generation_id=self.generation,
            member_id=self.member,
            group_instance_id=self.instance,
        )
        return int(self.raw.call(request, HeartbeatResponse, 3).error_code)

    def commit(self, topic: str, offset: int, metadata: str = "", partition: int = 0) -> int:
        topic_type = OffsetCommitRequest.OffsetCommitRequestTopic
        wanted = topic_type.OffsetCommitRequestPartition(
            partition_index=partition, committed_offset=offset, committed_leader_epoch=-1, committed_metadata=metadata
        )
        request = OffsetCommitRequest(
            group_id=self.group,
            generation_id_or_member_epoch=self.generation,
            member_id=self.member,
            group_instance_id=self.instance,
            topics=[topic_type(name=topic, partitions=[wanted])],
        )
        return int(self.raw.call(request, OffsetCommitResponse, 7).topics[0].partitions[0].error_code)

    def leave(self) -> int:
        one = LeaveGroupRequest.MemberIdentity(member_id=self.member, group_instance_id=self.instance)
        answer = self.raw.call(LeaveGroupRequest(group_id=self.group, members=[one]), LeaveGroupResponse, 3)
        return int(answer.members[0].error_code)


@pytest.fixture
def group() -> str:
    return f"g-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def talk(address: str, group: str) -> Iterator[Callable[..., Talker]]:
    made: list[Talker] = []

    def start(instance: str | None = None) -> Talker:
        made.append(Talker(address, group, instance))
        return made[-1]

    yield start
    for one in made:
        one.raw.socket.close()


def two_members(talk: Callable[..., Talker], *instances: str) -> tuple[Talker, Talker]:
    """A leader with share b"L" and a follower with share b"F", in one stable generation."""
    leader, follower = talk(*instances[:1]), talk(*instances[1:])
    assert leader.join().error_code == NONE
    assert leader.sync({leader.member: b"L"}).assignment == b"L"
    if follower.instance is None:  # a dynamic member gets its id first
        follower.post_join()
        assert follower.take_join().error_code == MEMBER_ID_REQUIRED
    follower.post_join()
    eventually(lambda: leader.heartbeat() == REBALANCING, "a rebalance")
    leader.post_join()
    joined, other = leader.take_join(), follower.take_join()
    assert joined.leader == leader.member == other.leader
    assert {m.member_id for m in joined.members} == {leader.member, follower.member}
    assert list(other.members) == []
    follower.post_sync()
    assert leader.sync({leader.member: b"L", follower.member: b"F"}).assignment == b"L"
    assert follower.raw.take(SyncGroupResponse, 3).assignment == b"F"
    return leader, follower


def test_a_follower_gets_what_the_leader_decides(talk: Callable[..., Talker]) -> None:
    leader, follower = two_members(talk)
    assert leader.generation == follower.generation
    assert leader.heartbeat() == follower.heartbeat() == NONE


def test_a_known_static_member_gets_its_share_in_the_same_generation(talk: Callable[..., Talker]) -> None:
    leader, follower = two_members(talk, "one", "two")
    generation = follower.generation
    back = talk("two")
    assert back.join().error_code == NONE
    assert back.generation == generation
    assert back.sync().assignment == b"F"
    assert leader.heartbeat() == NONE
    assert follower.heartbeat() == FENCED
    assert follower.sync().error_code == FENCED


def test_a_static_leader_comes_back_without_leading_again(talk: Callable[..., Talker]) -> None:
    leader, follower = two_members(talk, "one", "two")
    back = talk("one")
    answer = back.join()
    assert (answer.error_code, answer.generation_id) == (NONE, leader.generation)
    assert answer.leader != back.member
    assert back.sync().assignment == b"L"
    assert follower.heartbeat() == NONE
    newer = talk("one")
    newer.post_join(version=9)
    answer = newer.take_join(version=9)
    assert answer.skip_assignment
    assert answer.leader == newer.member
    assert len(answer.members) == 2


def test_a_member_of_an_old_generation_cannot_commit(talk: Callable[..., Talker], topic: str) -> None:
    leader, follower = two_members(talk)
    assert follower.commit(topic, 5) == NONE
    follower.generation -= 1
    assert follower.commit(topic, 6) == ILLEGAL_GENERATION
    assert follower.heartbeat() == ILLEGAL_GENERATION
    follower.member = "nobody"
    assert follower.commit(topic, 6) == UNKNOWN_MEMBER
    assert leader.commit(topic, 7, "x" * 5000) == 12
    assert leader.commit("no-such-topic", 7) == 3
    request = OffsetFetchRequest(group_id=leader.group, topics=None)
    answer = leader.raw.call(request, OffsetFetchResponse, 5)
    assert [(t.name, p.committed_offset) for t in answer.topics for p in t.partitions] == [(topic, 5)]


def test_a_group_with_members_takes_no_commit_from_outside(talk: Callable[..., Talker], topic: str) -> None:
    two_members(talk)
    outside = talk()
    assert outside.commit(topic, 1) == UNKNOWN_MEMBER


def test_a_member_that_leaves_starts_a_rebalance(talk: Callable[..., Talker]) -> None:
    leader, follower = two_members(talk)
    assert leader.leave() == NONE
    assert follower.heartbeat() == REBALANCING
    assert follower.join().leader == follower.member
    assert follower.sync({follower.member: b"all"}).assignment == b"all"
    assert follower.leave() == NONE
    assert follower.leave() == UNKNOWN_MEMBER


def test_members_must_have_a_protocol_in_common(talk: Callable[..., Talker]) -> None:
    two_members(talk)
    assert talk().join(protocol="unheard-of").error_code == INCONSISTENT


def test_sessions_have_bounds(talk: Callable[..., Talker]) -> None:
    assert talk().join(session_ms=10).error_code == BAD_SESSION
    assert talk().join(session_ms=3_600_000).error_code == BAD_SESSION


def test_strangers_are_sent_away(talk: Callable[..., Talker]) -> None:
    stranger = talk()
    stranger.member = "nobody"
    assert stranger.join().error_code == UNKNOWN_MEMBER
    stranger.generation = 1
    assert stranger.heartbeat() == UNKNOWN_MEMBER
    assert stranger.sync().error_code == UNKNOWN_MEMBER
