"""Group membership on the wire: join, sync, heartbeat, leave; list, describe, delete.

Knows nothing of positions (`offsets.py`) or records.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from embedded.groups import EMPTY, Joined, JoinRequest, Synced
from embedded.handlers.node import Node
from embedded.protocol import Call, Code, answer

JOIN, HEARTBEAT, LEAVE, SYNC, DESCRIBE, LIST, DELETE = 11, 12, 13, 14, 15, 16, 42


def join_group(node: Node, call: Call) -> Any:
    """Enters a group; waits while the group rebalances."""
    request = call.body
    if not request.group_id:
        return _joined(call, Joined(Code.INVALID_GROUP_ID, request.member_id), None)
    if not node.options.min_session_timeout_ms <= request.session_timeout_ms <= node.options.max_session_timeout_ms:
        return _joined(call, Joined(Code.INVALID_SESSION_TIMEOUT, request.member_id), None)
    if request.member_id and request.group_id not in node.groups:
        return _joined(call, Joined(Code.UNKNOWN_MEMBER_ID, request.member_id), None)
    group = node.group(request.group_id)
    wanted = JoinRequest(
        member_id=request.member_id,
        instance=request.group_instance_id if call.version >= 5 else None,
        client_id=call.client_id,
        client_host=f"/{call.host}",
        session_ms=request.session_timeout_ms,
        rebalance_ms=request.rebalance_timeout_ms if call.version >= 1 else request.session_timeout_ms,
        protocol_type=request.protocol_type,
        protocols=[(p.name, bytes(p.metadata)) for p in request.protocols],
        id_required=call.version >= 4,
        may_skip=call.version >= 9,
    )
    outcome = group.join(wanted)
    if isinstance(outcome, Joined):
        return _joined(call, outcome, group.protocol_type)
    return _await_join(call, outcome, group.protocol_type)


async def _await_join(call: Call, outcome: "asyncio.Future[Joined]", protocol_type: str) -> Any:
    return _joined(call, await asyncio.shield(outcome), protocol_type)


def _joined(call: Call, outcome: Joined, protocol_type: str | None) -> Any:
    response = answer(call.key)
    protocol = outcome.protocol if outcome.protocol is not None or call.version >= 7 else ""
    members = [
        response.JoinGroupResponseMember(member_id=i, group_instance_id=instance, metadata=data)
        for i, instance, data in outcome.members
    ]
    return response(
        throttle_time_ms=0,
        error_code=outcome.code,
        generation_id=outcome.generation,
        protocol_type=protocol_type,
        protocol_name=protocol,
        leader=outcome.leader,
        skip_assignment=outcome.skip_assignment,
        member_id=outcome.member_id,
        members=members,
    )


def sync_group(node: Node, call: Call) -> Any:
    """Fetches a member's share; waits for the leader's plan."""
    request = call.body
    group = node.groups.get(request.group_id)
    if group is None:
        return _synced(call, Synced(Code.UNKNOWN_MEMBER_ID), None, None)
    newer = call.version >= 5
    outcome = group.sync(
        request.member_id,
        request.group_instance_id,
        request.generation_id,
        request.protocol_type if newer else None,
        request.protocol_name if newer else None,
        {a.member_id: bytes(a.assignment) for a in request.assignments},
    )
    if isinstance(outcome, Synced):
        return _synced(call, outcome, group.protocol_type, group.protocol)
    return _await_sync(call, outcome, group.protocol_type, group.protocol)


def _await_sync(
    call: Call, outcome: "asyncio.Future[Synced]", protocol_type: str, protocol: str | None
) -> Coroutine[Any, Any, Any]:
    async def wait() -> Any:
        return _synced(call, await asyncio.shield(outcome), protocol_type, protocol)

    return wait()


def _synced(call: Call, outcome: Synced, protocol_type: str | None, protocol: str | None) -> Any:
    return answer(call.key)(
        throttle_time_ms=0,
        error_code=outcome.code,
        protocol_type=protocol_type,
        protocol_name=protocol,
        assignment=outcome.assignment,
    )


def heartbeat(node: Node, call: Call) -> Any:
    """Keeps a member in its group."""
    request = call.body
    group = node.groups.get(request.group_id)
    code = Code.UNKNOWN_MEMBER_ID
    if group is not None:
        code = group.heartbeat(request.member_id, request.group_instance_id, request.generation_id)
    return answer(call.key)(throttle_time_ms=0, error_code=code)


def leave_group(node: Node, call: Call) -> Any:
    """Takes members out."""
    response = answer(call.key)
    group = node.groups.get(call.body.group_id)
    leaving = (
        [(call.body.member_id, None)]
        if call.version < 3
        else [(m.member_id, m.group_instance_id) for m in call.body.members]
    )
    codes = [
        Code.UNKNOWN_MEMBER_ID if group is None else group.leave(member_id, instance) for member_id, instance in leaving
    ]
    members = [
        response.MemberResponse(member_id=member_id, group_instance_id=instance, error_code=code)
        for (member_id, instance), code in zip(leaving, codes, strict=True)
    ]
    return response(throttle_time_ms=0, error_code=codes[0] if call.version < 3 else Code.NONE, members=members)


def list_groups(node: Node, call: Call) -> Any:
    """All groups that have members or offsets."""
    response = answer(call.key)
    wanted = {state.lower() for state in call.body.states_filter} if call.version >= 4 else set()
    groups = []
    for name in sorted({*node.offsets.commits, *(n for n, group in node.groups.items() if _exists(node, n))}):
        group = node.groups.get(name)
        state = group.state if group is not None else EMPTY
        if not wanted or state.lower() in wanted:
            groups.append(
                response.ListedGroup(
                    group_id=name, protocol_type=group.protocol_type if group is not None else "", group_state=state
                )
            )
    return response(throttle_time_ms=0, error_code=0, groups=groups)


def describe_groups(node: Node, call: Call) -> Any:
    """State and members of groups; a group that does not exist is Dead."""
    response = answer(call.key)
    described = response.DescribedGroup
    results = []
    for name in call.body.groups:
        group = node.groups.get(name)
        state = group.state if group is not None else EMPTY
        members = (
            []
            if group is None
            else [
                described.DescribedGroupMember(
                    member_id=m.id,
                    group_instance_id=m.instance,
                    client_id=m.client_id,
                    client_host=m.client_host,
                    member_metadata=m.metadata(group.protocol),
                    member_assignment=m.assignment,
                )
                for m in group.members.values()
            ]
        )
        results.append(
            described(
                error_code=0,
                group_id=name,
                group_state=state if _exists(node, name) else "Dead",
                protocol_type=group.protocol_type if group is not None else "",
                protocol_data=(group.protocol or "") if group is not None else "",
                members=members,
            )
        )
    return response(throttle_time_ms=0, groups=results)


def delete_groups(node: Node, call: Call) -> Any:
    """Deletes groups without members, with their offsets."""
    response = answer(call.key)
    results = []
    for name in call.body.groups_names:
        group = node.groups.get(name)
        code = Code.NONE
        if not _exists(node, name):
            code = Code.GROUP_ID_NOT_FOUND
        elif group is not None and group.members:
            code = Code.NON_EMPTY_GROUP
        else:
            node.groups.pop(name, None)
            node.offsets.forget(name)
        results.append(response.DeletableGroupResult(group_id=name, error_code=code))
    return response(throttle_time_ms=0, results=results)


def _exists(node: Node, name: str) -> bool:
    group = node.groups.get(name)
    return name in node.offsets.commits or (group is not None and (bool(group.members) or group.generation > 0))


HANDLERS = {
    JOIN: join_group,
    HEARTBEAT: heartbeat,
    LEAVE: leave_group,
    SYNC: sync_group,
    LIST: list_groups,
    DESCRIBE: describe_groups,
    DELETE: delete_groups,
}
