"""Help pages that no terminal cuts, and answers to options and commands that do not exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from thinslice.cli.typed import mistake
from thinslice.errors import UnreadableError

UsageError: Any = typer.BadParameter.__mro__[1]
"""The parser's own error about the command line; typer publishes only this child of it."""

TYPE_WORDS = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "int range": "NUMBER", "float range": "NUMBER"}
"""Words for the types of Python; other types are shown in capitals."""

_SEVERAL_WORDS = re.compile(r"^\[(\S+ .+)\]\.\.\.$")
"""An argument that stands for several, such as "INPUT... OUTPUT"."""

WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?) ?[A-Za-z]+")
"""A number with its unit, as in 1mm."""

BELOW = re.compile(r"Input should be greater than or equal to (\S+)")
ABOVE = re.compile(r"Input should be less than or equal to (\S+)")
"""What the parser answers to a number outside its range."""

DECIMAL_COMMA = re.compile(r"([-+]?\d+),(\d+)")
"""A number as many languages write it."""

HABITS = {
    "-o": ("--output", "--out"),
    "--output": ("--out",),
    "--out": ("--output",),
    "--out-dir": ("--output", "--out"),
    "--outdir": ("--output", "--out"),
    "-m": ("--model",),
    "--weights": ("--model",),
    "-d": ("--device",),
    "-s": ("--series", "--spacing"),
    "--slice-thickness": ("--spacing",),
    "--thickness": ("--spacing",),
    "-f": ("--overwrite", "--force"),
    "-y": ("--overwrite",),
    "--yes": ("--overwrite",),
    "-j": ("--threads",),
    "--jobs": ("--threads",),
    "--workers": ("--threads",),
    "--gpu": ("--device cuda",),
    "--cuda": ("--device cuda",),
    "--cpu": ("--device cpu",),
    "-r": ("--all",),
    "--recursive": ("--all",),
    "--batch": ("--all",),
}
"""Options of other programs, and the options here that do the same; the first that a command has is suggested."""

COMMANDS = {
    "version": "thinslice --version",
    "run": "thinslice upscale INPUT OUTPUT",
    "infer": "thinslice upscale INPUT OUTPUT",
    "predict": "thinslice upscale INPUT OUTPUT",
    "convert-dicom": "thinslice upscale INPUT OUTPUT",
    "info": "thinslice inspect PATH",
    "ls": "thinslice inspect PATH",
    "scan": "thinslice inspect PATH",
    "list": "thinslice inspect PATH, or thinslice models list",
    "batch": "thinslice upscale FOLDER OUT --all",
}
"""Commands of other programs, and what does the same here."""

WITHOUT_OPTION = {
    "-i": "The input is given without an option",
    "--input": "The input is given without an option",
    "-v": "There is no verbose mode: notes are printed unless --quiet is given, and --version belongs to thinslice",
    "--verbose": "There is no verbose mode: notes are printed unless --quiet is given",
    "--version": "The version is printed by thinslice --version",
}
"""Options of other programs that have no counterpart, and what to do instead."""


def suggestion(unknown: str, known: list[str]) -> str:
    """The option that was probably meant, as a sentence; "" when there is none.

    >>> suggestion("--ouput", ["--output", "--model"])
    'Did you mean --output?'
    >>> suggestion("-j", ["--threads"])
    'Did you mean --threads?'
    """
    for habit in HABITS.get(unknown, ()):
        if habit.split()[0] in known:
            return f"Did you mean {habit}?"
    if unknown in WITHOUT_OPTION:
        return f"{WITHOUT_OPTION[unknown]}."
    near = get_close_matches(unknown, known, n=2)
    return f"Did you mean {' or '.join(near)}?" if near else ""


@contextmanager
def _suggestions(command: Any, ctx: Any, args: list[str]) -> Iterator[None]:
    """Errors of parsing inside are completed by the option that was meant."""
    try:
        yield
    except UsageError as error:
        _complete(error, command, ctx, args)
        raise


