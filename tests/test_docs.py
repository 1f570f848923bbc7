"""What the documents say is run: every program, every Python block, every `patternc` command."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from documents import ROOT, Block, blocks

import patternc
from patternc import format as formatter
from patternc.cli.group import patternc as commands
from patternc.errors import Code, SpatError
from patternc.source import Source
from patternc.statistics import Consecutive

CODES = ROOT / "patternc" / "codes.md"
DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md", "grammar/README.md", "CONTRIBUTING.md", "docs/layouts.md", "docs/modules.md", "docs/training.md",
        "docs/transformers.md", "docs/decoding.md", "docs/migration.md", "docs/triton.md", "docs/saved.md",
    )
]  # fmt: skip

WITHOUT_PROGRAM = {
    Code.CONTROL_CHARACTER: "an invisible character cannot be seen on a page",
    Code.NOT_UTF8: "a page is UTF-8",
    Code.TEXT_TOO_LARGE: "a page is smaller",
    Code.TOO_DEEP: "two hundred brackets say nothing to a reader",
    Code.IMPORT_OUTSIDE: "needs a file with a path",
    Code.IMPORT_CYCLE: "needs two files",
    Code.IMPORT_BROKEN: "needs two files",
    Code.TOO_SLOW: "takes 5 s",
}
"""Codes whose page has no example, and why."""


def _pages() -> dict[str, str]:
    text = CODES.read_text(encoding="utf-8")
    return {page.split()[1]: page for page in re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]}


PAGES = _pages()
EXAMPLES = [
    pytest.param(code, block, id=f"{code}-{'wrong' if block.wrong else 'right'}")
    for code, page in PAGES.items()
    for block in blocks(CODES, page)
]
PROGRAMS = [block for path in DOCUMENTS for block in blocks(path) if block.language == "spat"]
SCRIPTS = [(path, [b.text for b in blocks(path) if b.language == "python"]) for path in DOCUMENTS]


def _codes(block: Block) -> set[str]:
    """The codes of all messages that the block's program gets: when it is checked, and compiled if it says how.

    Beside an error warnings do not count: a misspelt name makes the right one an unused one.
    """
    found = {str(message.code) for message in patternc.check(block.text).diagnostics}
    if block.arguments and not found:
        found = _codes_when_compiled(block)
    return {code for code in found if not code.startswith("SPAT3")} or found


def _codes_when_compiled(block: Block) -> set[str]:
    arguments = {"heads": 1, **block.arguments}
    length = arguments.pop("n", None)
    try:
        compiled = patternc.compile(block.text, **arguments)
        if length is not None:
            compiled.mask(length)
    except SpatError as error:
        return {str(message.code) for message in error.diagnostics}
    return set()


def test_every_code_has_a_page_in_order():
    assert list(PAGES) == sorted(str(code) for code in Code)


@pytest.mark.parametrize("code", list(PAGES))
def test_a_page_has_a_title_a_text_and_two_programs(code):
    page = PAGES[code]
    assert re.match(rf"## {code} · \S.*\n\n\S", page)
    kinds = [block.wrong for block in blocks(CODES, page)]
    assert kinds == ([] if code in WITHOUT_PROGRAM else [True, False])


@pytest.mark.parametrize(("code", "block"), EXAMPLES)
def test_the_programs_of_a_page_do_what_it_says(code, block):
    assert _codes(block) == ({code} if block.wrong else set())


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.place)
def test_the_programs_of_a_document_compile(block):
    messages = patternc.check(block.text).diagnostics
    assert bool(messages) == block.wrong, "\n".join(message.message for message in messages)


@pytest.mark.parametrize(
    "block",
    [block for path in [CODES, *DOCUMENTS] for block in blocks(path) if block.language == "spat" and not block.wrong],
    ids=lambda block: block.place,
)
def test_programs_are_laid_out_as_fmt_does(block):
    assert formatter.format(Source("<text>", block.text)) == block.text


@pytest.mark.parametrize(("path", "scripts"), SCRIPTS, ids=lambda value: value.name if isinstance(value, Path) else "")
def test_the_python_of_a_document_runs(path, scripts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _write_files(path, tmp_path)
    namespace: dict[str, object] = {}
    for script in scripts:
        exec(compile(script, path.name, "exec"), namespace)


def _write_files(path: Path, folder: Path) -> None:
    """The document's blocks that have a word `file=name`."""
    for block in blocks(path):
        if (name := block.option("file")) is not None:
            (folder / name).write_text(block.text, encoding="utf-8")


@pytest.fixture
def folder(request, tmp_path, monkeypatch) -> Path:
    """A folder with the examples, and with the document's blocks that have a word `file=name` as files."""
    for name in ("examples", "benchmarks/suite", "benchmarks/patterns"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    _write_files(request.getfixturevalue("path"), tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _invoke(line: str) -> Result:
    return CliRunner().invoke(commands, shlex.split(line, comments=True)[1:])


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_commands_of_a_document_run(path):
    for block in blocks(path):
        for line in block.text.splitlines() if block.language == "sh" else ():
            if line.startswith("patternc "):
                result = _invoke(line)
                assert result.exit_code == 0, f"{line}\n{result.output}"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_commands_of_a_document_print_what_it_shows(path):
    """Blocks of the language `console` hold one command, after a dollar sign, and all that it prints."""
    for block in blocks(path):
        if block.language == "console":
            command, shown = block.text.removeprefix("$ ").split("\n", 1)
            assert _invoke(command).output.strip() == shown.strip()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert missing == []


def test_the_table_of_paddings_is_what_plans_have():
    text = (ROOT / "docs" / "layouts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[\w+\]\(\.\./(\S+)\) \| (\S+) \| (\S+) \|$", text, re.MULTILINE)
    assert len(rows) > 10
    for path, before, after in rows:
        planned = patternc.compile(ROOT / path, heads=1)._planned(16_384, None, {})
        found = planned.statistics()
        plain = sum(Consecutive(planned.plan, planned.meanings, planned.xp).counts([0])) * 128 * 64
        assert (before, after) == (f"{plain / found.wanted_pairs:.3g}", f"{found.padding:.3g}"), path


def test_the_anchors_of_the_reference_exist():
    text = (ROOT / "grammar" / "README.md").read_text(encoding="utf-8")
    titles = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) == titles


def test_the_reference_lists_the_reserved_words():
    text = (ROOT / "grammar" / "README.md").read_text(encoding="utf-8")
    grammar = (ROOT / "grammar" / "spat.lark").read_text(encoding="utf-8")
    reserved = re.search(r"^NAME: /\(\?!\(([^)]*)\)", grammar, re.MULTILINE)
    assert reserved is not None
    assert text.split("Everywhere reserved are")[1].split() == sorted(reserved[1].split("|"), key=str.lower)
