"""The command line: `patternc check | fmt | show | explain | compile | verify | bench | list | doctor`.

Exit status: 0 clean or warnings only, 1 an error in a program or a failed check, 2 a call that was wrong or could not
be carried out, 130 interrupted.
"""

from __future__ import annotations

import sys
from types import TracebackType

from patternc.cli.group import patternc as commands


def main() -> None:
    """The entry point: runs `sys.argv` and exits."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Unicode gets question marks
    sys.excepthook = _report_defect
    try:
        commands.main(prog_name="patternc")
    except KeyboardInterrupt:
        sys.exit(130)


def _report_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """One line instead of a traceback for what can only be a mistake of this package."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    first = next(iter(str(error).splitlines()), "")
    print(f"internal error{place}: {kind.__name__}: {first}; please report it", file=sys.stderr)
