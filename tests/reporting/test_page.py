from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import invented_analysis
import pytest
from invented_analysis import Curve

from sparsejax.data.languages import LANGUAGES, Language
from sparsejax.reporting.page import data, headline, page, text

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = [
    "</script><script>window.hit = 1</script>",
    "<!-- <script>",
    "\"'><img src=x onerror='window.hit = 1'>",
    "$title ${style} $$",
    "]]>&lt;&#0;\u2028\u2029\\",
    "half \ud83d a pair \x00\x1b[31m",
    "__proto__",
    "constructor",
    "עברית العربية",
    "Wolof🦁 " + "unbreakable" * 25,
]


def shown(value: float | None, signed: bool = False) -> str:
    """A fraction as the page should show it, by exact decimals."""
    if value is None:
        return "–"
    number = (Decimal(round(value * 10**6)) / 10**4).quantize(Decimal("0.1"), ROUND_HALF_UP)
    sign = "−" if number < 0 else "+" if signed and number > 0 else ""
    return f"{sign}{abs(number)}"


def ends(interval: dict[str, Any], signed: bool = False) -> str:
    return f"{shown(interval['low'], signed)} to {shown(interval['high'], signed)}"


@pytest.fixture(scope="module")
def analysis() -> dict[str, Any]:
    curves = (Curve(), Curve("movement", harm=0.55), Curve(setting="monolingual", harm=1.4))
    return invented_analysis.analysis(curves=curves, texts=("language", "script"), missing=0.02)


@pytest.fixture(scope="module")
def few() -> list[Language]:
    return [LANGUAGES[code] for code in ("en", "sw", "yo", "ru", "ar", "fa")]


def cell(analysis: dict[str, Any], variant: int, code: str, kind: str = "none") -> Any:
    wanted = variant, code, kind
    for row in analysis["cells"]:
        if (row["variant"], row["language"], row["perturbation"]) == wanted:
            return row
    return None


def test_the_same_analysis_gives_the_same_page(analysis: dict[str, Any]) -> None:
    assert page(analysis) == page(json.loads(json.dumps(analysis)))


def test_is_small_enough_to_send() -> None:
    whole = invented_analysis.analysis(texts=("language", "script", "family", "noise"))
    assert len(whole["variants"]) > 40 and len(whole["languages"]) == 40
    assert len(page(whole).encode()) < 1_500_000


def test_needs_no_jax_and_no_matplotlib() -> None:
    code = (
        "import sys, sparsejax.reporting.page; "
        "print({'jax', 'matplotlib', 'pandas', 'transformers'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_refers_to_nothing_outside(analysis: dict[str, Any]) -> None:
    markup = page(analysis)
    assert re.findall(r"https?://[^\"'\s)]+", markup) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"@import|url\(|<link(?! rel=\"icon\" href=\"data:,\")", markup)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0.0"),
        (-0.0004, "0.0"),
        (0.0005, "+0.1"),
        (0.7125, "+71.3"),
        (-0.7125, "−71.3"),
        (1.0, "+100.0"),
    ],
)
def test_points(value: float | None, expected: str) -> None:
    assert text.points(value, signed=True) == expected


def test_points_against_decimals() -> None:
    for tenths in range(-1_000, 1_001, 7):
        value = tenths / 1_000 + 0.00049
        assert text.points(value, True) == shown(value, True)


def test_sparsities_and_lists_in_words() -> None:
    found = [text.percent(sparsity) for sparsity in (0.0, 0.5, 0.8734, 0.995, 0.99999, 1.0)]
    assert [one.replace("\xa0", " ") for one in found] == [
        "0 %", "50 %", "87.3 %", "99.5 %", ">99.9 %", "100 %"
    ]  # fmt: skip
    assert text.listed(["a"]) == "a" and text.listed(["a", "b", "c"]) == "a, b and c"


@pytest.mark.parametrize("value", HOSTILE)
def test_json_in_a_script_element_is_only_json(value: str) -> None:
    found = data.script_json({value: [value, 1, None]})
    assert not set("<>&") & set(found) and found.isascii()
    assert json.loads(found) == {value: [value, 1, None]}


