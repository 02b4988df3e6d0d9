"""The formatter: canonical layout, comments kept, same meaning, and a second pass that changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from alexandra.lang.lexis import Source, comments
from alexandra.lang.nureon import compile_network, format_nureon
from alexandra.lang.nureon_ast import parse_nureon
from alexandra.lang.nureon_forms import canonical

HERE = Path(__file__).resolve().parent
EXAMPLES = sorted((HERE.parents[1] / "examples" / "networks").glob("*.nl"))
PROGRAMS = sorted((HERE / "programs").iterdir()) + EXAMPLES

UNTIDY = """// head

/* two
   lines */
network  foo // named
begin // opened

  // first
  let a=2*(3+4)^-2;   /* t */ layer dense h[0] size = a *2 // both


  for i from 0 to /*in*/ 3 // loop
  begin layer relu end
  if a=3 begin f(1,2+a) end // after
  else if a<3 begin end
  else // otherwise
  begin
  // alone
  end
  call m as n shared connect x[0:2]->n.p->y[ i + 1 ]_z
  // before the end

end
file "w.bin" // tail"""

TIDY = """// head

/* two
   lines */
NETWORK foo // named
BEGIN // opened
  // first
  LET a = 2 * (3 + 4)^-2; /* t */
  LAYER DENSE name=h[0] size=a*2 // both

  /*in*/
  FOR i FROM 0 TO 3 // loop
  BEGIN
    LAYER RELU
  END
  IF a == 3
  BEGIN
    f(1, 2 + a)
  END // after
  ELSE IF a < 3
  BEGIN
  END
  ELSE // otherwise
  BEGIN
    // alone
  END
  CALL m AS n SHARED
  CONNECT x[0:2] -> n.p -> y[i+1]_z
  // before the end
END
FILE "w.bin" // tail
"""


README_FORM = """MODULE Encoder
BEGIN
  LAYER DENSE name=e1 size=128
  LAYER DENSE name=e2 size=64
  CONNECT e1 -> e2
END

LAYER INPUT name=x shape=(1, 128)
CALL Encoder
CONNECT x -> Encoder
LAYER OUTPUT name=e2_out
CONNECT e2 -> e2_out
"""


def test_layout() -> None:
    assert format_nureon(UNTIDY) == TIDY


def test_the_readme_form_is_rewritten() -> None:
    assert format_nureon(HERE / "programs" / "readme_form.nl") == README_FORM


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_formatting_is_idempotent_and_keeps_meaning_and_comments(path: Path) -> None:
    text = path.read_text()
    tidy = format_nureon(text)
    assert format_nureon(tidy) == tidy
    before, after = Source.of(text), Source.of(tidy)
    assert canonical(parse_nureon(before)) == canonical(parse_nureon(after))
    assert sorted(c.text for c in comments(before)) == sorted(c.text for c in comments(after))
    if path.suffix == ".nl":
        assert compile_network(tidy) == compile_network(text)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_formatted(path: Path) -> None:
    assert format_nureon(path) == path.read_text()


def test_flat_text_is_accepted_as_it_is_printed() -> None:
    for path in EXAMPLES:
        graph = compile_network(path)
        assert compile_network(format_nureon(graph.text())) == graph
