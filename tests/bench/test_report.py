"""What benchmarks say about made-up figures: medians, ratios, bars, tables, JSON. Nothing is measured here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import __main__ as command
from bench.context import Context
from bench.report import document, prepare_folder, text, write_report
from bench.report.run import Part, Run, from_json, to_json
from bench.result import Bar, Curve, Measure, Plot
from tests.project import tree

COST = Measure(
    "cost", "CPU time per request", "us",
    {"fe": [10.0, 30.0, 12.0], "nginx": [20.0, 20.0, 16.0], "haproxy": [8.0, 24.0, 10.0]},
    [Bar(1.0, beside="nginx"), Bar(1.15, beside="haproxy"), Bar(11.0)],
    "All processes.",
    [Plot("cost", "Cost", "percentile", "us", [Curve("fe", [1.0, 10.0], [3.0, 4.5])], x_log=True)],
)  # fmt: skip
RATE = Measure("rate", "requests", "1/s", {"fe": [900.0], "nginx": [1000.0]}, [Bar(1.0, beside="nginx", better="more")])
LEASE = Measure(
    "lease", "a | lease", "ns", {"10 replicas": [100.0], "10,000 replicas": [104.0]}, [Bar(0.0, "10 replicas")]
)
RUN = Run(
    started=0.0, ended=90.0, settings={"quick": False, "rounds": 3, "seconds": 2.5, "only": None},
    machine={"CPU": "made up", "cores": "2"}, versions={"fe": "0.1.0"}, load=(0.25, 1.5),
    parts=[
        Part("macro.cpu", [COST, RATE], 60.0),
        Part("micro.lease_table", [LEASE], 20.0),
        Part("macro.queue", [], 1.0, "missing: haproxy; apt-get install haproxy"),
    ],
)  # fmt: skip


def table_rows(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


# --- Figures ---------------------------------------------------------------------------------------------------------


def test_median_and_spread() -> None:
    assert COST.median("fe") == 12.0
    assert COST.spread("fe") == (10.0, 30.0)


def test_ratios_are_those_of_a_round() -> None:
    """The medians' own ratio would be 12 to 20, for figures that were never taken side by side."""
    assert COST.ratios("fe", "nginx") == [0.5, 1.5, 0.75]
    assert COST.ratio("fe", "nginx") == 0.75
    assert COST.ratio_spread("fe", "nginx") == (0.5, 1.5)


def test_a_ratio_to_nothing_is_infinite() -> None:
    none = Measure("none", "none", "us", {"fe": [1.0], "nginx": [0.0]})
    assert none.ratio("fe", "nginx") == float("inf")
    assert text.figure(none.ratio("fe", "nginx")) == "inf"


@pytest.mark.parametrize(
    ("measure", "bar", "figure", "reached"),
    [
        (COST, Bar(1.0, beside="nginx"), 0.75, True),
        (COST, Bar(0.75, beside="nginx"), 0.75, True),
        (COST, Bar(1.15, beside="haproxy"), 1.25, False),
        (COST, Bar(11.0), 12.0, False),
        (COST, Bar(20.0, party="nginx", better="more"), 20.0, True),
        (COST, Bar(20.0, of="most"), 30.0, False),
        (COST, Bar(1.5, beside="nginx", of="most"), 1.5, True),
        (RATE, Bar(0.95, beside="nginx", better="more"), 0.9, False),
    ],
)
def test_bars(measure: Measure, bar: Bar, figure: float, reached: bool) -> None:
    assert (bar.figure(measure), bar.reached(measure)) == (figure, reached)


@pytest.mark.parametrize(
    ("bar", "asked", "verdict"),
    [
        (Bar(1.0, beside="nginx"), "at most 1 x nginx", "reached"),
        (Bar(1.15, beside="haproxy"), "at most 1.15 x haproxy", "missed by 8.7%"),
        (Bar(10.0), "at most 10 us", "missed by 20.0%"),
        (Bar(24.0, better="more"), "at least 24 us", "missed by 50.0%"),
        (Bar(0.0), "at most 0 us", "missed by 12.0"),
        (Bar(20.0, of="most"), "at most 20 us, each", "missed by 50.0%"),
        (Bar(11.996), "at most 11.996 us", "missed by 0.03%"),
    ],
)
def test_verdicts(bar: Bar, asked: str, verdict: str) -> None:
    assert text.bar_text(bar, COST.unit) == asked
    assert text.verdict(bar, COST) == verdict


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (0.5, "0.5"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (54321.9, "54,322"),
    ],
)
def test_figures_have_the_digits_they_deserve(value: float, written: str) -> None:
    assert text.figure(value) == written