def told() -> dict[str, Any]:
    """An analysis small enough to know what should be said of it."""

    def interval(mean: float, half: float | None) -> dict[str, Any]:
        low, high = (None, None) if half is None else (mean - half, mean + half)
        return {"mean": mean, "low": low, "high": high, "n": 3, "of": "seeds"}

    codes = ["en", "yo"]
    variant = {"setting": "multilingual", "method": "magnitude", "embeddings": False, "extra": ""}
    variants = [
        variant | {"id": 7, "label": "dense", "method": "none", "sparsity": 0.0},
        variant | {"id": 8, "label": "magnitude, 50 %", "sparsity": 0.5},
        variant | {"id": 9, "label": "magnitude, 90 %", "sparsity": 0.9},
    ]
    for one in variants:
        dense = one["id"] == 7
        one |= {"seeds": [0, 1, 2], "languages": codes}
        one |= {"series": None if dense else 4, "dense": None if dense else 7}
    changes = {8: (0.001, 0.01, "not distinguishable"), 9: (-0.0421, 0.01, "lower")}
    rows = [
        {
            "variant": number,
            "perturbation": "none",
            "f1": interval(0.8 + changes.get(number, (0,))[0], 0.01),
            "change": interval(*changes[number][:2]) if number in changes else None,
            "verdict": changes[number][2] if number in changes else None,
        }
        for number in (7, 8, 9)
    ]
    return {
        "title": "t", "versions": {}, "data": [], "notes": [], "runs": [],
        "languages": [
            {"code": code, "name": name, "family": "f", "branch": "b", "script": "s",
             "resource": "r", "train": 5, "wikipedia_bytes": None}
            for code, name in (("en", "English"), ("yo", "Yoruba"))
        ],
        "series": [variant | {"id": 4, "label": "magnitude"}],
        "variants": variants,
        "cells": [row | {"language": code} for row in rows for code in codes],
        "groups": [row | {"by": "all", "group": "all", "members": codes} for row in rows],
        "summary": [
            {"variant": number, "languages": 2, "improved": 0, "worse": worse,
             "undecided": 2 - worse,
             "mean_up": 0, "mean_down": 0, "improved_fdr": 0, "worse_fdr": 0,
             "sd": interval(0.1, None), "worst": {"language": "yo", "f1": 0.1}, "gap": None,
             "gap_change": None, "gap_verdict": None}
            for number, worse in ((8, 0), (9, 1))
        ],
        "thresholds": [], "correlations": [], "layers": [],
    }  # fmt: skip


def test_says_what_it_costs() -> None:
    assert headline.lead(told()).replace("\xa0", " ") == (
        "Magnitude pruning at 90 % sparsity costs 4.2 points of F1, averaged over 2 languages "
        "(95 % interval 3.2 to 5.2). 1 of 2 languages are distinguishable from dense: 1 lower, "
        "none higher; corrected for comparing so many, none and none."
    )
    found = dict(headline.sentences(told()))
    assert found["magnitude"].replace("\xa0", " ") == (
        "not distinguishable from dense at 50 %; costs 4.2 points at 90 %."
    )


def test_says_so_where_nothing_can_be_told_apart() -> None:
    unclear = told()
    unclear["summary"] = []
    unclear["variants"] = unclear["variants"][:2]
    assert "is not distinguishable from dense, averaged over 2 languages: +0.1 points" in (
        headline.lead(unclear)
    )
    for row in unclear["groups"]:
        row["verdict"] = None
    assert "there is no interval, so this may be chance" in headline.lead(unclear)
    unclear["variants"] = unclear["variants"][:1]
    assert headline.lead(unclear | {"series": []}) == (
        "F1 without pruning is 80.0, averaged over 2 languages."
    )


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium and no google-chrome on the path")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


