"""The command line: parses arguments, prints results, and turns errors into exit codes.

Exit codes: 0 done; 2 usage; 3 input refused; 4 model or weights; 5 output exists or cannot be written; 6 memory or disk
short; 7 device; 8 partly done (batch); 9 look closely, 10 not for this network (check); 130 interrupted; 1 internal
error.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from thinslice.errors import ThinsliceError
from thinslice.options import options_as_flags
from thinslice.system.faults import machine_fault
from thinslice.system.resources import require_address_space

EXIT_FAULT = 1
EXIT_INTERRUPTED = 130
_WITHOUT_WORK = frozenset({"--help", "-h", "--version"})


@options_as_flags()
def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: the entry point of `thinslice`.

    Each deliberate error becomes one sentence on stderr and its exit code. A traceback is shown only when
    THINSLICE_DEBUG=1 is set: the values in it may come from patient data.

    Args:
        arguments: command and options, without the program's name; None for those of the process.

    Raises:
        SystemExit: always.
    """
    _open_closed_streams()
    _treat_termination_as_interruption()
    _print_any_name()
    try:
        if not _WITHOUT_WORK.intersection(sys.argv[1:] if arguments is None else arguments):
            require_address_space()
        from typer.main import get_command

        from thinslice.cli.app import app

        code = get_command(app).main(args=arguments, prog_name="thinslice", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        _leave("interrupted; no half-written output is left.", EXIT_INTERRUPTED)
    except ThinsliceError as error:
        _leave(str(error), error.exit_code)
    except BrokenPipeError:
        _leave_closed_pipe()
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # which typer makes exit 1
            _leave_closed_pipe()
        raise
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # the parser's errors, which name the option
            error.show()
            raise SystemExit(error.exit_code) from None
        world = machine_fault(error)
        if world is not None:
            _leave(str(world), world.exit_code)
        _leave(
            f"internal error ({type(error).__name__} at {_place(error)}); please report this line and the command. "
            "THINSLICE_DEBUG=1 shows the details, which may name the patient.",
            EXIT_FAULT,
        )
    if code == EXIT_INTERRUPTED:
        _leave("interrupted; no half-written output is left.", EXIT_INTERRUPTED)
    raise SystemExit(code if isinstance(code, int) else 0)


def _open_closed_streams() -> None:
    """Give a program that was started without standard streams (as by some schedulers) ones that lead nowhere.

    Otherwise the first file that it opens would take their number, and what libraries print would go into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))


def _print_any_name() -> None:
    """Let names print on terminals whose encoding lacks their characters, escaped."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _leave_closed_pipe() -> NoReturn:
    """End well where the reader of the output had enough (thinslice models list | head -1)."""
    # What Python still holds for the pipe would fail again at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    raise SystemExit(0)


def _leave(sentence: str, code: int) -> NoReturn:
    if os.environ.get("THINSLICE_DEBUG") == "1" and code != EXIT_INTERRUPTED:
        import traceback

        traceback.print_exc()
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(code)


def _place(error: BaseException) -> str:
    """The innermost line of this package that the error passed through, as module:line."""
    place = "start"
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.startswith("thinslice"):
            place = f"{module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _treat_termination_as_interruption() -> None:
    """Handle SIGTERM like Ctrl-C: the stack unwinds, so unfinished outputs are removed."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: signals are the caller's choice
        return
