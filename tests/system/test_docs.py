"""The pages are complete and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from console.cli import app
from headwater.signals import DEFAULTS
from headwater.topics import TOPICS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_is_on_the_operations_page() -> None:
    text = (ROOT / "docs/operations.md").read_text() + (ROOT / "README.md").read_text()
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name in commands:
        assert f"headwater {name}" in text, name


def test_every_option_on_the_page_of_your_data_is_one() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    known = {
        word
        for group in (commands, commands["replay"].commands)
        for command in group.values()
        for option in command.params
        for word in (*option.opts, *option.secondary_opts)
    }
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (ROOT / "docs/your-data.md").read_text()))
    assert used
    assert not used - known


def test_every_topic_is_on_the_contract_page() -> None:
    text = (ROOT / "docs/contract/topics.md").read_text()
    for topic in TOPICS:
        assert f"`{topic.name}`" in text, topic.name


def test_every_refusal_reason_of_the_codec_has_its_remedy_on_the_operations_page() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "headwater/wire").glob("*.py"))
    for reason in set(re.findall(r'InvalidMessage\(\s*"(\w+)"', source)):
        assert f"| `{reason}` |" in text, reason


def test_the_page_of_signals_has_the_whole_table_and_nothing_else() -> None:
    cells = [re.split(r"\s*\|\s*", line)[1:-1] for line in (ROOT / "docs/signals.md").read_text().splitlines()]
    told: dict[str, str] = {}
    for row in (row for row in cells if len(row) == 3 and row[0].strip("`") in ("positive", "negative", "exposure")):
        told |= dict.fromkeys(re.split(r", |; and every.*", row[2]), row[0].strip("`"))
    told |= {name: "context" for row in cells if row[:1] == ["`context`"] for name in row[2].split(", ")}
    told.pop("", None)
    assert told == {name: one.means.value for name, one in DEFAULTS.items() if not one.undoes}
    undoing = {name: row[1] for row in cells if len(row) == 2 for name in row[0].split(", ") if name in DEFAULTS}
    assert undoing == {name: ", ".join(one.undoes) for name, one in DEFAULTS.items() if one.undoes}