Open = Callable[..., Any]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens the page of an analysis; fails if it complained or asked for anything."""
    contexts, wrong, asked = [], [], []
    path = tmp_path / "report.html"

    def opened(analysis: dict[str, Any], **options: Any) -> Any:
        path.write_bytes(page(analysis).encode())
        options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options
        context = browser.new_context(**options)
        contexts.append(context)
        context.on("console", lambda message: wrong.append(f"console: {message.text}"))
        context.on("weberror", lambda error: wrong.append(f"error: {error.error}"))
        context.on("request", lambda request: asked.append(request.url))
        tab = context.new_page()
        tab.set_default_timeout(5_000)
        tab.goto(path.as_uri())
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert not wrong
    assert set(asked) == {path.as_uri()}


@pytest.fixture(scope="module")
def shared_tab(browser: Any, analysis: dict[str, Any], tmp_path_factory: Any) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(page(analysis).encode())
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    tab = context.new_page()
    tab.set_default_timeout(5_000)
    tab.goto(path.as_uri())
    yield tab
    context.close()


@pytest.fixture
def tab(shared_tab: Any) -> Any:
    """The page of `analysis`, as it is after loading."""
    shared_tab.reload()
    return shared_tab


def column(tab: Any, number: int) -> list[str]:
    script = "(rows, number) => rows.map((row) => row.cells[number].textContent.trim())"
    found: list[str] = tab.locator("#table tbody tr").evaluate_all(script, number)
    return found


def codes_in_table(tab: Any) -> list[str]:
    found: list[str] = tab.locator("#table tbody .code").all_text_contents()
    return found


def choose(tab: Any, analysis: dict[str, Any], label: str) -> dict[str, Any]:
    variant: dict[str, Any] = next(one for one in analysis["variants"] if one["label"] == label)
    tab.locator("#variant").select_option(str(variant["id"]))
    return variant


def test_loads_without_an_error_or_a_request(show: Open, analysis: dict[str, Any]) -> None:
    tab = show(analysis)
    assert tab.title() == analysis["title"]
    assert tab.locator("h1").count() == 1 and tab.locator("html").get_attribute("lang") == "en"
    assert [tab.locator(one).count() for one in ("header", "main", "footer")] == [1, 1, 1]
    assert tab.locator("#curves svg").count() == 2
    assert tab.locator("#heat tbody tr:not(.rows)").count() == 41
    for note in analysis["notes"]:
        assert note in tab.locator(".notes").text_content()


def test_has_numbers_of_every_language(tab: Any, analysis: dict[str, Any]) -> None:
    variant = choose(tab, analysis, "multilingual, movement, 95 %")
    for code, f1, change, interval, verdict in zip(
        codes_in_table(tab), *(column(tab, number) for number in (3, 4, 5, 6)), strict=True
    ):
        found = cell(analysis, variant["id"], code)
        if found is None:
            assert (f1, change, verdict) == ("–", "–", "no score")
            continue
        assert f1 == shown(found["f1"]["mean"])
        assert change == shown(found["change"]["mean"], True)
        assert interval == ends(found["change"], True)
        assert verdict.endswith(found["verdict"])


def test_below_is_that_of_the_series(tab: Any, analysis: dict[str, Any]) -> None:
    variant = choose(tab, analysis, "multilingual, movement, 95 %")
    signs = {"below": "", "not distinguishable": "≈ ", None: ""}
    expected = {
        row["language"]: "at none"
        if row["sparsity"] is None
        else f"{signs[row['verdict']]}{round(100 * row['sparsity'])}\xa0%"
        for row in analysis["thresholds"]
        if row["series"] == variant["series"]
    }
    assert dict(zip(codes_in_table(tab), column(tab, 7), strict=True)) == expected


def test_sorts_as_python_does(tab: Any, analysis: dict[str, Any]) -> None:
    variant = choose(tab, analysis, "multilingual, magnitude, 90 %")
    order = {"lower": 0, "not distinguishable": 1, "higher": 2}
    languages = {one["code"]: one for one in analysis["languages"]}
    by_name = sorted(languages, key=lambda code: f"{languages[code]['name']} {code}".lower())

    def scores(key: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        cells = {code: cell(analysis, variant["id"], code) for code in languages}
        return {code: found and key(found) for code, found in cells.items()}

    keys = {
        "Sentences": {code: one["train"] for code, one in languages.items()},
        "F1 dense": {
            code: cell(analysis, variant["dense"], code)["f1"]["mean"] for code in languages
        },
        "F1": scores(lambda one: round(one["f1"]["mean"], 6)),
        "Change": scores(lambda one: round(one["change"]["mean"], 6)),
        "95 % interval": scores(lambda one: round(one["change"]["low"], 6)),
        "Verdict": scores(lambda one: order[one["verdict"]]),
        "Script": {code: one["script"].lower() for code, one in languages.items()},
        "Family": {code: one["family"].lower() for code, one in languages.items()},
    }
    assert any(value is None for value in keys["F1"].values())
    assert codes_in_table(tab) == by_name
    for heading, key in keys.items():
        known = [code for code in by_name if key[code] is not None]
        missing = [code for code in by_name if key[code] is None]
        cell_of_heading = tab.locator("#table thead th").filter(
            has=tab.get_by_role("button", name=heading, exact=True)
        )
        for direction in ("ascending", "descending"):
            cell_of_heading.locator("button").click()
            assert cell_of_heading.get_attribute("aria-sort") == direction
            # Python's reverse keeps equal ones in their order, and so should the page.
            expected = sorted(known, key=key.__getitem__, reverse=direction == "descending")
            assert codes_in_table(tab) == expected + missing, (heading, direction)
    assert tab.locator("#table th[aria-sort]").count() == 1


def test_filters_table_heat_map_and_scatter_together(tab: Any, analysis: dict[str, Any]) -> None:
    variant = choose(tab, analysis, "multilingual, magnitude, 90 %")
    languages = analysis["languages"]

    def check(expected: list[dict[str, Any]]) -> None:
        codes = {one["code"] for one in expected}
        assert set(codes_in_table(tab)) == codes
        names = tab.locator("#heat tbody tr:not(.rows) th").all_text_contents()
        assert sorted(names) == sorted(["all languages", *(one["name"] for one in expected)])
        points = [code for code in codes if cell(analysis, variant["id"], code)]
        assert tab.locator("#size g[role=img]").count() == len(points)
        assert tab.locator("#count").text_content() == f"{len(expected)} of 40 languages"

    tab.locator("#filter-script").select_option("Latn")
    latin = [one for one in languages if one["script"] == "Latn"]
    check(latin)
    tab.locator("#filter-family").select_option("Uralic")
    check([one for one in latin if one["family"] == "Uralic"])
    tab.locator("#query").fill("FIN")
    check([one for one in latin if one["code"] == "fi"])
    tab.get_by_role("button", name="All languages").click()
    check(languages)
    tab.locator("#filter-resource").select_option("100 or fewer")
    check([one for one in languages if one["train"] == 100])
    tab.locator("#query").fill("no such language")
    check_empty = tab.locator("#heat .empty").text_content()
    assert "No language" in check_empty and codes_in_table(tab) == []


def heat_cell(tab: Any, language: str, place: int) -> Any:
    row = tab.locator("#heat tbody tr").filter(
        has=tab.locator("th").get_by_text(language, exact=True)
    )
    return row.locator("td").nth(place)


def test_languages_of_a_group_stand_together(show: Open, few: list[Language]) -> None:
    """Also where the runs had other numbers of sentences than those the groups go by."""
    found = invented_analysis.analysis(languages=few)
    for one in found["languages"]:
        one["train"] = {"yo": 5_000, "en": 10, "ru": 5_000}.get(one["code"], 300)
    tab = show(found)
    for order in ("train", "family", "script"):
        tab.locator("#order").select_option(order)
        names = tab.locator("#heat tbody tr.rows").all_text_contents()
        assert len(names) == len(set(names)) > 1, order


def test_heat_map_is_coloured_and_marked_by_the_numbers(tab: Any, analysis: dict[str, Any]) -> None:
    series = [one for one in analysis["variants"] if one["series"] == 0]
    edges = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
    for code, name in (("yo", "Yoruba"), ("en", "English"), ("fi", "Finnish")):
        for place, variant in enumerate(series):
            found = cell(analysis, variant["id"], code)
            classes = heat_cell(tab, name, place).get_attribute("class").split()
            if found is None:
                assert "gap" in classes
                continue
            mean = found["change"]["mean"]
            assert ("down" if mean < 0 else "up") in classes
            assert f"step-{sum(abs(mean) >= edge for edge in edges)}" in classes
            assert ("same-mark" in classes) == (found["verdict"] == "not distinguishable")
    missing = [one for one in analysis["cells"] if one["perturbation"] == "none"]
    wanted = [one for one in missing if one["variant"] in {row["id"] for row in series}]
    gaps = tab.locator("#heat tbody tr:not(.rows) td:nth-of-type(-n+7).gap").count()
    assert gaps == 7 * 40 - len(wanted) > 0


def test_hovering_shows_the_numbers(tab: Any, analysis: dict[str, Any]) -> None:
    variant = choose(tab, analysis, "multilingual, magnitude, 90 %")
    found = cell(analysis, variant["id"], "yo")
    dense = cell(analysis, variant["dense"], "yo")
    tip = tab.locator("#tip")
    wanted = [
        "Yoruba (yo)",
        f"{shown(found['f1']['mean'])} ({ends(found['f1'])})",
        f"{shown(dense['f1']['mean'])} ({ends(dense['f1'])})",
        f"{shown(found['change']['mean'], True)} ({ends(found['change'], True)})",
        found["verdict"],
        "over 3 seeds",
    ]
    target = heat_cell(tab, "Yoruba", 4)
    target.scroll_into_view_if_needed()
    target.hover()
    for part in wanted:
        assert part in tip.text_content()
    tab.mouse.move(2, 2)
    assert tip.is_hidden()

    point = tab.locator("#size g[role=img][aria-label^='Yoruba:'] .mark")
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for part in ["Yoruba", "fine-tuning sentences: 100", *wanted[1:]]:
        assert part in tip.text_content()


def test_curves_show_the_groups_at_a_sparsity(tab: Any, analysis: dict[str, Any]) -> None:
    rows = {
        row["group"]: row
        for row in analysis["groups"]
        if (row["by"], row["perturbation"], row["variant"]) == ("resource", "none", 8)
    }
    assert analysis["variants"][8]["label"] == "multilingual, magnitude, 98 %"
    panel = tab.locator("#curves [role=slider]").first
    panel.scroll_into_view_if_needed()
    box = panel.bounding_box()
    tab.mouse.move(box["x"] + box["width"] - 12, box["y"] + 50)
    found = tab.locator("#tip").text_content()
    assert "98\xa0% sparsity" in found
    for group, row in rows.items():
        assert f"{group}{shown(row['f1']['mean'])} ({ends(row['f1'])})" in found
        assert shown(row["change"]["mean"], True) in found
    # By script there are too many groups for lines in one panel: each gets its own.
    tab.locator("input[name=by][value=script]").check()
    scripts = {one["script"] for one in analysis["languages"]}
    assert set(tab.locator("#curves h3 bdi").all_text_contents()) == scripts
    tab.locator("input[name=curves-series]").nth(1).uncheck()
    assert tab.locator("#curves-legend span").count() == 1
    assert tab.locator("#heat thead .over").count() == 1


def test_numbers_of_a_figure_are_a_table(tab: Any, analysis: dict[str, Any]) -> None:
    tab.locator("#curves-numbers summary").click()
    rows = tab.locator("#curves-numbers tbody tr")
    groups = {one["resource"] for one in analysis["languages"]}
    assert rows.count() == 2 * len(groups) * 8  # two series of seven sparsities and dense
    found = next(
        row
        for row in analysis["groups"]
        if (row["by"], row["perturbation"], row["variant"]) == ("resource", "none", 8)
    )
    texts = [row.replace("\xa0", " ") for row in rows.all_inner_texts()]
    wanted = [found["group"], "98 %", shown(found["f1"]["mean"]), ends(found["f1"])]
    assert any(all(part in row.split("\t") for part in wanted) for row in texts)


def test_goes_without_a_pointer(tab: Any, analysis: dict[str, Any]) -> None:
    tip = tab.locator("#tip")
    slider = tab.locator("#curves [role=slider]").first
    tab.keyboard.press("Tab")  # from now on the focus is the keyboard's
    assert tab.evaluate("document.activeElement.className") == "skip"
    slider.focus()
    assert tip.is_visible() and slider.get_attribute("aria-valuetext").startswith("98\xa0%")
    tab.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext").startswith("95\xa0% sparsity; 100 or fewer: F1")
    tab.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext").startswith("dense")
    tab.keyboard.press("Escape")
    assert tip.is_hidden()

    grid = tab.locator("#heat [tabindex='0']")
    assert grid.count() == 1
    grid.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowDown", "End"):
        tab.keyboard.press(key)
    assert grid.count() == 1
    first = tab.locator("#heat tbody tr:not(.rows)").nth(1)
    assert first.locator("td").last.evaluate("(cell) => cell === document.activeElement")
    assert first.locator("th").inner_text() in tip.inner_text()
    tab.keyboard.press("Control+End")
    tab.wait_for_timeout(100)  # it is scrolled to, and the tooltip with it
    assert tip.is_visible()
    last = tab.locator("#heat tbody tr").last
    assert last.locator("th").inner_text() in tip.inner_text()

    points = tab.locator("#size g[tabindex='0']")
    assert points.count() == 1
    points.focus()
    before = points.get_attribute("aria-label")
    tab.keyboard.press("ArrowRight")
    assert points.count() == 1 and points.get_attribute("aria-label") != before
    assert tip.is_visible()

    heading = tab.locator("#table thead th").nth(4)
    heading.locator("button").focus()
    tab.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    tab.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    assert heading.locator("button").evaluate("(one) => one === document.activeElement")


def test_changed_text_and_monolingual_models(tab: Any, analysis: dict[str, Any]) -> None:
    assert tab.locator("#robust svg").count() == 2
    assert tab.locator("#robust-legend span").count() == 3
    assert "text as it is" in tab.locator("#robust-legend").text_content()
    assert tab.locator("#mono svg").count() == 2
    tab.locator("#text").select_option("script")
    variant = choose(tab, analysis, "multilingual, movement, 95 %")
    found = dict(zip(codes_in_table(tab), column(tab, 3), strict=True))
    for code, f1 in found.items():
        row = cell(analysis, variant["id"], code, "script")
        assert f1 == (shown(row["f1"]["mean"]) if row else "–")


def test_layers_are_those_of_the_variant(tab: Any, analysis: dict[str, Any]) -> None:
    variant = choose(tab, analysis, "multilingual, movement, 90 %")
    rows = tab.locator("#layers tbody tr")
    assert rows.count() == 12
    expected = [
        f"{100 * row['sparsity']:.1f}"
        for row in analysis["layers"]
        if (row["variant"], row["layer"]) == (variant["id"], 3)
    ]
    assert rows.nth(3).locator("td").all_text_contents() == expected
    choose(tab, analysis, "multilingual, dense")
    assert "No sparsity" in tab.locator("#layers").text_content()


def test_a_variant_can_be_chosen_in_the_overview(tab: Any, analysis: dict[str, Any]) -> None:
    assert tab.locator("#overview tbody tr").count() == len(analysis["variants"])
    tab.locator("#overview tbody button").nth(5).click()
    label = analysis["variants"][5]["label"].replace(" %", "\xa0%")
    assert tab.locator("#table-shown").text_content().lower().startswith(label)
    assert tab.locator("#variant").input_value() == "5"
    correlation = next(
        row for row in analysis["correlations"] if (row["variant"], row["with"]) == (5, "train")
    )
    assert f"sentences: {correlation['rho']:.2f}" in tab.locator("#size-finding").text_content()


def test_light_and_dark(show: Open, few: list[Language]) -> None:
    analysis = invented_analysis.analysis(few, curves=(Curve(),))

    def ground(tab: Any) -> Any:
        return tab.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = show(analysis), show(analysis, color_scheme="dark")
    white, black = ground(light), ground(dark)
    assert (white, black) == ("rgb(255, 255, 255)", "rgb(21, 23, 26)")
    for tab, other in ((light, black), (dark, white)):
        before, toggle = ground(tab), tab.locator("#theme")
        pressed = toggle.get_attribute("aria-pressed")
        toggle.click()
        assert ground(tab) == other and toggle.get_attribute("aria-pressed") != pressed
        tab.reload()  # nothing is remembered
        assert ground(tab) == before
        assert tab.context.cookies() == []


def luminance(color: str) -> float:
    linear = []
    for place in (1, 3, 5):
        part = int(color[place : place + 2], 16) / 255
        linear.append(part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """WCAG 2.1, of two colours #rrggbb."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_read(analysis: dict[str, Any]) -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", page(analysis))
    assert len(found) > 20
    for theme in (0, 1):
        color = {name: pair[theme] for name, *pair in found}
        for ground in ("page", "panel"):
            for ink in ("text", "muted", "accent", "lower", "higher"):
                assert contrast(color[ink], color[ground]) >= 4.5, (theme, ink, ground)
            for line in range(8):
                assert contrast(color[f"line-{line}"], color[ground]) >= 3, (theme, line)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_in_the_heat_map_can_be_read(show: Open, few: list[Language], scheme: str) -> None:
    tab = show(invented_analysis.analysis(few, curves=(Curve(),)), color_scheme=scheme)
    read = """(side, step) => {
        const cell = document.createElement("td");
        cell.className = `${side} step-${step}`;
        document.querySelector("#heat tbody tr").append(cell);
        const style = getComputedStyle(cell);
        const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
        return [style.backgroundColor, style.color].map((color) => {
            paint.fillStyle = color;
            paint.fillRect(0, 0, 1, 1);
            return "#" + [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3)
                .map((part) => part.toString(16).padStart(2, "0")).join("");
        });
    }"""
    grounds = []
    for side in ("down", "up"):
        for step in range(8):
            ground, ink = tab.evaluate(f"([side, step]) => ({read})(side, step)", [side, step])
            assert contrast(ground, ink) >= 4.5, (side, step, ground, ink)
            grounds.append(ground)
    assert len(set(grounds)) == 15  # the middle is the same on both sides


