"""What is known of languages: the 40 of XTREME's WikiAnn, and those that a user's file adds.

The 40 and their order: XTREME (Hu et al. 2020, table 1). Training sentences: the splits of WikiAnn
by Rahimi et al. (2019). Bytes: uncompressed Wikipedia text, October 2020 dump. Scripts: ISO 15924.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sparsejax.errors import UserError

UNKNOWN = "unknown"
"""The family, branch, script or group of a language where nobody said which it is."""


class Language(NamedTuple):
    code: str  # ISO 639-1 where there is one
    name: str = ""
    family: str = UNKNOWN
    branch: str = UNKNOWN  # of the family
    script: str = UNKNOWN  # ISO 15924
    wikiann_train: int | None = None  # sentences of WikiAnn's training split
    wikipedia_bytes: int | None = None  # uncompressed Wikipedia text, October 2020 dump
    in_mbert: bool | None = None  # whether multilingual BERT was pretrained on it


_TABLE: tuple[tuple[str, str, str, str, str, int, int], ...] = (
    # code, name, family, branch, script, wikiann_train, wikipedia_bytes; mBERT knows all of them
    ("af", "Afrikaans",  "Indo-European", "Germanic",          "Latn",  5_000,    141_019_864),
    ("ar", "Arabic",     "Afro-Asiatic",  "Semitic",           "Arab", 20_000,  1_579_666_219),
    ("bg", "Bulgarian",  "Indo-European", "Slavic",            "Cyrl", 20_000,    699_761_902),
    ("bn", "Bengali",    "Indo-European", "Indo-Aryan",        "Beng", 10_000,    448_488_802),
    ("de", "German",     "Indo-European", "Germanic",          "Latn", 20_000,  5_985_880_517),
    ("el", "Greek",      "Indo-European", "Hellenic",          "Grek", 20_000,    812_911_811),
    ("en", "English",    "Indo-European", "Germanic",          "Latn", 20_000, 14_204_367_805),
    ("es", "Spanish",    "Indo-European", "Romance",           "Latn", 20_000,  3_730_067_493),
    ("et", "Estonian",   "Uralic",        "Finnic",            "Latn", 15_000,    257_100_139),
    ("eu", "Basque",     "Isolate",       "Basque",            "Latn", 10_000,    305_041_408),
    ("fa", "Persian",    "Indo-European", "Iranian",           "Arab", 20_000,    845_799_865),
    ("fi", "Finnish",    "Uralic",        "Finnic",            "Latn", 20_000,    742_810_069),
    ("fr", "French",     "Indo-European", "Romance",           "Latn", 20_000,  4_419_149_862),
    ("he", "Hebrew",     "Afro-Asiatic",  "Semitic",           "Hebr", 20_000,  1_231_136_100),
    ("hi", "Hindi",      "Indo-European", "Indo-Aryan",        "Deva",  5_000,    377_965_574),
    ("hu", "Hungarian",  "Uralic",        "Ugric",             "Latn", 20_000,    839_257_188),
    ("id", "Indonesian", "Austronesian",  "Malayo-Polynesian", "Latn", 20_000,    606_079_626),
    ("it", "Italian",    "Indo-European", "Romance",           "Latn", 20_000,  3_054_497_555),
    ("ja", "Japanese",   "Japonic",       "Japonic",           "Jpan", 20_000,  3_646_763_214),
    ("jv", "Javanese",   "Austronesian",  "Malayo-Polynesian", "Latn",    100,     38_837_841),
    ("ka", "Georgian",   "Kartvelian",    "Kartvelian",        "Geor", 10_000,    427_451_706),
    ("kk", "Kazakh",     "Turkic",        "Kipchak",           "Cyrl",  1_000,    333_270_089),
    ("ko", "Korean",     "Koreanic",      "Koreanic",          "Kore", 20_000,  1_523_975_318),
    ("ml", "Malayalam",  "Dravidian",     "Dravidian",         "Mlym", 10_000,    280_879_693),
    ("mr", "Marathi",    "Indo-European", "Indo-Aryan",        "Deva",  5_000,    106_582_614),
    ("ms", "Malay",      "Austronesian",  "Malayo-Polynesian", "Latn", 20_000,    245_415_779),
    ("my", "Burmese",    "Sino-Tibetan",  "Lolo-Burmese",      "Mymr",    100,    134_462_171),
    ("nl", "Dutch",      "Indo-European", "Germanic",          "Latn", 20_000,  1_724_520_093),
    ("pt", "Portuguese", "Indo-European", "Romance",           "Latn", 20_000,  1_688_826_833),
    ("ru", "Russian",    "Indo-European", "Slavic",            "Cyrl", 20_000,  6_243_773_662),
    ("sw", "Swahili",    "Niger-Congo",   "Bantu",             "Latn",  1_000,     35_200_761),
    ("ta", "Tamil",      "Dravidian",     "Dravidian",         "Taml", 15_000,    476_998_435),
    ("te", "Telugu",     "Dravidian",     "Dravidian",         "Telu",  1_000,    373_372_758),
    ("th", "Thai",       "Kra-Dai",       "Tai",               "Thai", 20_000,    512_300_259),
    ("tl", "Tagalog",    "Austronesian",  "Malayo-Polynesian", "Latn", 10_000,     48_575_434),
    ("tr", "Turkish",    "Turkic",        "Oghuz",             "Latn", 20_000,    485_534_128),
    ("ur", "Urdu",       "Indo-European", "Indo-Aryan",        "Arab", 20_000,    173_168_928),
    ("vi", "Vietnamese", "Austroasiatic", "Vietic",            "Latn", 20_000,    806_255_874),
    ("yo", "Yoruba",     "Niger-Congo",   "Volta-Niger",       "Latn",    100,      6_426_868),
    ("zh", "Chinese",    "Sino-Tibetan",  "Sinitic",           "Hans", 20_000,  1_550_616_972),
)  # fmt: skip

LANGUAGES: dict[str, Language] = {row[0]: Language(*row, in_mbert=True) for row in _TABLE}
XTREME = tuple(LANGUAGES)


def table(path: str | os.PathLike[str] | None = None) -> dict[str, Language]:
    """The 40 languages, then those of a user's YAML file.

    The file maps codes to facts, each of them optional and named as in `Language`:

        no: {name: Norwegian, family: Indo-European, script: Latn, wikiann_train: 20000}
        sw: {branch: null}

    For a code that is known already only the facts that are given change. null is unknown.

    Raises:
      UserError: names the file, and line, code and key where there are any: a file that cannot be
        read or is not YAML, not a mapping, a code or a key that is repeated or not allowed, a value
        of the wrong type.
    """
    return LANGUAGES | ({} if path is None else _read(path))


def lookup(languages: Mapping[str, Language], code: str) -> Language:
    """A language by its code; one of which nothing is known if the code is not there."""
    return languages.get(code) or Language(code)


RESOURCES = (
    (100, "100 or fewer"),
    (5_000, "101 to 5,000"),
    (15_000, "5,001 to 15,000"),
    (math.inf, "over 15,000"),
)
"""Most training sentences of a group, and its name; sorted, the names keep their order.

