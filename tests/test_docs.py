"""The documents are part of the product: their code runs, their commands and links exist."""

from __future__ import annotations

import importlib
import linecache
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import click
import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "changes/*.md")
    for page in ROOT.glob(pattern)
)
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w+-]*)[^`\n]*$")
NOT_RUN = re.compile(r"<!--\s*not run(?P<reason>.*?)-->\s*$", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
SHELL = frozenset({"sh", "bash", "shell", "console"})


@dataclass(frozen=True)
class Block:
    """One fenced block; `skipped` is the reason why it is not run, None if it is."""

    language: str
    text: str
    line: int
    skipped: str | None


def blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order; `line` is that of the first line inside."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opened = FENCE.match(lines[at])
        at += 1
        if opened is None:
            continue
        begin = at
        while at < len(lines) and lines[at].strip() != opened["ticks"]:
            at += 1
        indent = len(opened["indent"])
        body = "\n".join(line[indent:] for line in lines[begin:at]) + "\n"
        above = NOT_RUN.search("\n".join(lines[: begin - 1]).rstrip() + "\n")
        reason = above["reason"].strip(" :\n") if above else None
        yield Block(opened["language"], body, begin + 1, reason)
        at += 1


def run_page(text: str, name: str) -> None:
    """Run the Python blocks of one page in one namespace; errors name the line of the page."""
    module = ModuleType(f"page_{re.sub(r'[^0-9a-z]', '_', name.lower())}")
    sys.modules[module.__name__] = module
    try:
        for block in blocks(text):
            if block.language != "python" or block.skipped is not None:
                continue
            source = "\n" * (block.line - 1) + block.text
            file = f"{name}:{block.line}"
            linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
            exec(compile(source, file, "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]


def unexplained(text: str) -> list[str]:
    """Return the blocks that are not run and do not say why."""
    return [f"line {block.line}: not run, without a reason" for block in blocks(text)
            if block.skipped is not None and len(block.skipped) < 8]  # fmt: skip


def command_lines(text: str, program: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the words after `program` for each of its uses in the page's shell blocks."""
    for block in blocks(text):
        if block.language not in SHELL or block.skipped is not None:
            continue
        joined = block.text.replace("\\\n", " ")
        for number, line in enumerate(joined.splitlines()):
            words = line.split("#")[0].removeprefix("$ ").split()
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words.pop(0)
            if words and words[0].rpartition("/")[2] == program:
                yield block.line + number, words[1:]


def command_problem(command: click.Command, words: list[str]) -> str:
    """Return what is wrong with a use of the command line, or an empty text."""
    known: set[str] = {"--help"}
    said = ["homeostat"]
    for word in words:
        known |= {name for parameter in command.params for name in parameter.opts}
        known |= {name for parameter in command.params for name in parameter.secondary_opts}
        if word.startswith("--") and word.partition("=")[0] not in known:
            return f"{' '.join(said)} has no option {word}"
        if word.startswith("-") or not isinstance(command, click.Group):
            continue
        if word in ("...", "COMMAND"):
            break
        below = command.get_command(click.Context(command), word)
        if below is None:
            return f"{' '.join(said)} has no command {word!r}"
        command = below
        said.append(word)
    return ""


def make_targets(makefile: str) -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z][\w-]*):(?!=)", makefile, re.MULTILINE))


def broken_links(page: Path) -> list[str]:
    """Return the links of a page to files that are not there."""
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = []
    for link in LINK.finditer(prose):
        target = link["target"].partition("#")[0]
        if target and ":" not in target and not (page.parent / target).exists():
            found.append(f"{page.name}: {target}")
    return found


def short(page: Path) -> str:
    return str(page.relative_to(ROOT))


pages = pytest.mark.parametrize("page", PAGES, ids=short)


@pages
def test_code_on_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page.read_text(), short(page))


@pages
def test_every_block_that_is_not_run_says_why(page: Path) -> None:
    assert unexplained(page.read_text()) == []


@pages
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


@pages
def test_commands_on_the_page_exist(page: Path) -> None:
    uses = list(command_lines(page.read_text(), "homeostat"))
    if not uses:
        return
    cli = importlib.import_module("homeostat.runtime.cli")
    group = next(value for value in vars(cli).values() if isinstance(value, click.Group))
    found = [(line, command_problem(group, words)) for line, words in uses]
    assert [f"line {line}: {problem}" for line, problem in found if problem] == []


@pages
def test_make_targets_on_the_page_exist(page: Path) -> None:
    uses = list(command_lines(page.read_text(), "make"))
    if not uses:
        return
    makefile = ROOT / "Makefile"
    targets = make_targets(makefile.read_text())
    assert [f"line {line}: make {word}" for line, words in uses for word in words
            if word not in targets] == []  # fmt: skip


def page_of(*parts: str) -> str:
    return "\n".join(parts).replace("'''", "```")


def test_a_page_shares_one_namespace_and_a_broken_block_is_found() -> None:
    run_page(page_of("'''python", "x = 1", "'''", "text", "'''python", "assert x == 1", "'''"), "a")
    with pytest.raises(NameError, match="missing"):
        run_page(page_of("'''python", "missing", "'''"), "a")


def test_classes_and_functions_of_a_page_can_be_inspected() -> None:
    run_page(
        page_of(
            "'''python",
            "from __future__ import annotations",
            "import homeostat as hs",
            "class Tap(hs.Event):",
            "    card: str",
            "@hs.on_demand('a')",
            "def double(a):",
            "    return a * 2",
            "assert Tap.schema.names() == ('card',)",
            "'''",
        ),
        "inspected",
    )


def test_a_block_is_left_out_only_with_a_reason() -> None:
    text = page_of("<!-- not run: needs a server -->", "'''python", "boom", "'''")
    run_page(text, "a")
    assert unexplained(text) == []
    assert unexplained(page_of("<!-- not run -->", "", "'''python", "boom", "'''")) == [
        "line 4: not run, without a reason"
    ]
    far = page_of("<!-- not run: needs a server -->", "words", "'''python", "boom", "'''")
    with pytest.raises(NameError):
        run_page(far, "a")


def test_commands_are_read_from_shell_blocks_only() -> None:
    text = page_of(
        "homeostat nothing",
        "'''sh",
        "$ HOME=x .venv/bin/homeostat run --json  # go",
        "homeostat \\",
        "  plan",
        "'''",
        "'''text",
        "homeostat nothing",
        "'''",
    )
    assert [words for _, words in command_lines(text, "homeostat")] == [["run", "--json"], ["plan"]]


def test_an_unknown_command_or_option_is_found() -> None:
    group = click.Group("homeostat", params=[click.Option(["--json"], is_flag=True)])
    letters = click.Group("dead-letters")
    letters.add_command(click.Command("list", params=[click.Option(["--source"])]))
    group.add_command(letters)
    assert command_problem(group, ["dead-letters", "list", "--source", "weather"]) == ""
    assert command_problem(group, ["dead-leters"]) == "homeostat has no command 'dead-leters'"
    assert "no option --sauce" in command_problem(group, ["dead-letters", "list", "--sauce"])


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](page.md#top) [b](https://example.org) [c](gone.md)\n")
    assert broken_links(page) == ["page.md: gone.md"]


def test_make_targets_are_read() -> None:
    assert make_targets("A := 1\ndemo: x\n\techo\ntest:\n.PHONY: demo\n") == {"demo", "test"}