def test_on_paper(show: Open, analysis: dict[str, Any]) -> None:
    many = analysis | {"notes": [f"note {number}" for number in range(12)]}
    tab = show(many, color_scheme="dark")
    assert not tab.get_by_text("note 11").is_visible()
    tab.emulate_media(media="print", color_scheme="dark")
    for control in (".bar", "#theme", "#order", "#curves-by", "#curves-numbers"):
        assert not tab.locator(control).is_visible(), control
    colors = "getComputedStyle(document.body)"
    assert tab.evaluate(f"{colors}.backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate(f"{colors}.color") == "rgb(0, 0, 0)"
    assert tab.get_by_text("note 11").is_visible()
    assert not tab.locator(".notes summary").is_visible()
    assert tab.locator(".runs tbody tr").first.is_visible()
    for part in ("#curves svg", "#heat", "#size svg", "#layers", "#robust svg", "#mono svg"):
        assert tab.locator(part).first.is_visible(), part
    heading = tab.locator("#table thead th").nth(3)
    assert heading.inner_text().strip() == "F1"
    assert tab.locator("#heat td:not(.gap) .value").first.bounding_box()["width"] > 5
    assert len(tab.pdf(format="A4")) > 10_000


def test_is_there_without_a_script(show: Open, analysis: dict[str, Any]) -> None:
    tab, scripted = show(analysis, java_script_enabled=False), show(analysis)
    assert tab.locator(".notice").is_visible()
    assert not any(one.is_visible() for one in tab.locator(".script").all())
    assert tab.locator("p.lead").is_visible()
    assert tab.locator(".notes li").first.inner_text() == analysis["notes"][0]

    def texts(which: Any) -> list[list[str]]:
        script = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
        found: list[list[str]] = which.locator("#table tbody tr").evaluate_all(script)
        return found

    # What Python wrote is what the script draws.
    assert len(texts(tab)) == 40 and texts(tab) == texts(scripted)
    assert tab.locator("#overview tbody tr").count() == len(analysis["variants"])


def hostile(few: list[Language]) -> dict[str, Any]:
    named = [
        Language(f"{name}{number}", name, name, name, name, wikiann_train=10 ** (number % 5))
        for number, name in enumerate(HOSTILE)
    ]
    curves = (Curve(extra=HOSTILE[0]), Curve("movement", extra=HOSTILE[0]))
    found = invented_analysis.analysis([*few, *named], curves, (0.5, 0.9), ("script",))
    found |= {"title": HOSTILE[2], "notes": list(HOSTILE), "data": list(HOSTILE)}
    for run, name in zip(found["runs"], HOSTILE * 9, strict=False):
        run["name"] = name
    return found


@pytest.mark.parametrize("width", [400, 1280])
def test_names_are_never_markup(show: Open, few: list[Language], width: int) -> None:
    found = hostile(few)
    tab = show(found, viewport={"width": width, "height": 800})
    assert tab.evaluate("window.hit") is None and tab.locator("img").count() == 0
    assert tab.locator("#table tbody tr").count() == len(found["languages"])
    names = tab.locator("#table tbody th > bdi").all_text_contents()
    assert sorted(names) == sorted(text.clean(one["name"]) for one in found["languages"])
    assert tab.title().strip() == HOSTILE[2]
    for name in HOSTILE:
        assert text.clean(name).strip() in tab.locator(".notes").text_content()
    tab.locator("#filter-script").select_option(label="constructor")
    assert tab.locator("#table tbody tr").count() == 1
    tab.get_by_role("button", name="All languages").click()
    for by in ("family", "all", "resource"):
        tab.locator(f"input[name=by][value={by}]").check()
        assert tab.locator("#curves svg").count() > 0
    target = heat_cell(tab, "__proto__", 1)
    target.scroll_into_view_if_needed()
    target.hover()
    assert "__proto__" in tab.locator("#tip").text_content()
    tab.locator(".runs summary").click()
    assert HOSTILE[0] in tab.locator(".runs tbody").text_content()
    room = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert room == [width, width]


def test_fits_a_narrow_window(show: Open, analysis: dict[str, Any]) -> None:
    tab = show(analysis, viewport={"width": 400, "height": 800})
    room = "[document.documentElement.scrollWidth, innerWidth]"
    assert tab.evaluate(room) == [400, 400]
    for summary in tab.locator("summary").all():
        summary.click()
    for box in tab.locator("input[name=curves-series]").all():
        box.check()
    tab.locator("#heat-show").check()
    assert tab.evaluate(room) == [400, 400]
    tab.set_viewport_size({"width": 900, "height": 800})
    tab.wait_for_function("document.querySelector('#curves svg').clientWidth > 400")


@pytest.mark.parametrize(
    "what", ["nothing", "only dense", "no dense", "one seed", "one language", "no changed text"]
)
def test_shows_what_little_there_is(show: Open, few: list[Language], what: str) -> None:
    curves = (Curve(),)
    if what == "one seed":
        found = invented_analysis.analysis(few, curves, seeds=1)
    elif what == "one language":
        found = invented_analysis.analysis(few[:1], curves)
    elif what == "no changed text":
        found = invented_analysis.analysis(few, curves, texts=())
    else:
        found = copy.deepcopy(invented_analysis.analysis(few, curves))
    of_variant = ("runs", "variants", "cells", "groups", "summary", "correlations", "layers")
    if what == "nothing":
        found |= {key: [] for key in (*of_variant, "languages", "series", "thresholds", "notes")}
    if what == "only dense":
        for key in of_variant:
            mine = "id" if key == "variants" else "variant"
            found[key] = [row for row in found[key] if row[mine] == 0]
        found |= {"series": [], "thresholds": []}
    if what == "no dense":
        for key in of_variant:
            mine = "id" if key == "variants" else "variant"
            found[key] = [row for row in found[key] if row[mine] != 0]
        for row in [*found["variants"], *found["cells"], *found["groups"]]:
            row |= {"dense": None, "change": None, "verdict": None}
        found["correlations"] = []
    tab = show(found)
    lead = tab.locator("p.lead").text_content()
    assert {
        "nothing": "no run with results",
        "only dense": "F1 without pruning is",
        "no dense": "no dense run to compare with",
        "one seed": "there is no interval",
    }.get(what, "points of F1") in lead
    assert tab.locator("#table tbody tr").count() == len(found["languages"])
    assert tab.locator("#robust-section").is_visible() == (
        what not in ("nothing", "no changed text")
    )
    assert not tab.locator("#mono-section").is_visible()
    if what == "one seed":
        assert tab.locator("#heat td.unsure-mark").count() > 0
        assert tab.locator("#table tbody tr .verdict").first.inner_text().endswith("no interval")
