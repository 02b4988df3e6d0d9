"""NureonLang: a network as text. `compile_network` gives its Graph, `compile_program` also what FILE names.

Text -> syntax tree (nureon.lark, nureon_ast.py) -> one spelling (nureon_forms.py) -> development: constants, loops,
macros, modules (nureon_expand.py and nureon_group.py, _branch.py, _symmetry.py) -> tied matrices (nureon_tied.py) ->
wires (nureon_wire.py) -> nodes (nureon_nodes.py) -> a verified Graph. Whatever is wrong with a program is a
LanguageError at a position. The flat program that `graph.text()` prints compiles to an equal graph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alexandra.errors import GraphError, LanguageError, NotFoundError, WeightsError
from alexandra.ir.check import Size, bind_sizes, make_graph
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet
from alexandra.lang.lexis import NOWHERE, Limits, Source, Span
from alexandra.lang.nureon_ast import parse_nureon
from alexandra.lang.nureon_constants import with_constants
from alexandra.lang.nureon_expand import develop
from alexandra.lang.nureon_forms import canonical
from alexandra.lang.nureon_nodes import Writer
from alexandra.lang.nureon_tied import tie
from alexandra.lang.nureon_wire import Wiring


@dataclass(frozen=True)
class CompiledNetwork:
    """A program's graph and the weight file that it names (None without FILE), beside the program's own file."""

    graph: Graph
    weights_path: Path | None
    source: Source
    file_span: Span = NOWHERE

    def weights(self, *, mapped: bool = False) -> WeightSet | None:
        """The weights that FILE names; LanguageError when they are missing or carry another network's hash.

        With `mapped` values are read when they are used, and not compared with their checksums.
        """
        if self.weights_path is None:
            return None
        try:
            if mapped:
                return WeightSet.open(self.weights_path, self.graph, verify=False)
            return WeightSet.load(self.weights_path, self.graph)
        except WeightsError as error:
            raise self.source.error(self.file_span, error.message, error.hint) from error


def compile_network(
    text: str | Path,
    sizes: Mapping[str, Size] | None = None,
    *,
    name: str | None = None,
    file: str = "<text>",
    limits: Limits | None = None,
    constants: Mapping[str, int | float] | None = None,
) -> Graph:
    """The graph of a NureonLang program: its text, a Path, or the name of a .nl file.

    `sizes` binds what the program leaves to the data ({"x": 30, "y": 3}); without it AUTO stays open. `name` is used
    when the program has no NETWORK line (default: the file's name). `constants` are other values for its outermost
    LETs ({"layers": 2}). Raises LanguageError.
    """
    return compile_program(text, sizes, name=name, file=file, limits=limits, constants=constants).graph


def compile_program(
    text: str | Path,
    sizes: Mapping[str, Size] | None = None,
    *,
    name: str | None = None,
    file: str = "<text>",
    limits: Limits | None = None,
    constants: Mapping[str, int | float] | None = None,
) -> CompiledNetwork:
    """`compile_network`, with what FILE says."""
    source = read_source(text, file)
    allowed = limits or Limits()
    program = canonical(parse_nureon(source, allowed))
    plan = develop(source, with_constants(source, program, constants) if constants else program, allowed)
    tie(source, plan)
    Wiring(source, plan).run()
    writer = Writer(source, plan)
    nodes = writer.nodes(sizes or {})
    default = Path(source.file).stem if source.file != "<text>" else ""
    title = plan.name or (default if name is None else name)
    try:
        graph = make_graph(title, nodes)
        graph = bind_sizes(graph, sizes) if sizes else graph
    except GraphError as error:
        raise _placed(source, error, writer.names.spans, plan.name_span) from error
    weights = Path(source.file).parent / plan.file if plan.file else None
    return CompiledNetwork(graph, weights, source, plan.file_span)


def read_source(text: str | Path, file: str = "<text>") -> Source:
    """The program itself, or the content of the file that is named (a Path, or one line that ends in .nl)."""
    if isinstance(text, str) and ("\n" in text or not text.strip().endswith(".nl") or " " in text.strip()):
        return Source.of(text, file)
    path = Path(text)
    try:
        return Source.of(path.read_bytes().decode("utf-8"), str(path))
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {str(path)!r}") from error
    except OSError as error:
        raise NotFoundError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LanguageError("this file is not UTF-8 text", file=str(path)) from error


def _placed(source: Source, error: GraphError, spans: Mapping[str, Span], header: Span) -> LanguageError:
    """A GraphError at the first layer that its message names."""
    cycle = error.message.partition("cycle: ")[2].split(" -> ")
    for name in (*re.findall(r"'([^']+)'", error.message), *cycle):
        if name in spans:
            return source.error(spans[name], error.message, error.hint)
    return source.error(header, error.message, error.hint)


def format_nureon(text: str | Path, file: str = "<text>") -> str:
    """The program in its canonical layout, comments kept; formatting twice changes nothing."""
    from alexandra.lang.nureon_fmt import format_program

    source = read_source(text, file)
    return format_program(source)
