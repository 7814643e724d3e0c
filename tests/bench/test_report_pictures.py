"""The pictures: well-formed, the same every time, nothing written over anything else."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from bench.report import charts, pictures
from bench.report.charts import Bar, Line, Range
from bench.report.medians import Spread
from bench.report.results import Results
from enginehouse.replay import svg
from tests.bench import invented
from tests.pictures import NAMESPACE, check

LONG = "a-router-whose-makers-could-not-find-a-shorter-name-for-it-at-all"
NASTY = '<b>&"quoted"\x00 %s'


def without(*contestants: str, cases: tuple[str, ...] = ()) -> Results:
    rows = [row for row in invented.measurements() if row["contestant"] not in contestants]
    return invented.results(measurements=[row for row in rows if not row["case"].startswith(cases or ("\0",))])


@pytest.mark.parametrize(
    "results",
    [
        invented.results(),
        invented.results(measurements=invented.measurements(runs=1)),
        without("litellm"),
        without("enginehouse"),
        without("nginx", "vllm-router", "sglang-router", "litellm"),
        invented.results(soak=invented.soak(grows_by=300_000)),
    ],
    ids=["all", "one-run", "no-litellm", "without-us", "only-us", "leaking"],
)
def test_every_picture_is_well_formed_and_no_text_touches_another(results: Results) -> None:
    drawn = pictures.render(results)
    assert set(drawn) == {"speed-cpu.svg", "speed-sizes.svg", "speed-streams.svg", "speed-soak.svg"}
    for picture in drawn.values():
        assert check(picture)


def test_a_picture_without_figures_is_not_drawn() -> None:
    assert pictures.render(invented.results(measurements=[], soak=None)) == {}
    drawn = pictures.render(without(cases=("streams", "sse", "json")))
    assert set(drawn) == {"speed-sizes.svg", "speed-soak.svg"}


def test_a_contestant_without_a_figure_has_a_row_that_says_so() -> None:
    texts = [box.text for box in check(pictures.render(without("sglang-router"))["speed-cpu.svg"])]
    assert texts.count("sglang-router") == 2
    assert texts.count("not measured") == 2


def test_the_same_figures_make_the_same_file() -> None:
    assert pictures.render(invented.results()) == pictures.render(invented.results())


def test_long_names_are_cut_and_no_name_is_taken_for_markup() -> None:
    value = Spread(10, 9, 11, 5)
    names = [LONG, NASTY, "x"]
    panels = [
        charts.heading(LONG * 2, LONG * 2),
        charts.bars([Bar(name, value, name == LONG) for name in names], lambda value: f"{value} µs"),
        charts.ranges([Range(name, value, value, "9 stalls") for name in names], lambda value: f"{value} ms", "time"),
        charts.lines(
            [Line(name, [(1, value), (9, value)]) for name in names], [(1, "1"), (9, "9")], lambda value: f"{value}"
        ),
    ]
    picture = charts.picture(LONG, LONG * 3, NASTY, panels, NASTY)
    texts = [box.text for box in check(picture)]
    assert LONG not in texts
    assert any(text.endswith("…") and LONG.startswith(text[:-1]) for text in texts)
    assert '<b>&"quoted" %s' in texts
    assert "<b>" not in picture


def test_bars_start_at_zero_and_their_lengths_are_in_proportion() -> None:
    picture = charts.picture(
        "", "", "", [charts.bars([Bar("a", Spread(10, 10, 10, 1)), Bar("b", Spread(40, 40, 40, 1))], str)]
    )
    bars = [element for element in ET.fromstring(picture).iter(f"{NAMESPACE}rect") if element.get("class") == "f-peer"]
    (short, long) = (float(bar.attrib["width"]) for bar in bars)
    assert long / short == pytest.approx(4, rel=0.01)
    assert len({bar.attrib["x"] for bar in bars}) == 1


def test_a_bar_that_would_dwarf_the_rest_is_broken_and_says_that_it_is_off_the_scale() -> None:
    texts = [box.text for box in check(pictures.render(invented.results())["speed-cpu.svg"])]
    assert "10,000 µs · off the scale" in texts
    assert not any("off the scale" in text for text in texts if not text.startswith(("10,000", "925")))


def test_added_times_of_nothing_and_below_are_drawn_at_the_edge_of_a_logarithmic_axis() -> None:
    rows = [Range("a", Spread(0, -1, 0, 5), Spread(2, 1, 3, 5)), Range("b", Spread(1, 1, 1, 1), Spread(2, 2, 2, 1))]
    assert check(charts.picture("", "", "", [charts.ranges(rows, str, "time")]))


def test_every_colour_has_a_light_and_a_dark_form() -> None:
    light, _, dark = svg.STYLE.partition("@media(prefers-color-scheme:dark)")
    assert set(re.findall(r"\.[fs]-\w+", light)) == set(re.findall(r"\.[fs]-\w+", dark))
    used = {
        name for text in pictures.render(invented.results()).values() for name in re.findall(r"\b[fs]-[a-z]+", text)
    }
    assert all(f".{name}{{" in light for name in used)
