"""Tool `perspectives`: how many distinct perspectives do texts hold? scikit-learn: TF-IDF, then average-link clusters.

Texts whose wording overlaps by less than a stated cosine distance are one perspective. The score falls by half for each
cluster that the claim is off; clustering is an estimate, so it never vetoes.
"""

from __future__ import annotations

import numpy as np

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool, package_version

MAX_TEXTS, DISTANCE = 500, 0.75


def _judge(tool: Tool, claim: Claim) -> Verdict:
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [str(one) for one in claim.content.texts]
    if not 2 <= len(texts) <= MAX_TEXTS:
        return tool.abstains(f"it reads 2 to {MAX_TEXTS} texts, given {len(texts)}")
    placed = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit_transform(texts).toarray()
    if not placed.any(axis=1).all():
        return tool.abstains("a text has no content words")
    clusters = AgglomerativeClustering(
        n_clusters=None, distance_threshold=DISTANCE, metric="cosine", linkage="average"
    ).fit(placed)
    found = int(clusters.n_clusters_)
    sizes = np.sort(np.bincount(clusters.labels_))[::-1]
    words = f"{found} clusters of {', '.join(map(str, sizes[:8]))} texts, claimed {claim.content.count}"
    return tool.says(claim, 0.5 ** abs(found - claim.content.count), words, confidence=SOFT)


TOOL = Tool("perspectives", "power_dynamics", ("perspectives",), package_version("scikit-learn"), one=_judge)
