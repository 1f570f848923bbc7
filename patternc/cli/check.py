"""`patternc check`: every message about programs, and the verdicts of their check statements."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from patternc.cli.inputs import open_file, status
from patternc.cli.terminal import colour, plain
from patternc.errors import Diagnostic, SpatError, as_json, render
from patternc.judgement import Finding, check

_COLOURS = {"proved": "green", "checked": "green", "refuted": "red", "unknown": "yellow"}


@click.command("check")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], form: str) -> None:
    """Report mistakes, and run check statements.

    Exit 1 if there is an error, or a check that is refuted or cannot be decided; warnings are allowed.
    """
    outcomes = [_judge(name) for name in files]
    if form == "json":
        click.echo(json.dumps({"files": [outcome.as_json() for outcome in outcomes]}, indent=2))
    else:
        for outcome in outcomes:
            outcome.print(named=len(outcomes) > 1)
        click.echo(_summary(outcomes))
    ctx.exit(max(outcome.status for outcome in outcomes))


class Outcome:
    """What was found of one file; `status` is its part of the exit status."""

    def __init__(self, name: str, diagnostics: Sequence[Diagnostic], findings: Sequence[Finding], status: int) -> None:
        self.name, self.diagnostics, self.findings, self.status = name, diagnostics, findings, status

    def print(self, *, named: bool) -> None:
        """Messages and verdicts for a reader; with the file's name before each verdict if `named`."""
        if self.diagnostics:
            click.echo(render(self.diagnostics, colour=colour()) + "\n")
        for finding in self.findings:
            verdict = _painted(finding.verdict.text, str(finding.verdict.kind))
            place = f"{plain(self.name)}: " if named else ""
            click.echo(f"{place}{_words(finding.statement)} : {_words(finding.property)} — {verdict}")

    def as_json(self) -> dict[str, object]:
        return {
            "file": self.name,
            "ok": self.status == 0,
            "diagnostics": [as_json(d) for d in self.diagnostics],
            "verdicts": [_finding_json(finding) for finding in self.findings],
        }


def _judge(name: str) -> Outcome:
    """The outcome of one file; what cannot be read is an outcome too, so that the other files are judged."""
    try:
        judgement = check(open_file(name))
    except SpatError as error:
        return Outcome(name, error.diagnostics, (), status(error))
    return Outcome(name, judgement.diagnostics, judgement.verdicts, 0 if judgement.ok else 1)


def _finding_json(finding: Finding) -> dict[str, object]:
    line, column = finding.span.source.position(finding.span.start)
    return {
        "statement": finding.statement,
        "property": finding.property,
        "verdict": str(finding.verdict.kind),
        "text": finding.verdict.text,
        "counterexample": finding.verdict.counterexample,
        "hint": finding.verdict.hint,
        "line": line,
        "column": column,
    }


def _words(text: str) -> str:
    """Text of the program on one line."""
    return plain(" ".join(text.split()))


def _painted(text: str, kind: str) -> str:
    return click.style(text, fg=_COLOURS[kind]) if colour() else text


def _summary(outcomes: Sequence[Outcome]) -> str:
    found = [d.severity for outcome in outcomes for d in outcome.diagnostics]
    verdicts = [str(finding.verdict.kind) for outcome in outcomes for finding in outcome.findings]
    words = [_count(len(outcomes), "file"), _count(found.count("error"), "error")]
    words += [_count(found.count("warning"), "warning")] if "warning" in found else []
    held = sum(kind in ("proved", "checked") for kind in verdicts)
    words += [f"{held} of {_count(len(verdicts), 'check')} hold{'s' * (len(verdicts) == 1)}"] if verdicts else []
    bad = any(outcome.status for outcome in outcomes)
    text = ", ".join(words)
    return click.style(text, fg="red" if bad else "green", bold=True) if colour() else text


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"
