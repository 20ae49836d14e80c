"""The table of languages, a user's own, and the groups they fall into."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest
import yaml

from sparsejax.data import languages
from sparsejax.data.languages import (
    GROUPINGS,
    LANGUAGES,
    RESOURCES,
    XTREME,
    Language,
    lookup,
    table,
)
from sparsejax.errors import UserError


def test_as_the_file_says(shared: Path) -> None:
    with open(shared / "data" / "languages.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = {
        row["code"]: Language(
            *(row[key] for key in ("code", "name", "family", "branch", "script")),
            wikiann_train=int(row["wikiann_train"]),
            wikipedia_bytes=int(row["wikipedia_bytes_2020"]),
            in_mbert={"y": True, "n": False}[row["in_mbert"]],
        )
        for row in rows
    }
    assert expected == LANGUAGES
    assert list(LANGUAGES) == [row["code"] for row in rows]


def test_the_forty() -> None:
    assert len(LANGUAGES) == 40 and tuple(LANGUAGES) == XTREME == tuple(sorted(XTREME))
    assert all(language.code == code for code, language in LANGUAGES.items())
    assert len({language.name for language in LANGUAGES.values()}) == 40
    assert lookup(LANGUAGES, "sw") == Language(
        "sw", "Swahili", "Niger-Congo", "Bantu", "Latn", 1_000, 35_200_761, True
    )


def test_unknown_language() -> None:
    assert lookup(LANGUAGES, "tlh") == Language(
        "tlh", "", "unknown", "unknown", "unknown", None, None, None
    )
    assert {group(lookup(LANGUAGES, "tlh")) for group in GROUPINGS.values()} == {"unknown"}


# ---- groups


@pytest.mark.parametrize(
    ("sentences", "group"),
    [
        (None, "unknown"),
        (0, "100 or fewer"),
        (100, "100 or fewer"),
        (101, "101 to 5,000"),
        (5_000, "101 to 5,000"),
        (5_001, "5,001 to 15,000"),
        (15_000, "5,001 to 15,000"),
        (15_001, "over 15,000"),
        (10**12, "over 15,000"),
    ],
)
def test_resource_groups(sentences: int | None, group: str) -> None:
    assert GROUPINGS["resource"](Language("xx", wikiann_train=sentences)) == group


def test_sorted_groups_are_in_order() -> None:
    names = [name for _, name in RESOURCES]
    assert sorted([*names, "unknown"]) == [*names, "unknown"]


def test_groups_of_the_forty() -> None:
    sizes = {name: Counter(map(group, LANGUAGES.values())) for name, group in GROUPINGS.items()}
    assert sizes["resource"] == {
        "100 or fewer": 3,
        "101 to 5,000": 6,
        "5,001 to 15,000": 7,
        "over 15,000": 24,
    }
    assert sizes["script"]["Latn"] == 20 and sizes["script"]["Arab"] == 3
    assert sizes["family"]["Indo-European"] == 16 and sizes["family"]["Isolate"] == 1


# ---- a user's file


def write(path: Path, content: str | bytes) -> Path:
    file = path / "languages.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_no_file() -> None:
    assert table() == table(None) == LANGUAGES
    assert table() is not LANGUAGES  # the caller may add to it


def test_a_file(tmp_path: Path) -> None:
    content = """\
no: {name: Norwegian, family: Indo-European, branch: Germanic, script: Latn,
     wikiann_train: 20000, wikipedia_bytes: 1000000000, in_mbert: yes}
gsw:
  name: "Swiss German"
  in_mbert: false
