"""Where sources come from, what imports bring in, and how far they reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from patternc import loader
from patternc.errors import Code, SpatError, render
from patternc.files import library_names, read
from patternc.loader import Module, load, open_source
from patternc.source import Source

FOLDER = Path(__file__).parent / "errors" / "imports"


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.spat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def loaded(folder: Path, **files: str) -> Module:
    """The module `main`, with these files beside it."""
    write(folder, **files)
    return load(open_source(folder / "main.spat"))


def codes(module: Module) -> list[Code]:
    return [d.code for d in module.diagnostics]


# ------------------------------------------------------------------ messages


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/main.spat")), ids=lambda p: p.parent.name)
def test_messages(path: Path, golden: Callable[[Path, str], None]) -> None:
    golden(path.with_suffix(".stderr"), render(load(read(path, "main.spat")).diagnostics) + "\n")


def test_messages_of_program_text(golden: Callable[[Path, str], None]) -> None:
    path = FOLDER / "from_text" / "main.txt"
    found = load(open_source(path.read_text(encoding="utf-8"))).diagnostics
    golden(path.with_suffix(".stderr"), render(found) + "\n")


def test_every_code_has_a_golden() -> None:
    told = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*/*.stderr"))
    missing = [c.name for c in Code if Code.FILE_NOT_FOUND <= c < Code.UNKNOWN_NAME and f"[{c}]" not in told]
    assert missing == []


# ------------------------------------------------------------------ sources


def test_a_path_a_library_name_and_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, main="pattern p() = full")
    monkeypatch.chdir(tmp_path)
    by_path = open_source("main.spat")
    assert (by_path.name, by_path.path, by_path.text) == ("main.spat", tmp_path / "main.spat", "pattern p() = full")
    assert open_source(Path("main.spat")) == by_path
    by_name = open_source("std/local")
    assert (by_name.name, by_name.path) == ("std/local", None)
    assert "pattern local" in by_name.text
    text = open_source("pattern std() = full  # std/local.spat\n")
    assert (text.name, text.path) == ("<text>", None)
    assert open_source("import 'a.spat'\n# see b.spat").name == "<text>"


def test_library_names() -> None:
    assert "std/longformer" in library_names()
    for name in library_names():
        assert load(open_source(name)).diagnostics == ()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lokal.spat", "local.spat"),
        ("nowhere/local.spat", None),
        ("std/lokal", "std/local"),
        ("std/../../etc/passwd", None),
        ("std//etc/passwd", None),
        ("std/", None),
        (".spat", None),
        ("a" * 5_000 + ".spat", None),
        ("a\0.spat", None),
    ],
)
def test_missing_sources(name: str, hint: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, local="pattern p() = full")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpatError) as caught:
        open_source(name)
    (mistake,) = caught.value.diagnostics
    assert mistake.code == Code.FILE_NOT_FOUND
    assert mistake.hints == ((f"did you mean `{hint}`?",) if hint else ())


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "main.spat").write_bytes(b"pattern \xff")
    with pytest.raises(SpatError, match="SPAT021"):
        open_source(tmp_path / "main.spat")
    (tmp_path / "large.spat").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(SpatError, match="SPAT022"):
        open_source(tmp_path / "large.spat")
    (tmp_path / "loop.spat").symlink_to(tmp_path / "loop.spat")
    with pytest.raises(SpatError, match="SPAT050"):
        open_source(tmp_path / "loop.spat")
    (tmp_path / "device.spat").symlink_to("/dev/zero")
    with pytest.raises(SpatError, match="SPAT050"):
        open_source(tmp_path / "device.spat")


# ------------------------------------------------------------------ names


def test_names_come_from_the_file_and_its_imports(tmp_path: Path) -> None:
    module = loaded(
        tmp_path,
        main='import "one.spat"\nimport "sub/two.spat" as two\npattern main() = near | two.far\nfn main() = 3',
        one='import "std/local"\npattern near() = local(3)\ncheck near : symmetric',
        sub__two='import "three.spat"\npattern far() = third',
        sub__three="pattern third() = full",
    )
    assert module.diagnostics == ()
    assert set(module.names) == {"main", "near"}
    assert module.names["main"].module is module
    assert module.names["main"].node is module.file.items[2]
    assert module.names["near"].module.source.name == str(tmp_path / "one.spat")
    assert set(module.names["near"].module.names) == {"near", "local"}
    two = module.aliases["two"]
    assert set(two.names) == {"far", "third"}
    assert two.source.name == str(tmp_path / "sub" / "two.spat")


def test_a_file_is_loaded_once(tmp_path: Path) -> None:
    module = loaded(
        tmp_path,
        main='import "one.spat" as one\nimport "two.spat" as two\nimport "shared.spat"\nimport "./shared.spat"',
        one='import "shared.spat"',
        two='import "shared.spat" as shared',
        shared="pattern p() = full",
    )
    assert module.diagnostics == ()
    shared = module.names["p"].module
    assert module.aliases["one"].names["p"].module is shared
    assert module.aliases["two"].aliases["shared"] is shared


def test_program_text_imports_the_library() -> None:
    module = load(open_source('import "std/local"\nimport "std/longnet" as ln\npattern p() = local'))
    assert module.diagnostics == ()
    assert {"local", "p"} <= set(module.names)
    assert "longnet" in module.aliases["ln"].names


def test_of_an_imported_file_only_errors_are_told(tmp_path: Path) -> None:
    module = loaded(tmp_path, main='import "one.spat"', one="pattern p() = { k -> q : k <= q }")
    assert module.diagnostics == ()
    assert codes(module.names["p"].module) == [Code.KEY_BEFORE_QUERY]


def test_mistakes_of_syntax_and_import_are_told_together(tmp_path: Path) -> None:
    module = loaded(tmp_path, main='import "none.spat"\npattern p() = \npattern q() = full')
    assert sorted(codes(module)) == [Code.UNEXPECTED_END, Code.FILE_NOT_FOUND]
    assert set(module.names) == {"q"}


# ------------------------------------------------------------------ bounds


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    write(tmp_path, secret="pattern p() = full")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "link.spat").symlink_to(tmp_path / "secret.spat")
    (inner / "up").symlink_to(tmp_path)
    module = loaded(inner, main='import "link.spat"\nimport "up/secret.spat"')
    assert codes(module) == [Code.IMPORT_OUTSIDE, Code.IMPORT_OUTSIDE]


@pytest.mark.parametrize("path", ["../../etc/x.spat", "/etc/x.spat", "a\\..\\x.spat", "C:\\x.spat", "~/../../x.spat"])
def test_paths_that_lead_out(path: str, tmp_path: Path) -> None:
    assert codes(loaded(tmp_path, main=f'import "{path}"')) == [Code.IMPORT_OUTSIDE]


def test_the_number_of_files_is_bounded(tmp_path: Path) -> None:
    files = {f"f{i}": "" for i in range(loader.MAX_FILES + 5)}
    main = "\n".join(f'import "{name}.spat"' for name in files)
    assert set(codes(loaded(tmp_path, main=main, **files))) == {Code.TEXT_TOO_LARGE}


def test_the_length_of_a_chain_is_bounded(tmp_path: Path) -> None:
    files = {f"f{i}": f'import "f{i + 1}.spat"' for i in range(loader.MAX_CHAIN + 5)}
    found = codes(loaded(tmp_path, main='import "f0.spat"', **files))
    assert found[0] == Code.TEXT_TOO_LARGE
    assert set(found[1:]) == {Code.IMPORT_BROKEN}


def test_all_text_together_is_bounded(tmp_path: Path) -> None:
    files = {f"f{i}": "#" * (1 << 20) for i in range(5)}
    main = "\n".join(f'import "{name}.spat"' for name in files)
    assert codes(loaded(tmp_path, main=main, **files)) == [Code.TEXT_TOO_LARGE]


def test_the_result_does_not_hang_on_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, sub__main='import "other.spat"', sub__other="pattern p() = full")
    monkeypatch.chdir(tmp_path)
    source = open_source("sub/main.spat")
    monkeypatch.chdir("/")
    module = load(source)
    assert module.diagnostics == ()
    assert module.names["p"].module.source.name == "sub/other.spat"


def test_a_source_without_a_file_may_be_any_text() -> None:
    assert codes(load(Source("<stdin>", 'import "x.spat"'))) == [Code.IMPORT_FROM_TEXT]


def test_mistakes_are_told_once_however_many_ways_lead_to_them(tmp_path: Path) -> None:
    files = {f"f{i}": f'import "f{i + 1}.spat" as a\nimport "f{i + 2}.spat" as b' for i in range(25)}
    module = loaded(tmp_path, main='import "f0.spat"', **files, f25="pattern p() =", f26="")
    assert codes(module).count(Code.UNEXPECTED_END) == 1
    assert len(codes(module)) < 60
