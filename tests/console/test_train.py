"""`headwater train` on a bad day: one line that says what to do, and nothing learned."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from console.cli import app
from headwater.errors import SettingsError, SourceError

HEADER = "user_id,item_id,event_time,type\n"


def ran(tmp_path: Path, text: str, *words: str) -> Result:
    events = tmp_path / "events.csv"
    events.write_text(text)
    directory = () if "--directory" in words else ("--directory", str(tmp_path / "trainer"))
    return CliRunner().invoke(app, ["train", "--from", str(events), "--epochs", "1", *directory, *words])


@pytest.mark.parametrize(("text", "told"), [("", "is empty"), (HEADER, "no events"), ("a,b\n1,2\n", "has a, b")])
def test_a_file_without_events_is_refused(tmp_path: Path, text: str, told: str) -> None:
    done = ran(tmp_path, text)
    assert isinstance(done.exception, SourceError)
    assert told in str(done.exception)
    assert not list((tmp_path / "trainer").glob("*.ckpt"))


def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    done = ran(tmp_path, HEADER + "u,i,1700000000,view\n", "--directory", str(tmp_path / "taken"))
    assert isinstance(done.exception, SettingsError)
    assert "give another --directory" in str(done.exception)


@pytest.mark.parametrize("words", [("--learning-rate", "inf"), ("--device", "banana")])
def test_options_that_make_no_sense_are_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = ran(tmp_path, HEADER + "u,i,1700000000,view\n", *words)
    assert (done.exit_code, words[0] in done.stderr) == (2, True)


def test_training_twice_into_one_directory_is_refused(tmp_path: Path) -> None:
    text = HEADER + "".join(f"u{n % 3},i{n % 5},{1_700_000_000 + n},view\n" for n in range(60))
    assert ran(tmp_path, text).exit_code == 0
    again = ran(tmp_path, text)
    assert isinstance(again.exception, SettingsError)
    assert "Move them away" in str(again.exception)