tlh: {}
sw: {wikiann_train: 0, branch: null, wikipedia_bytes: ~}
"""
    found = table(str(write(tmp_path, content)))
    assert list(found) == [*XTREME, "no", "gsw", "tlh"]
    assert found["no"] == Language(
        "no", "Norwegian", "Indo-European", "Germanic", "Latn", 20_000, 1_000_000_000, True
    )
    assert found["gsw"] == Language("gsw", "Swiss German", in_mbert=False)
    assert found["tlh"] == Language("tlh")
    assert found["sw"] == LANGUAGES["sw"]._replace(
        wikiann_train=0, branch="unknown", wikipedia_bytes=None
    )
    assert {code: found[code] for code in XTREME if code != "sw"} == {
        code: language for code, language in LANGUAGES.items() if code != "sw"
    }


@pytest.mark.parametrize("code", ["no", "No", "on", "off", "yes", "y", "n", "null", "12", "1e3"])
def test_codes_are_text(tmp_path: Path, code: str) -> None:
    for written in (code, f'"{code}"', f"? {code}\n"):
        found = table(write(tmp_path, f"{written}: {{script: Latn}}"))
        assert found[code] == Language(code, script="Latn") and len(found) == 41


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "null", "{}", "\ufeff{}", "---\n"])
def test_an_empty_file(tmp_path: Path, content: str) -> None:
    assert table(write(tmp_path, content)) == LANGUAGES


def test_what_yaml_writes_is_read(tmp_path: Path) -> None:
    facts = {"no": {"family": "yes", "name": "名", "wikiann_train": 5, "in_mbert": True}}
    assert table(write(tmp_path, yaml.safe_dump(facts)))["no"] == Language(
        "no", "名", "yes", wikiann_train=5, in_mbert=True
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("just text", ", line 1: the file is not a mapping of codes to facts"),
        ("[en, de]", ", line 1: the file is not a mapping of codes to facts"),
        ("\n- en: {}", ", line 2: the file is not a mapping of codes to facts"),
        ("no: Norwegian", ", line 1: no is not a mapping of facts to values"),
        ("sv: {}\nno:\n", ", line 2: no is not a mapping of facts to values"),
        ("no: []", ", line 1: no is not a mapping of facts to values"),
        ("no: {}\nno: {}", ", line 2: the file: 'no' is there twice; keep one"),
        ('"no": {}\nsv: {}\nno: {}', ", line 3: the file: 'no' is there twice; keep one"),
        ("../no: {}", ", line 1: '../no' is not a language code (letters, digits, - and _)"),
        ('"no\\n": {}', ", line 1: 'no\\n' is not a language code"),
        ('"": {}', ", line 1: '' is not a language code"),
        ("é: {}", ", line 1: 'é' is not a language code"),
        ("~: {}", ", line 1: '~' is not a language code"),
        ("[no]: {}", ", line 1: the file: a key is not text"),
        ("no: {? [a] : b}", ", line 1: no: a key is not text"),
        (
            "no:\n  famly: Indo-European",
            ", line 2: no: unknown key 'famly'; the keys are name, family, branch, script, "
            "wikiann_train, wikipedia_bytes, in_mbert",
        ),
        ("no: {code: nb}", ", line 1: no: unknown key 'code'"),
        ("a: &a {name: A}\nb: {<<: *a}", ", line 2: b: unknown key '<<'"),
        ("no: {name: A,\n  name: B}", ", line 2: no: 'name' is there twice; keep one"),
        ("no: {name: No}", ", line 1: no: name: False is not text (quote it in YAML)"),
        ("no: {script: 1}", ", line 1: no: script: 1 is not text (quote it in YAML)"),
        ("no: {family: [a, b]}", ", line 1: no: family: ['a', 'b'] is not text"),
        ("no: {branch: ' '}", ", line 1: no: branch: ' ' is not text"),
        ("no: {wikiann_train: true}", ", line 1: no: wikiann_train: True is not a whole number"),
        ("no: {wikiann_train: 1.5}", ", line 1: no: wikiann_train: 1.5 is not a whole number"),
        ("no: {wikiann_train: '5'}", ", line 1: no: wikiann_train: '5' is not a whole number"),
        ("no: {wikiann_train: -1}", ", line 1: no: wikiann_train: -1 is not a whole number from 0"),
        ("no: {wikipedia_bytes: {}}", ", line 1: no: wikipedia_bytes: {} is not a whole number"),
        ("no:\n\n  in_mbert: 1", ", line 3: no: in_mbert: 1 is not true or false"),
        ("no: {in_mbert: y}", ", line 1: no: in_mbert: 'y' is not true or false"),
        ("no: {name: &n [*n]}", ", line 1: found unconstructable recursive node"),
        ("no: {name: !!python/name:os.system }", ", line 1: could not determine a constructor"),
        ("no: {name: 2001-13-45}", ": is not YAML: month must be in 1..12"),
        ("no: {name: A", ", line 1: while parsing a flow mapping"),
        ("no: {}\n\tsv: {}", ", line 2: while scanning"),
        ("no: {}\n---\nsv: {}", ", line 2: expected a single document"),
        ("no: {name: *missing}", ", line 1: found undefined alias"),
        ("no: {name: '\x00'}", ": is not YAML: unacceptable character"),
        (b"no: {name: \xff}", ": is not YAML: 'utf-8' codec can't decode"),
        ("[" * 5000, ": is not YAML: "),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError) as raised:
        table(str(path))
    said = str(raised.value)
    assert said.startswith(f"{path}{message}"), said
    assert said.isprintable() and len(said) < len(str(path)) + 200


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    for path, why in ((missing, "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=f"^{path}: cannot be read: {why}$"):
            table(os.fspath(path))


def test_a_long_value_is_cut_short(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        table(write(tmp_path, f"no: {{in_mbert: {'x' * 1000}}}"))
    assert len(str(raised.value)) < len(str(tmp_path)) + 150


def test_nothing_of_the_table_changes(tmp_path: Path) -> None:
    before = dict(LANGUAGES)
    table(write(tmp_path, "en: {name: Anglish}"))["de"] = Language("de")
    assert before == LANGUAGES == languages.LANGUAGES
