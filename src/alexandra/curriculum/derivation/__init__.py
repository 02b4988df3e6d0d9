"""Derivations: from a question to its answer in small steps, each a graph that equals the one before.

tree.py plain trees and their texts; rewrite.py one parallel step of exact arithmetic; opening.py what each level's
question becomes first (values put in, a derivative, an antiderivative, a solution's formula); trace.py the whole.
They are what a small network learns to write; the last graph is its answer. Nothing here calls the engine: it judges.
"""

from alexandra.curriculum.derivation.trace import derivation
from alexandra.curriculum.derivation.tree import Tree, text, tree

__all__ = ["Tree", "derivation", "text", "tree"]
