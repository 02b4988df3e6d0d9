"""Tool `gensim_topics`: is the text on the topic that it is filed under? Topics trained on the claim's own corpus.

Context: `corpus`, topic -> texts, and `topic`, the one claimed. Gensim's TF-IDF and latent semantic indexing
(Deerwester et al. 1990) span the corpus; the text belongs to the topic whose texts it is nearest to.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool, needs_package, package_version

DIMENSIONS, KEPT = 50, 8
_models: OrderedDict[str, Any] = OrderedDict()


def _model(corpus: Mapping[str, Any]) -> Any:
    """(dictionary, tf-idf, topics' names, one centroid per topic, projection), kept for the last few corpora."""
    key = hashlib.blake2b(json.dumps(corpus, sort_keys=True).encode(), digest_size=16).hexdigest()
    if key in _models:
        _models.move_to_end(key)
        return _models[key]
    from gensim import corpora, models
    from gensim.matutils import corpus2dense
    from gensim.utils import simple_preprocess

    texts = [(topic, simple_preprocess(str(text))) for topic, some in sorted(corpus.items()) for text in some]
    dictionary = corpora.Dictionary([words for _, words in texts])
    bags = [dictionary.doc2bow(words) for _, words in texts]
    weighted = models.TfidfModel(bags, smartirs="ltc")
    space = models.LsiModel(
        weighted[bags], id2word=dictionary, num_topics=min(DIMENSIONS, len(texts)), random_seed=0, power_iters=3
    )
    placed = corpus2dense(space[weighted[bags]], space.num_topics).T
    names = sorted(corpus)
    centroids = np.stack([_unit(placed[[topic == name for topic, _ in texts]].mean(0)) for name in names])
    _models[key] = (dictionary, weighted, names, centroids, space)
    while len(_models) > KEPT:
        _models.popitem(last=False)
    return _models[key]


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / (np.linalg.norm(vector) or 1.0))


def _applies(claim: Claim) -> str:
    corpus, topic = claim.context.get("corpus"), claim.context.get("topic")
    if not isinstance(corpus, Mapping) or len(corpus) < 2 or topic is None:
        return "the context has no corpus (topic -> texts) with a topic"
    return "" if topic in corpus else f"the corpus has no topic {topic!r}"


def _judge(tool: Tool, claim: Claim) -> Verdict:
    from gensim.matutils import corpus2dense
    from gensim.utils import simple_preprocess

    dictionary, weighted, names, centroids, space = _model(claim.context["corpus"])
    bag = dictionary.doc2bow(simple_preprocess(claim.content))
    if not bag:
        return tool.abstains("no word of the text is in the corpus")
    near = centroids @ _unit(corpus2dense([space[weighted[bag]]], space.num_topics)[:, 0])
    shares = np.exp(10 * near) / np.exp(10 * near).sum()
    place = names.index(claim.context["topic"])
    listed = ", ".join(f"{names[i]} {near[i]:.2f}" for i in np.argsort(-near)[:4])
    return tool.says(claim, float(shares[place]), f"nearest topics: {listed}", confidence=SOFT)


TOOL = Tool(
    "gensim_topics", "contextual", ("text",), package_version("gensim"), one=_judge, applies=_applies,
    missing=needs_package("gensim", "gensim"), seconds=10.0, isolated=True,
)  # fmt: skip
