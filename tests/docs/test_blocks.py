"""Every block of README, CONTRIBUTING and docs runs, page by page, in a temporary folder; programs compile.

    ```python       is executed; blocks of a page share their names
    ```console      `$ command` lines are executed (`# exit 1` at the end: that exit code is expected); lines below a
                    command must appear in its output in that order, `...` stands for anything
    ```nureonlang, ```tasklang, ```rulelang    are compiled or parsed
    ```text and the formats in DATA are left alone

A block that cannot run has `<!-- no-run: reason -->` on the line above it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted((ROOT / "docs").rglob("*.md"))]
RUN = {"python", "console", "nureonlang", "tasklang", "rulelang"}
DATA = {"text", "toml", "json", "csv", "cpp", "make", "ebnf"}
PAGE_SECONDS = 1800

# Runs in the child: the blocks of one page in order, Python ones in one name space.
DRIVER = r"""
import json, re, subprocess, sys

def console(text):
    commands = []
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append([line[2:], []])
        elif commands and commands[-1][0].endswith("\\"):
            commands[-1][0] = commands[-1][0][:-1] + line.strip()
        elif commands:
            commands[-1][1].append(line)
        else:
            raise SystemExit(f"a console block starts with '$ ', not {line!r}")
    for command, expected in commands:
        code = re.search(r"#\s*exit (\d+)\s*$", command)
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != (int(code[1]) if code else 0):
            raise SystemExit(f"$ {command}\nended with exit code {done.returncode}:\n{done.stdout}")
        rest = [" ".join(line.split()) for line in done.stdout.splitlines()]
        for line in filter(None, (" ".join(line.split()) for line in expected)):
            pattern = ".*".join(re.escape(part.strip()) for part in line.split("..."))
            while rest and not re.fullmatch(pattern.replace(".*", r"\s*.*\s*"), rest[0]):
                rest.pop(0)
            if not rest:
                raise SystemExit(f"$ {command}\ndid not print, in this order,\n  {line}\nbut\n{done.stdout}")
            rest.pop(0)

def nureonlang(text):
    from alexandra.lang.nureon import compile_network
    compile_network(text)

def tasklang(text):
    from alexandra.lang.task import parse_task
    parse_task(text)

def rulelang(text):
    from alexandra.lang.rules import parse_rules
    parse_rules(text)

names = {"__name__": "__main__"}
for block in json.loads(sys.argv[1]):
    place = f"{block['page']}:{block['line']}"
    try:
        if block["language"] == "python":
            exec(compile("\n" * block["line"] + block["text"], block["page"], "exec"), names)
        else:
            {"console": console, "nureonlang": nureonlang, "tasklang": tasklang,
             "rulelang": rulelang}[block["language"]](block["text"])
    except SystemExit as end:
        sys.exit(f"{place}: {end}")
    except BaseException:
        import traceback
        traceback.print_exc()
        sys.exit(f"{place}: the block above failed")
"""


@dataclass(frozen=True)
class Block:
    """One fenced block: where its fence stands, its language, the remark above it."""

    page: str
    line: int
    language: str
    text: str
    remark: str


def blocks(page: Path) -> list[Block]:
    found = []
    lines = page.read_text(encoding="utf-8").splitlines()
    index = 0
    while index < len(lines):
        fence = re.match(r"(\s*)(`{3,})(\S*)", lines[index])
        if fence:
            end = next(i for i in range(index + 1, len(lines)) if lines[i].strip() == fence[2])
            above = next((line for line in reversed(lines[:index]) if line.strip()), "")
            remark = re.fullmatch(r"<!--\s*(.*?)\s*-->", above.strip())
            text = "\n".join(line.removeprefix(fence[1]) for line in lines[index + 1 : end])
            name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
            found.append(Block(name, index + 1, fence[3], text, remark[1] if remark else ""))
            index = end
        index += 1
    return found


def run_page(chosen: list[Block], folder: Path) -> None:
    """Run blocks in `folder`, where the repository's examples can be named as `examples/...`."""
    (folder / "examples").symlink_to(ROOT / "examples")
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment |= {"NO_COLOR": "1", "COLUMNS": "120", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", DRIVER, json.dumps([asdict(block) for block in chosen])]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PAGE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-8000:]


def runnable(page: Path) -> list[Block]:
    return [b for b in blocks(page) if b.language in RUN and not b.remark.startswith("no-run")]


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [p for p in PAGES if runnable(p)], ids=page_name)
def test_the_blocks_of_the_page_run(page: Path, tmp_path: Path) -> None:
    run_page(runnable(page), tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_block_says_its_language_and_every_block_left_out_says_why(page: Path) -> None:
    for block in blocks(page):
        place = f"{block.page}:{block.line}"
        assert block.language in RUN | DATA, f"{place}: language {block.language!r}; known: {sorted(RUN | DATA)}"
        if block.remark.startswith("no-run"):
            assert re.fullmatch(r"no-run: .{10,}", block.remark), f"{place}: write <!-- no-run: reason -->"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page_name(page)}: no file {target}"


def page_with(folder: Path, *fences: str) -> Path:
    path = folder / "page.md"
    path.write_text("\n\n".join(fences), encoding="utf-8")
    return path


def test_a_python_block_sees_the_names_of_the_block_before(tmp_path: Path) -> None:
    page = page_with(tmp_path, "```python\nx = 2\n```", "```python\nassert x == 2\n```")
    run_page(blocks(page), tmp_path)


@pytest.mark.parametrize(
    ("fence", "message"),
    [
        ("```python\nassert 1 == 2\n```", "AssertionError"),
        ("```console\n$ false\n```", "exit code 1"),
        ("```console\n$ echo one\ntwo\n```", "did not print"),
        ("```console\n$ true # exit 1\n```", "exit code 0"),
    ],
)
def test_a_block_that_fails_fails_the_page(fence: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        run_page(blocks(page_with(tmp_path, fence)), tmp_path)


def test_output_is_compared_line_by_line_with_dots_for_anything(tmp_path: Path) -> None:
    text = "```console\n$ printf 'a  1\\nnoise\\nb 2.5 c\\n'\na 1\nb ... c\n$ exit 3 # exit 3\n```"
    run_page(blocks(page_with(tmp_path, text)), tmp_path)
