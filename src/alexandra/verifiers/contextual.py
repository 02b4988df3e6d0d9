"""The framework `contextual`: does it fit where it stands: prompt, form, topic, sentiment, language?

Form and required elements, content of the prompt, topic,
nearest passage, sentiment and language. Fitting is necessary, never sufficient: only broken requirements are hard.
"""

from __future__ import annotations

from alexandra.verifiers.framework import Framework
from alexandra.verifiers.tool import Tool

QUESTION = "does it fit the prompt, the language, the form and the topic?"


def tools() -> tuple[Tool, ...]:
    """The framework's tools, by what they read."""
    from alexandra.verifiers.tools import faiss_similarity, form, gensim_topics, language, spacy_text, vader_sentiment

    modules = (form, spacy_text, gensim_topics, faiss_similarity, vader_sentiment, language)
    return tuple(module.TOOL for module in modules)


def contextual() -> Framework:
    """Every kind of claim that one of its tools reads."""
    return Framework("contextual", QUESTION, tools)