# --- Reports ---------------------------------------------------------------------------------------------------------


def test_markdown_has_a_row_for_each_party() -> None:
    rows = table_rows(text.markdown(RUN, {}))
    bars = (
        "at most 1 x nginx: 0.750, reached; at most 1.15 x haproxy: 1.250, missed by 8.7%;"
        " at most 11 us: missed by 9.1%"
    )
    assert ["CPU time per request", "us", "fe", "12.0", "10.0 to 30.0", "", "", bars] in rows
    assert ["", "", "nginx", "20.0", "16.0 to 20.0", "0.75", "0.5 to 1.50", ""] in rows
    assert ["", "", "haproxy", "10.0", "8.00 to 24.0", "1.25", "1.20 to 1.25", ""] in rows
    assert ["", "", "10,000 replicas", "104", "104", "", "", ""] in rows
    assert {"made up", "0.1.0"} <= {cell for row in rows for cell in row}


def test_every_bar_is_listed_reached_or_not() -> None:
    markdown = text.markdown(RUN, {})
    listed = table_rows(markdown[markdown.index("## Bars") : markdown.index("## macro.cpu")])[2:]
    assert [row[-2:] for row in listed] == [
        ["0.500 to 1.500", "reached"],
        ["1.200 to 1.250", "missed by 8.7%"],
        ["10.0 to 30.0", "missed by 9.1%"],
        ["0.900", "missed by 10.0%"],
        ["100", "missed by 100"],
    ]


def test_what_failed_says_why() -> None:
    assert RUN.failures() == {"macro.queue": "missing: haproxy; apt-get install haproxy"}
    assert "- macro.queue: missing: haproxy; apt-get install haproxy" in text.markdown(RUN, {})
    assert "FAILED   macro.queue: missing: haproxy" in text.printed(RUN)


def test_markdown_says_when_and_how() -> None:
    markdown = text.markdown(RUN, {"macro.cpu": [("Medians", "cpu-bars.png")]}, level=2)
    assert "1970-01-01 00:00 UTC, 3 rounds, turns of 2.5 s unless a part has its own, 1.5 minutes in all" in markdown
    assert "before and after: 0.25, 1.50." in markdown
    assert "- CPU time per request: All processes." in markdown
    assert "![Medians](cpu-bars.png)" in markdown
    assert re.findall(r"^(#+) ", markdown, re.MULTILINE) == ["###"] * 5
    assert text.ROUGH not in markdown
    assert text.ROUGH in text.markdown(replace(RUN, settings={**RUN.settings, "quick": True}), {})
    assert "The machine was busy" not in markdown
    assert "The machine was busy before the run (load average 3.00)" in text.markdown(replace(RUN, load=(3.0, 1.0)), {})


def test_printed_report() -> None:
    lines = text.printed(RUN).splitlines()
    assert lines[:3] == [
        "CPU time per request, us",
        "  fe                12.0  10.0 to 30.0",
        "  nginx             20.0  16.0 to 20.0  fe / it 0.75 (0.5 to 1.50)",
    ]
    assert "reached  CPU time per request, fe: 0.750 (0.500 to 1.500), at most 1 x nginx" in lines
    assert "MISSED   requests, fe: 0.900, at least 1 x nginx" in lines
    assert lines[-1] == "Seconds: macro.cpu 60.0, micro.lease_table 20.0, macro.queue 1.0; 90 in all."


def test_a_run_in_which_all_failed_is_printed() -> None:
    assert "FAILED   macro.queue" in text.printed(replace(RUN, parts=RUN.parts[-1:]))


def test_json_holds_every_figure() -> None:
    again = from_json(to_json(RUN))
    assert to_json(again) == to_json(RUN)
    assert again.load == RUN.load
    assert [measure.samples for measure in again.measures()] == [measure.samples for measure in RUN.measures()]
    assert [measure.bars for measure in again.measures()] == [list(measure.bars) for measure in RUN.measures()]
    assert list(again.plots()) == list(RUN.plots())
    assert text.markdown(again, {}) == text.markdown(RUN, {})
    [cost, rate] = json.loads(to_json(RUN))["parts"][0]["measures"]
    assert cost["ratios"] == {"fe / nginx": [0.5, 1.5, 0.75], "fe / haproxy": [1.25, 1.25, 1.2]}
    assert rate["ratios"] == {"fe / nginx": [0.9]}


def test_json_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="run the benchmarks again"):
        from_json(json.dumps({**json.loads(to_json(RUN)), "format": 0}))


