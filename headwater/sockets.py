"""Sockets that notice that the other machine is gone: one that waits to be told sends nothing by itself."""

from __future__ import annotations

import socket

__all__ = ["keepalive"]


def keepalive(**options: int) -> list[tuple[int, int, int]]:
    """What `setsockopt` takes so that a connection asks, after a while without a word, whether the other side is there.

    Parameters
        options: of TCP, by their names in `socket`; not all are on every system.
    """
    known = ((getattr(socket, name), value) for name, value in options.items() if hasattr(socket, name))
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *((socket.IPPROTO_TCP, *one) for one in known)]