The bounds are this project's choice, no one else's.
"""


def resource_group(language: Language) -> str:
    """How much WikiAnn has to train on, by number of sentences; the names are in `RESOURCES`."""
    if language.wikiann_train is None:
        return UNKNOWN
    return next(name for most, name in RESOURCES if language.wikiann_train <= most)


GROUPINGS: dict[str, Callable[[Language], str]] = {
    "resource": resource_group,
    "script": lambda language: language.script,
    "family": lambda language: language.family,
}
"""Ways to put languages into groups: a function from a language to the name of its group."""


def _read(path: str | os.PathLike[str]) -> dict[str, Language]:
    try:
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
        root = loader.get_single_node()
        if root is None or root.tag == "tag:yaml.org,2002:null":  # an empty file
            return {}
        return dict(_languages(path, root, loader))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise UserError(f"{path}{line}: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # not UTF-8, no such date, ...
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return type(value) is int and value >= 0  # not isinstance: True is an int


# The keys of a language's facts: which values they may have, and the same in words.
_FACTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("name", "family", "branch", "script"), (_is_text, "text (quote it in YAML)")),
    **dict.fromkeys(("wikiann_train", "wikipedia_bytes"), (_is_number, "a whole number from 0 on")),
    "in_mbert": (lambda value: isinstance(value, bool), "true or false"),
}


def _languages(
    path: str | os.PathLike[str], root: yaml.Node, loader: yaml.SafeLoader
) -> Iterator[tuple[str, Language]]:
    for at, code, facts in _pairs(path, root, "the file", "codes to facts"):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", code):
            raise UserError(f"{at}: {code!r:.60} is not a language code (letters, digits, - and _)")
        language = LANGUAGES.get(code) or Language(code)
        for at_key, key, node in _pairs(path, facts, code, "facts to values"):
            if key not in _FACTS:
                known = ", ".join(_FACTS)
                raise UserError(f"{at_key}: {code}: unknown key {key!r:.60}; the keys are {known}")
            allowed, what = _FACTS[key]
            value: Any = loader.construct_object(node, deep=True)
            if value is None:
                value = Language._field_defaults[key]
            elif not allowed(value):
                raise UserError(f"{at_key}: {code}: {key}: {value!r:.60} is not {what}")
            language = language._replace(**{key: value})
        yield code, language


def _pairs(
    path: str | os.PathLike[str], node: yaml.Node, owner: str, what: str
) -> Iterator[tuple[str, str, yaml.Node]]:
    """(file and line, key, value) of a mapping, each key as it is written.

    Constructed, the key `no`, Norwegian, would be False, and of a repeated key the last would win.
    """
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        raise UserError(f"{path}, line {line}: {owner} is not a mapping of {what}")
    seen: set[str] = set()
    for key, value in node.value:
        at = f"{path}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{at}: {owner}: a key is not text")
        if key.value in seen:
            raise UserError(f"{at}: {owner}: {key.value!r:.60} is there twice; keep one")
        seen.add(key.value)
        yield at, key.value, value
