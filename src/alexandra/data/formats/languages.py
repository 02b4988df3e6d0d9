"""The 18 programming languages of a source repository: extension, shebang, and tree-sitter's names of functions."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class CodeLanguage:
    """`grammar` is tree-sitter's name; `functions` and `comments` are node types of that grammar."""

    name: str
    extensions: tuple[str, ...]
    functions: tuple[str, ...]
    grammar: str = ""
    shebangs: tuple[str, ...] = ()
    comments: tuple[str, ...] = ("comment",)


_C_COMMENTS = ("comment", "line_comment", "block_comment")
LANGUAGES: tuple[CodeLanguage, ...] = (
    CodeLanguage("python", (".py", ".pyi", ".pyw"), ("function_definition",), shebangs=("python", "pypy")),
    CodeLanguage(
        "javascript",
        (".js", ".jsx", ".mjs", ".cjs"),
        ("function_declaration", "method_definition", "generator_function_declaration"),
        shebangs=("node", "deno", "bun"),
    ),
    CodeLanguage("typescript", (".ts", ".tsx", ".mts"), ("function_declaration", "method_definition")),
    CodeLanguage("java", (".java",), ("method_declaration", "constructor_declaration"), comments=_C_COMMENTS),
    CodeLanguage("c", (".c", ".h"), ("function_definition",)),
    CodeLanguage("cpp", (".cpp", ".cc", ".cxx", ".hpp", ".hh", ".hxx"), ("function_definition",)),
    CodeLanguage("csharp", (".cs",), ("method_declaration", "constructor_declaration"), grammar="csharp"),
    CodeLanguage("go", (".go",), ("function_declaration", "method_declaration")),
    CodeLanguage("rust", (".rs",), ("function_item",), comments=_C_COMMENTS),
    CodeLanguage("ruby", (".rb", ".rake"), ("method", "singleton_method"), shebangs=("ruby", "jruby")),
    CodeLanguage("php", (".php",), ("function_definition", "method_declaration"), shebangs=("php",)),
    CodeLanguage("swift", (".swift",), ("function_declaration",), comments=("comment", "multiline_comment")),
    CodeLanguage("kotlin", (".kt", ".kts"), ("function_declaration",), comments=_C_COMMENTS + ("multiline_comment",)),
    CodeLanguage("scala", (".scala", ".sc"), ("function_definition",), comments=_C_COMMENTS),
    CodeLanguage("r", (".r", ".R"), ("function_definition",), shebangs=("Rscript",)),
    CodeLanguage("julia", (".jl",), ("function_definition",), comments=_C_COMMENTS, shebangs=("julia",)),
    CodeLanguage("shell", (".sh", ".bash", ".zsh"), ("function_definition",), "bash", ("sh", "bash", "zsh", "dash")),
    CodeLanguage("sql", (".sql",), ("create_function",), comments=("comment", "marginalia")),
)
_BY_EXTENSION = {extension: language for language in LANGUAGES for extension in language.extensions}
_BY_SHEBANG = {word: language for language in LANGUAGES for word in language.shebangs}
BY_NAME = {language.name: language for language in LANGUAGES}
_SHEBANG = re.compile(r"\A#!\s{0,5}(\S{1,200})(?:[ \t]{1,5}(\S{1,100}))?(?:[ \t]{1,5}(\S{1,100}))?")


def code_language(file_name: str, beginning: str) -> CodeLanguage | None:
    """By extension, else by the program in the first line's shebang; None for what is none of the 18."""
    dot = file_name.rfind(".")
    found = _BY_EXTENSION.get(file_name[dot:]) or _BY_EXTENSION.get(file_name[dot:].lower()) if dot > 0 else None
    if found is not None:
        return found
    match = _SHEBANG.match(beginning)
    if match is None:
        return None
    words = [word for word in match.groups() if word]
    program = words[0].rpartition("/")[2]
    if program == "env" and len(words) > 1:
        program = words[2] if words[1] == "-S" and len(words) > 2 else words[1]
    return _BY_SHEBANG.get(program.rstrip("0123456789."))
