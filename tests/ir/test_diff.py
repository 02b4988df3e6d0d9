"""The comparison of two networks finds what was done to one to make the other, and nothing else."""

from alexandra.ir.diff import diff
from alexandra.lang.nureon import compile_network

BASE = """LAYER INPUT name=x size=4
LAYER DENSE name=h size=8 activation=relu
LAYER DENSE name=g size=8
LAYER OUTPUT name=y size=2
CONNECT x -> h -> g -> y
"""


def compared(old: str, new: str):  # type: ignore[no-untyped-def]
    return diff(compile_network(old), compile_network(new))


def test_a_network_equals_itself() -> None:
    found = compared(BASE, BASE)
    assert found.equal and found.same == 4 and found.parameters == (130, 130)


def test_renaming_is_seen_as_renaming_through_what_reads_it() -> None:
    found = compared(BASE, BASE.replace("name=h", "name=first").replace("-> h ->", "-> first ->"))
    assert found.equal and found.renamed == (("h", "first"),)


def test_a_renamed_reader_of_a_changed_layer_is_still_a_renaming() -> None:
    found = compared(BASE, BASE.replace("=relu", "=elu").replace("name=g", "name=mid").replace("-> g", "-> mid"))
    assert found.renamed == (("g", "mid"),) and [change.name for change in found.changed] == ["h"]


def test_a_setting_a_type_and_a_rewiring_are_named_with_both_values() -> None:
    found = compared(BASE, BASE.replace("activation=relu", "activation=gelu"))
    (change,) = found.changed
    assert change.name == "h" and change.attrs == {"activation": ("relu", "gelu")} and change.inputs is None
    found = compared(BASE, BASE.replace("DENSE name=g size=8", "TANH name=g"))
    assert found.changed[0].op == ("dense", "tanh") and found.parameters == (130, 58)
    found = compared(BASE, BASE + "CONNECT h -> y")
    (change,) = found.changed
    assert change.name == "y" and change.inputs == (("g",), ("g", "h"))


def test_added_and_removed_layers_are_listed() -> None:
    more = BASE.replace("-> g -> y", "-> d -> g -> y") + "LAYER DROPOUT name=d rate=0.1"
    found = compared(BASE, more)
    assert [node.name for node in found.added] == ["d"] and not found.removed and not found.equal
    assert [change.name for change in found.changed] == ["g"]
    assert [node.name for node in compared(more, BASE).removed] == ["d"]


def test_sharing_counts_and_open_sizes_leave_the_cost_open() -> None:
    shared = BASE.replace("name=g size=8", "name=g size=8 shared=k").replace("-> h ->", "-> h -> k ->")
    shared += "LAYER DENSE name=k size=8"
    found = compared(shared, shared.replace(" shared=k", ""))
    assert found.changed[0].attrs == {"shared": ("k", "")}
    assert compared(BASE, BASE.replace("size=4", "size=AUTO")).parameters is None