def test_a_report_replaces_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_folder(out)
    assert list(out.iterdir()) == []
    sizes = Measure("lease", "lease", "ns", {f"{size:,} replicas": [80.0, 90.0] for size in (10, 100, 1000)})
    write_report(out, replace(RUN, parts=[Part("micro.lease_table", [sizes], 1.0), RUN.parts[0]]))
    assert {path.name for path in out.iterdir()} == {
        "report.json", "report.md", "lease_table-bars.png", "lease-sizes.png", "cpu-bars.png", "cost.png",
    }  # fmt: skip
    (out / "mine.png").touch()
    write_report(out, replace(RUN, settings={**RUN.settings, "quick": True}))
    assert {path.name for path in out.glob("*.png")} == {"lease_table-bars.png", "cpu-bars.png", "mine.png"}


def test_pictures_beside_another_report_stay(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("# My own\n\n![A picture](mine.png)\n")
    (tmp_path / "mine.png").touch()
    write_report(tmp_path, replace(RUN, parts=[]))
    assert (tmp_path / "mine.png").exists()


# --- The document ----------------------------------------------------------------------------------------------------


def test_a_report_takes_the_place_of_the_last_one() -> None:
    other = "<!-- scaling -->\n<!-- end of scaling -->\n"
    once = document.replace(f"above\n<!-- report -->\nold\n<!-- end of report -->\n{other}", "new \\1\n")
    assert once == f"above\n<!-- report -->\n\nnew \\1\n\n<!-- end of report -->\n{other}"
    assert document.replace(once, "new \\1\n") == once
    with pytest.raises(ValueError, match="no section"):
        document.replace("above\nbelow\n", "new")


@pytest.mark.parametrize("mark", ["report", "scaling"])
def test_the_document_has_a_place_for_it(mark: str) -> None:
    assert document.replace(document.DOCUMENT.read_text(), "new\n", mark).count("\nnew\n") == 1


@pytest.mark.parametrize(("only", "mark"), [(None, "report"), (["macro.scaling"], "scaling")])
def test_a_run_goes_where_its_kind_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: list[str] | None, mark: str
) -> None:
    empty = "<!-- report -->\n<!-- end of report -->\n<!-- scaling -->\n<!-- end of scaling -->\n"
    page = tmp_path / "page.md"
    page.write_text(empty)
    for name, value in {"ROOT": tmp_path, "DOCUMENT": page, "IMAGES": tmp_path / "images"}.items():
        monkeypatch.setattr(document, name, value)
    run = replace(RUN, settings={**RUN.settings, "quick": False, "only": only})
    (tmp_path / "report.json").write_text(to_json(run))
    assert f"images/{mark}/" in document.document(tmp_path)
    made = page.read_text()
    assert made.index(f"<!-- {mark} -->") < made.index("macro.cpu") < made.index(f"<!-- end of {mark} -->")
    assert len(list((tmp_path / "images").iterdir())) == 1


@pytest.mark.parametrize("settings", [{"quick": True, "only": None}, {"quick": False, "only": ["macro.cpu"]}])
def test_only_a_full_run_gets_there(tmp_path: Path, settings: dict[str, object]) -> None:
    (tmp_path / "report.json").write_text(to_json(replace(RUN, settings={**RUN.settings, **settings})))
    with pytest.raises(ValueError, match="only a full run"):
        document.document(tmp_path)


# --- The command -----------------------------------------------------------------------------------------------------


def test_every_module_of_benchmarks_is_run() -> None:
    files = [path for folder in ("bench/macro", "bench/micro") for path in tree.sources(folder, ".py")]
    with_measure = {tree.module_name(path) for path in files if re.search(r"^def measure\(", path.read_text(), re.M)}
    assert with_measure == {f"bench.{module}" for module in command.MODULES}


def test_a_benchmark_that_fails_is_a_part_of_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = command._part(Context(tmp_path, quick=True, rounds=1, seconds=1.0), "macro.no_such_module")
    assert part.failure is not None
    assert part.failure.startswith("ModuleNotFoundError: ")
    assert "failed: ModuleNotFoundError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "0"], "'0' is no whole number above 0"),
        (["--rounds=-1"], "'-1' is no whole number above 0"),
        (["--seconds", "nan"], "'nan' is no number above 0"),
        (["--seconds=-1"], "'-1' is no number above 0"),
        (["--seconds", "0.0"], "'0.0' is no number above 0"),
    ],
)
def test_wrong_usage(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_where_no_report_can_be_nothing_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--out", str(tmp_path / "file")], cwd=tree.ROOT, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr == f"bench: {tmp_path / 'file'}: File exists\n"
