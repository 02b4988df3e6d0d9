"""Tool `faiss_similarity`: is the passage that a text is said to rest on the one it is nearest to?

Context: `passages`, and `passage`, the index of the one claimed. Texts become hashed character n-grams (Weinberger et
al. 2009), FAISS (Johnson et al. 2017) finds the nearest by inner product.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool, needs_package, package_version

DIMENSIONS = 1 << 12
SHARPNESS = 20.0


@cache
def _hashing() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=DIMENSIONS, alternate_sign=True)


def embed(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors, one row a text."""
    return np.ascontiguousarray(_hashing().transform(texts).toarray(), dtype=np.float32)


def _applies(claim: Claim) -> str:
    passages, which = claim.context.get("passages"), claim.context.get("passage")
    if not isinstance(passages, (tuple, list)) or len(passages) < 2 or not isinstance(which, int):
        return "the context has no passages with the index of the one claimed"
    return "" if 0 <= which < len(passages) else f"there is no passage {which}"


def _judge(tool: Tool, claim: Claim) -> Verdict:
    import faiss

    passages = [str(one) for one in claim.context["passages"]]
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(embed(passages))
    similar, order = index.search(embed([claim.content]), len(passages))
    shares = np.exp(SHARPNESS * (similar[0] - similar[0].max()))
    shares /= shares.sum()
    place = int(np.flatnonzero(order[0] == claim.context["passage"])[0])
    words = f"passage {order[0][0]} is nearest ({similar[0][0]:.2f}); the claimed one has {similar[0][place]:.2f}"
    return tool.says(claim, float(shares[place]), words, confidence=SOFT)


TOOL = Tool(
    "faiss_similarity", "contextual", ("text",), package_version("faiss-cpu"), one=_judge, applies=_applies,
    missing=needs_package("faiss", "faiss-cpu"), isolated=True,
)  # fmt: skip
