"""The numbers that archfind ends with."""

from __future__ import annotations

EXIT_EXACT, EXIT_ANSWERED, EXIT_FAILED, EXIT_DANGER, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
EXIT_PARTIAL = 4
EXIT_CODES = """exit codes: 0 exact, certain, or done; 1 answered, but not exact; 2 refused or
failed, also where standard output is full or nobody reads it any more; 3 dangerous, with
--fail-on-danger; 4 a source that is partial; 130 interrupted. A signal such as SIGTERM ends
archfind as it ends any program (128 and its number)."""
