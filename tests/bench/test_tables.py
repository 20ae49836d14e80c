"""The page of benchmarks has the figures of the JSON files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_page_is_that_of_the_files() -> None:
    line = [sys.executable, str(REPOSITORY / "bench/tables.py"), "--check"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_table_says_how_it_was_made() -> None:
    page = (REPOSITORY / "docs/benchmarks.md").read_text("utf-8")
    commands = "".join(re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL))
    names = re.findall(r"<!-- (\S+\.json) -->", page)
    assert len(names) > 5
    for name in names:
        # What bench/on_gpu.sh writes has no command of its own.
        what = "docs/benchmarks/gpu" if name.startswith("gpu/") else f"--out docs/benchmarks/{name}"
        assert what in commands, name
    for script in re.findall(r"bench/\w+\.(?:py|sh)", commands):
        assert (REPOSITORY / script).is_file()
