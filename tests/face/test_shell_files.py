"""Completions and the man page are what the parser would give today, and shells take them."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from archfind.cli import main
from archfind.cli.parser import COMMANDS
from archfind.cli.shell import FILES

pytestmark = pytest.mark.light

ROOT = Path(__file__).parents[2]
SHELL = ROOT / "archfind" / "cli" / "shell"


def test_shell_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    made = runpy.run_path(str(ROOT / ".ci" / "shell_files.py"))["texts"]()
    for name, file in FILES.items():
        assert (SHELL / file).read_text() == made[name], "run: uv run python .ci/shell_files.py"
        assert main(["completion", name]) == 0
        assert capsys.readouterr().out.rstrip() == made[name].rstrip()
        assert all(command in made[name] for command in COMMANDS)


@pytest.mark.skipif(shutil.which("bash") is None, reason="has no bash")
def test_bash_completes_a_command_and_an_option() -> None:
    script = f"""source {SHELL / "archfind.bash"}
complete_words() {{
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    "$(complete -p archfind | sed 's/.*-F \\([^ ]*\\).*/\\1/')" archfind "${{@: -1}}" "${{@: -2:1}}"
    echo "${{COMPREPLY[@]}}"
}}
complete_words archfind ins
complete_words archfind export --accept-a"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["inspect", "--accept-ambiguous"], done.stderr
