"""Messages of headwater.proto and what they say: fields as the models of the contract have them, and back.

The proto file is compiled when a process first needs it; there is no generated code.

Source
    The compiler: grpcio-tools. Classes of messages: google.protobuf.message_factory.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import Struct, Value

from gateway.rpc.methods import SERVICE
from headwater.errors import InvalidMessage
from headwater.wire import refuse_deep

__all__ = ["fields_of", "message_class", "message_of", "read_message", "service"]

PROTO = "headwater.proto"
STRUCT = Struct.DESCRIPTOR.full_name
LISTS = ("headwater.v1.Strings", "headwater.v1.Vector")
"""Messages that stand for a list: of their field `values`."""
WHOLE = 2**53
"""Below it a double that is whole is the integer that somebody meant."""


@cache
def service() -> ServiceDescriptor:
    """The service as the proto file describes it, compiled into this process's pool of descriptors."""
    from grpc_tools import protoc

    with contextlib.ExitStack() as opened:
        own = opened.enter_context(as_file(files("gateway.rpc") / PROTO))
        known = opened.enter_context(as_file(files("grpc_tools") / "_proto"))
        made = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="headwater-proto-")), "set")
        code = protoc.main(["protoc", f"-I{own.parent}", f"-I{known}", f"--descriptor_set_out={made}", PROTO])
        if code:
            raise RuntimeError(f"{own}: protoc does not compile it, and said why")
        for one in descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes()).file:
            descriptor_pool.Default().AddSerializedFile(one.SerializeToString())
    return descriptor_pool.Default().FindServiceByName(SERVICE)


@cache
def message_class(described: Descriptor) -> type[Message]:
    """The class of a message."""
    found: type[Message] = message_factory.GetMessageClass(described)
    return found


def read_message(described: Descriptor, value: bytes, at: str) -> Message:
    """What bytes say. Raises InvalidMessage (`undecodable`)."""
    try:
        return message_class(described).FromString(value)
    except (DecodeError, RecursionError):
        text = f"{at}: these bytes are no {described.name}, hold text that is no UTF-8, or nest over 100 deep"
        raise InvalidMessage("undecodable", text) from None


def fields_of(message: Message, at: str) -> dict[str, Any]:
    """What a message says: field -> value; what is absent is left out.

    Parameters
        at: begins a message of an error.

    Raises
        InvalidMessage: `too_deep`; `schema` for a number of a Struct that JSON has not.
    """
    found = _fields(message, at)
    refuse_deep(found, at)
    return found


def _fields(message: Message, at: str) -> dict[str, Any]:
    return {field.name: _field(field, value, at) for field, value in message.ListFields()}


def _field(field: FieldDescriptor, value: Any, at: str) -> Any:
    kind = field.message_type
    if kind is None:
        return list(value) if field.is_repeated else value
    if kind.GetOptions().map_entry:
        one = kind.fields_by_name["value"].message_type
        return {name: inner if one is None else _message(one, inner, at) for name, inner in value.items()}
    if field.is_repeated:
        return [_message(kind, inner, at) for inner in value]
    return _message(kind, value, at)


def _message(kind: Descriptor, value: Any, at: str) -> Any:
    if kind.full_name == STRUCT:
        return _struct(value, at)
    return list(value.values) if kind.full_name in LISTS else _fields(value, at)


def _struct(given: Struct, at: str) -> dict[str, Any]:
    return {name: _value(value, at) for name, value in given.fields.items()}


def _value(given: Value, at: str) -> Any:
    kind = given.WhichOneof("kind")
    if kind == "struct_value":
        return _struct(given.struct_value, at)
    if kind == "list_value":
        return [_value(one, at) for one in given.list_value.values]
    if kind == "number_value":
        return _number(given.number_value, at)
    return None if kind in ("null_value", None) else getattr(given, kind)


def _number(given: float, at: str) -> float | int:
    if not math.isfinite(given):
        raise InvalidMessage("schema", f"{at}: {given} is no number of JSON")
    return int(given) if abs(given) < WHOLE and given.is_integer() else given


def message_of(described: Descriptor, fields: Mapping[str, Any]) -> Message:
    """The message that says these fields; None is absent."""
    return message_class(described)(**_filled(described, fields))


def _filled(described: Descriptor, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Lists that may be absent stand in messages of their own."""
    found = {name: value for name, value in fields.items() if value is not None}
    for name in found:
        kind = described.fields_by_name[name].message_type
        if kind is not None and kind.full_name in LISTS:
            found[name] = {"values": found[name]}
        elif isinstance(found[name], dict) and kind is not None and not kind.GetOptions().map_entry:
            found[name] = _filled(kind, found[name])
    return found
