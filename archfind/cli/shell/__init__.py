"""What shells complete, and the man page: files that `.ci/shell_files.py` makes of the parser."""

from __future__ import annotations

FILES = {"bash": "archfind.bash", "zsh": "_archfind", "tcsh": "archfind.tcsh", "man": "archfind.1"}
