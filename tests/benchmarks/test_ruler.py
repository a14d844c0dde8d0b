"""The ruler: rows and bars, what got slower beyond the spread, the page, and a bench that fails."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

import benchmarks
from benchmarks import benches
from benchmarks.benches import BENCHES
from benchmarks.benches.weights import waits_of
from benchmarks.ruler import Bar, Bench, Beside, Left, Report, Row, Setup, optional, ratios, scaling
from benchmarks.ruler.comparison import compare
from benchmarks.ruler.figures import Extent, read_reports
from benchmarks.ruler.page import of_folder, page
from benchmarks.ruler.running import RunOptions, run
from benchmarks.ruler.table import lines
from headwater.errors import HeadwaterError
from tests.worlds.commands import headwater


def row(ours: list[float], floor: list[float] | None = None, case: str = "a", unit: str = "ms") -> Row:
    others = [Beside("bare", "floor", floor)] if floor else []
    return Row(case, unit, "less", ours, others, [Bar(2.0, 1.0, against="bare")] if floor else [])


def report(*rows: Row, name: str = "learn", machine: str = "mine", broker: str = "", quick: bool = False) -> Report:
    return Report(
        bench=name, about="What it is.", broker=broker, quick=quick, machine=machine, commit="abc1234",
        began="2026-11-26T10:00:00+00:00", seconds=3.0, load=(0.1, 1.2), rows=list(rows),
    )  # fmt: skip


def test_a_ratio_is_of_the_same_turn() -> None:
    assert ratios([2.0, 30.0], [1.0, 10.0]) == [2.0, 3.0]
    assert row([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]).reached(Bar(2.0, against="bare")) == Extent(2.0, 1.0, 3.0)


def test_a_bar_is_met_from_the_right_side() -> None:
    slow = row([3.0], [1.0])
    assert not slow.met(2.0, slow.bars[0])
    fast = replace(slow, better="more")
    assert fast.met(2.0, fast.bars[0])
    alone = Row("a", "ms", "less", [3.0], bars=[Bar(4.0)])
    assert alone.met(4.0, alone.bars[0])


def test_a_bar_against_what_the_row_does_not_hold_is_an_error() -> None:
    with pytest.raises(ValueError, match="against"):
        Row("a", "ms", "less", [1.0], bars=[Bar(2.0, against="faiss")])
    with pytest.raises(ValueError, match="without samples"):
        Row("a", "ms", "less", [])


def test_a_saved_report_is_read_as_it_was(tmp_path: Path) -> None:
    one = report(row([1.0, 2.0], [1.0, 1.5]), broker="kafka")
    path = one.save(tmp_path)
    assert path.name == "learn.kafka.json"
    assert Report.load_from(path) == one
    assert read_reports(tmp_path) == [one]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "rows": [{"case": 1}]}', "\x00"])
def test_what_is_no_report_is_told_with_its_path(text: str, tmp_path: Path) -> None:
    path = tmp_path / "learn.json"
    path.write_text(text)
    with pytest.raises(HeadwaterError, match=r"learn\.json: no saved bench"):
        Report.load_from(path)


def test_a_newer_format_is_refused_and_an_empty_folder_is_told(tmp_path: Path) -> None:
    path = report(row([1.0])).save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(HeadwaterError, match="format 99"):
        read_reports(path)
    with pytest.raises(HeadwaterError, match="is not there"):
        read_reports(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(HeadwaterError, match="no saved bench"):
        read_reports(tmp_path / "empty")


def test_slower_is_beyond_the_spread_of_both() -> None:
    before = [report(row([1.0, 1.2, 1.1]))]
    assert [one.verdict for one in compare(before, [report(row([1.15, 1.3, 1.2]))]).changes] == ["same"]
    slower = compare(before, [report(row([1.5, 1.6, 1.7]))])
    assert slower.worse
    assert [one.verdict for one in slower.changes] == ["slower"]
    faster = compare(before, [report(row([0.5, 0.6, 0.7]))])
    assert not faster.worse
    assert [one.verdict for one in faster.changes] == ["faster"]


def test_of_what_is_better_when_more_less_is_slower() -> None:
    rate = replace(row([100.0, 101.0]), better="more", unit="events/s")
    assert compare([report(rate)], [report(replace(rate, ours=[50.0, 51.0]))]).worse
    assert not compare([report(rate)], [report(replace(rate, ours=[150.0, 151.0]))]).worse


def test_a_figure_of_one_sample_is_not_exact() -> None:
    assert not compare([report(row([100.0]))], [report(row([104.0]))]).worse
    assert compare([report(row([100.0]))], [report(row([106.0]))]).worse


def test_a_slower_machine_is_no_slower_code() -> None:
    before, after = report(row([1.0], [1.0])), report(row([3.0], [3.0]), machine="theirs")
    assert not compare([before], [after]).worse
    alone = compare([report(row([1.0]))], [report(row([3.0]), machine="theirs")])
    assert not alone.worse
    assert ["machines differ" in one for one in alone.aside] == [True]
    stored = compare([report(row([10.0], unit="bytes"))], [report(row([30.0], unit="bytes"), machine="theirs")])
    assert stored.worse


def test_what_is_missing_or_fails_now_is_worse_and_what_is_new_is_not() -> None:
    one, two = report(row([1.0])), report(row([1.0]), name="score")
    assert compare([one, two], [one]).lost == ["score: not in the second run"]
    assert not compare([one], [one, two]).worse
    assert compare([one], [replace(one, rows=[], failed="Boom: it broke")]).worse
    assert compare([report(row([1.0]), row([1.0], case="b"))], [one]).lost == ["learn: b: not in the second run"]


def test_a_quick_run_is_compared_with_a_quick_one_only_and_a_broker_with_itself() -> None:
    assert compare([report(row([1.0]))], [report(row([9.0]), quick=True)]).changes == []
    assert compare([report(row([1.0]), broker="kafka")], [report(row([9.0]), broker="embedded")]).changes == []


def test_the_page_says_where_of_what_and_which_bars_are_missed(tmp_path: Path) -> None:
    report(row([3.0, 3.2], [1.0, 1.0])).save(tmp_path)
    failed = replace(report(name="start"), failed="Unavailable: no | broker", left_out=["faiss is left out: pip"])
    failed.save(tmp_path)
    (tmp_path / "learn.md").write_text("Why it is missed: the profile says so.\n")
    text = of_folder(tmp_path)
    assert "commit abc1234; mine; load of the machine 0.1 before and 1.2 after" in text
    assert "- learn, a: 3.1 of bare, the bar is 2" in text
    assert "| a | 3.1 (3..3.2) ms | bare (floor) | 1 | 3.1 (3..3.2) | 2 missed | 1 |" in text
    assert "Why it is missed: the profile says so." in text
    assert "It failed: Unavailable: no \\| broker" in text
    assert "- faiss is left out: pip" in text
    assert text == of_folder(tmp_path)
    small = page([report(row([1.0], [1.0]), quick=True)], {}, "x")
    assert "figures say nothing" in small
    assert "| 1 | 1 | 2 | 1 |" in small, "ratio, bar and aim: no word of what is met"
    assert "are met" not in small


def test_a_row_beside_several_has_a_line_for_each() -> None:
    two = Row("a", "ms", "less", [2.0], [Beside("bare", "floor", [1.0]), Beside("faiss", "peer", [4.0])], [Bar(3.0)])
    found = lines(report(two))
    assert [(one.case, one.other, one.ratio, one.bar) for one in found] == [
        ("a", "", "", "3 met"), ("", "bare (floor)", "2", ""), ("", "faiss (peer)", "0.5", ""),
    ]  # fmt: skip


def test_what_is_not_installed_is_left_out_with_a_line_that_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(Left, match=r"no_such_peer is left out.*pip install"):
        optional("no_such_peer")
    setup = Setup(tmp_path)
    setup.left("faiss is left out")
    setup.left("faiss is left out")
    assert setup.left_out == ["faiss is left out"]


def test_each_bench_is_a_file_with_the_function_and_a_line_in_the_table() -> None:
    folder = Path(benches.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == BENCHES.keys()
    for name in BENCHES:
        found = [node.name for node in ast.parse((folder / f"{name}.py").read_text()).body if hasattr(node, "name")]
        assert "measured" in found, name


def test_the_command_lists_compares_and_says_what_it_does_not_know(tmp_path: Path) -> None:
    report(row([1.0])).save(tmp_path / "a")
    report(row([2.0])).save(tmp_path / "b")
    same = headwater("bench", "compare", str(tmp_path / "a"), str(tmp_path / "a"))
    assert same.returncode == 0
    assert "same    learn: a: ms 1 -> 1" in same.stdout
    slower = headwater("bench", "compare", str(tmp_path / "a" / "learn.json"), str(tmp_path / "b"))
    assert slower.returncode == 1
    assert "slower  learn: a: ms 1 -> 2" in slower.stdout
    unknown = headwater("bench", "scroe")
    assert unknown.returncode == 2
    assert "no bench is called scroe. There are: " in unknown.stderr
    assert headwater("bench", "--list").stdout.splitlines()[0].split()[0] == next(iter(BENCHES))


def test_a_bench_that_fails_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    broken = Bench("no_such_bench", "Fails.", uses_broker=True)
    found = list(run([broken, broken], RunOptions(tmp_path, quick=True, broker="127.0.0.1:1")))
    assert [one.failed for one in found] == ["the process ended with exit code 2"] * 2
    assert read_reports(tmp_path) == [found[1]]
    assert found[0].broker == "kafka"


def test_the_page_is_what_the_saved_benches_make() -> None:
    root = Path(benches.__file__).parents[2]
    saved = root / "benchmarks/results"
    made = of_folder(saved, name="benchmarks/results")
    assert (root / "docs/performance.md").read_text() == made, "run: headwater bench page"
    assert (root / "docs/scaling.md").read_text() == scaling.page(read_reports(saved)), "run: headwater bench page"
    assert not [one.bench for one in read_reports(saved) if one.quick], "quick figures say nothing"


def test_what_sizes_need_follows_from_the_figures() -> None:
    rows: dict[str, list[Row]] = {}
    for one in scaling.FIGURES:
        rows.setdefault(one.bench, []).append(Row(one.case, one.unit, "less", [1000.0]))
    reports = [report(*of, name=name) for name, of in rows.items()]
    text = scaling.page(reports)
    assert "| events/s, answers/s | 10,000, 1,000 | 100,000, 10,000 | 1,000,000, 100,000 |" in text
    assert "| streams workers (packed records) | 17 (17) | 167 (167) | 1,667 (1,667) |" in text
    assert "| memory of the store | 2 GB | 15 GB | 150 GB |" in text
    assert "not measured yet" not in text
    assert "Not reckoned: i, " in scaling.page([])


def test_a_gradient_waits_from_its_moment_to_the_first_answer_of_its_version_or_a_newer_one() -> None:
    cut = {1: 1000.0, 2: 2000.0, 3: 3000.0}
    waits, alone = waits_of(cut, {3: 3100.0}, [2, 3])
    assert alone == [1100.0, 100.0]
    assert max(waits) == pytest.approx(2099.0)
    assert min(waits) == pytest.approx(119.0, abs=20)
    assert waits_of(cut, {}, [2, 3]) == ([], [])


def test_beside_an_installed_wheel_the_command_says_that_it_needs_the_checkout() -> None:
    with patch("console.commands.bench.checkout.importlib.util.find_spec", return_value=None):
        for words in (["--list"], ["compare", "a", "b"], ["page"]):
            refused = headwater("bench", *words)
            assert refused.returncode == 2
            assert "bench needs the checkout" in refused.stderr


def test_every_benchmark_can_be_imported() -> None:
    names = [one.name for one in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")]
    assert "benchmarks.rolling" in names
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