class Command(TyperCommand):
    """A command whose help uses words for types, and whose errors suggest the option that was meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and complete the message about an unknown option; what cannot mean what it says is refused before."""
        options: list[Any] = [each for each in self.get_params(ctx) if each.param_type_name == "option"]
        names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
        valued = {name for option in options if not (option.is_flag or option.count) for name in option.opts}
        found = mistake(args, valued, names)
        if found:
            raise UsageError(found, ctx=ctx)
        with _suggestions(self, ctx, list(args)):
            return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The usage line, with required arguments as plain words."""
        pieces = [re.sub(r"[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]
        return [_SEVERAL_WORDS.sub(r"\1", piece).replace("......", "...") for piece in pieces]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments and options, each with its type as a word."""
        _write_parameters(self, ctx, formatter)


class Group(TyperGroup):
    """A group whose list of commands is not cut, and whose errors name the command that was meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and complete the message about an unknown option."""
        with _suggestions(self, ctx, list(args)):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command; for one that does not exist, the nearest one or the one that takes a path."""
        try:
            return super().resolve_command(ctx, args)
        except UsageError as error:
            if "Did you mean" not in error.message:
                path = re.search(r"[/\\.]", args[0]) is not None
                instead = f"thinslice upscale {shlex.quote(args[0])} OUTPUT" if path else f"{ctx.command_path} --help"
                error.message += f" Try: {COMMANDS.get(args[0], instead)}"
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options, then the commands."""
        _write_parameters(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each command with the whole first sentence of its help."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, _first_sentence(command)) for name, command in commands if command and not command.hidden]
            )


def _first_sentence(command: Any) -> str:
    text = " ".join((command.short_help or command.help or "").split("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".") + "."


def _about_number(error: Any, args: list[str]) -> str:
    """The message about a value that is no number; the parser's own does not show the value."""
    names = tuple(getattr(error.param, "opts", ()))
    typed = [after for before, after in pairwise(args) if before in names]
    typed += [each.partition("=")[2] for each in args if each.partition("=")[0] in names and "=" in each]
    kind = "whole number" if "valid integer" in error.message else "number"
    for value in typed:
        comma = DECIMAL_COMMA.fullmatch(value)
        if comma is not None and kind == "number":
            return f"{value!r} is no number: write it with a decimal point, {comma[1]}.{comma[2]}."
        unit = WITH_UNIT.fullmatch(value)
        if unit is not None:
            return f"{value!r} is no {kind}: write it without a unit, {unit[1]}."
    return f"{typed[-1]!r} is no {kind}." if typed else str(error.message)


def _complete(error: Any, command: Any, ctx: Any, args: list[str]) -> None:
    unknown = getattr(error, "option_name", None)
    if "is not readable" in error.message:
        # The parser examines files first, and would count this as wrong usage.
        what = str(error.message).rstrip(".")
        raise UnreadableError(f"What was given may not be read by you ({what}); check its permissions.")
    if "valid number" in error.message or "valid integer" in error.message:
        error.message = _about_number(error, args)
    if isinstance(error.message, str):
        error.message = BELOW.sub(r"it must be \1 or more", ABOVE.sub(r"it must be \1 at most", error.message))
    if not isinstance(unknown, str) or not hasattr(error, "possibilities"):
        return
    known = [name for parameter in command.get_params(ctx) for name in parameter.opts if name.startswith("-")]
    # The parser takes -factor as -f -a -c ...
    whole = next((f"-{each}" for each in args if each.startswith(unknown) and f"-{each}" in known), None)
    advice = f"Did you mean {whole}?" if whole and len(unknown) == 2 else suggestion(unknown, known)
    is_misplaced = hasattr(command, "commands") and any(each in command.commands for each in args)
    if is_misplaced and not advice:
        advice = "Options follow the name of the command."
    error.possibilities = None
    error.message = f"There is no option {unknown} here. {advice}".strip()


def _write_parameters(command: Any, ctx: Any, formatter: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is None:
            continue
        if parameter.param_type_name == "argument":
            name = re.sub(r"\s*<[^<>]*>(\.\.\.)?", "", record[0])
            sections["Arguments"].append((name, record[1].replace("  [required]", "")))
        else:
            bounded = re.sub(r"(\d+)<=x<=(\d+)", r"\1 to \2", record[1]).replace("x>=", "at least ")
            sections["Options"].append((re.sub(r"<([^<>]+)>", _in_words, record[0]), bounded))
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def _in_words(shown: re.Match[str]) -> str:
    name = shown[1]
    return name if "|" in name else TYPE_WORDS.get(name, name.upper())
