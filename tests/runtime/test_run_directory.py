"""Nothing that is there is lost, and nothing is ever half there."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sparsejax.config import Config
from sparsejax.errors import UserError
from sparsejax.runtime import run_directory


def check(path: Path, *inputs: str | None, **config: Any) -> None:
    run_directory.check(Config(output=str(path), **config), inputs)


def claim(config: Config, goes_on: bool = False) -> Path:
    path, log = run_directory.claim(config, goes_on)
    log.close()
    return path


def test_default_names_never_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when runs start in the same second, at the same time."""
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: claim(Config()), range(24)))
    assert len(set(paths)) == 24
    assert all(path.is_dir() and path.parent.name == "runs" for path in paths)


def test_checking_changes_nothing(tmp_path: Path) -> None:
    check(tmp_path / "new")
    run_directory.check(Config(), [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model", "log.txt", "thesis.tex", ".thesis.tex.12"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_what_no_run_left_is_never_removed(tmp_path: Path, name: str, overwrite: bool) -> None:
    """A user's own `model/` has a run's name, but there is no run."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="is not just a run; choose another directory"):
        check(tmp_path, overwrite=overwrite)


def test_a_run_is_replaced_only_when_told_to(tmp_path: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl", ".results.jsonl.123"):
        (tmp_path / name).touch()
    (tmp_path / ".model.77").mkdir()  # what a killed run leaves
    with pytest.raises(UserError, match="already holds a run; pass --overwrite"):
        check(tmp_path)
    check(tmp_path, overwrite=True)
    assert claim(Config(output=str(tmp_path), overwrite=True)) == tmp_path
    assert list(tmp_path.iterdir()) == [tmp_path / "log.txt"]


def test_a_run_does_not_remove_what_it_reads(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="which this run reads"):
        check(tmp_path, None, str(tmp_path / "model"), overwrite=True)
    check(tmp_path, str(tmp_path.parent), overwrite=True)


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(path: Path) -> None:
        (path / "weights").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_directory.write_directory(tmp_path / "model", fill)
    assert list(tmp_path.iterdir()) == []
    run_directory.write_directory(tmp_path / "model", lambda path: (path / "weights").touch())
    assert (tmp_path / "model/weights").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        claim(Config(output=str(tmp_path / "file" / "run")))


def test_a_directory_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        run_directory.write_directory(
            tmp_path / "model", lambda path, name=name: (path / name).touch()
        )
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        "model",
        "model/SHA256SUMS",
        "model/new",
    ]


def test_a_run_goes_on_only_when_told_to(tmp_path: Path) -> None:
    check(tmp_path / "new", resume="auto")
    (tmp_path / ".config.yaml.12").touch()  # killed before there was anything
    check(tmp_path)
    check(tmp_path, resume="auto")
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match="or --resume auto to go on with it"):
        check(tmp_path)
    check(tmp_path, resume="auto")
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds 'thesis.tex'"):
        check(tmp_path, resume="auto")


HOLD = """
import sys
from pathlib import Path
from sparsejax.runtime import run_directory
file = run_directory.lock(Path(sys.argv[1]) / "log.txt")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", [{"overwrite": True}, {"resume": "auto"}])
def test_a_run_that_another_process_trains_is_left_alone(tmp_path: Path, how: Any) -> None:
    (tmp_path / "config.yaml").touch()
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=pipe, stdout=pipe, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is training this run"):
            check(tmp_path, **how)
        other.kill()
    check(tmp_path, **how)  # the lock ends with the process, however it ends


@pytest.mark.parametrize("how", [{"overwrite": True}, {"resume": "auto"}, {}])
def test_two_processes_that_begin_the_same_run(tmp_path: Path, how: Any) -> None:
    """Both have passed the check; only one of them may go on."""
    config = Config(output=str(tmp_path / "run"), **how)
    path, log = run_directory.claim(config, False)
    with log, pytest.raises(UserError, match="another process is training this run"):
        run_directory.claim(config, False)
    (path / "config.yaml").touch()  # and the first one is killed
    if not config.overwrite:
        with pytest.raises(UserError, match="another process has begun a run there"):
            run_directory.claim(config, False)


def test_killed_before_there_was_anything(tmp_path: Path) -> None:
    claim(Config(output=str(tmp_path / "run")))
    check(tmp_path / "run", resume="auto")
    check(tmp_path / "run")
    claim(Config(output=str(tmp_path / "run")))


def test_a_run_that_goes_on_keeps_all_but_what_was_half_written(tmp_path: Path) -> None:
    (tmp_path / ".model.77").mkdir()
    for name in (".results.jsonl.123", "config.yaml", ".mine.12"):
        (tmp_path / name).touch()
    (tmp_path / "log.txt").write_text("before")
    claim(Config(output=str(tmp_path), resume="auto"), True)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".mine.12", "config.yaml", "log.txt"]
    assert (tmp_path / "log.txt").read_text() == "before"
