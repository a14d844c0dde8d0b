"""The command as a person runs it, without the second that a process of its own takes to import what it needs."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

from console.cli import main


def headwater(*words: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run the entry point of the script on these words, away from any settings of the machine.

    Parameters
        words: after `headwater`.
        given: what it reads.
        env: the variables that it finds, beside those that are no settings of ours.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    out, err = _file(), _file()
    code: object = 0
    level = logging.getLogger("kafka").level
    with (
        patch.dict(os.environ, {**clean, **env}, clear=True),
        patch.object(sys, "argv", ["headwater", *words]),
        patch.object(sys, "stdin", _file(given)),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
        finally:
            logging.getLogger("kafka").setLevel(level)
    returned = code if isinstance(code, int) else int(code is not None)
    return subprocess.CompletedProcess(words, returned, _text(out), _text(err))


def _file(text: str = "") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", write_through=True)


def _text(written: io.TextIOWrapper) -> str:
    buffer = written.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
