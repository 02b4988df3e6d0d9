"""Tool `agreement`: how many of several samples give the same answer as the one that was given (Wang et al. 2022).

Answers are compared after whitespace, case and the writing of numbers are made alike. The score is the lower end of the
Wilson interval of the share that agrees: three samples of three prove less than thirty of thirty.
"""

from __future__ import annotations

from collections import Counter

from alexandra.records import Claim, Verdict
from alexandra.statistics import wilson
from alexandra.verifiers.tool import SOFT, Tool, own_version
from alexandra.verifiers.tools.answers import alike

FEWEST = 2


def _judge(tool: Tool, claim: Claim) -> Verdict:
    answers = [alike(one) for one in claim.content.answers]
    if len(answers) < FEWEST:
        return tool.abstains(f"{len(answers)} samples, it needs {FEWEST}")
    given = alike(claim.content.answer)
    counts = Counter(answers)
    share, (most, top) = counts[given] / len(answers), counts.most_common(1)[0]
    _, low, _ = wilson(share, len(answers), 0.9)
    words = f"{counts[given]} of {len(answers)} samples agree; the most frequent is {most[:40]!r} with {top}"
    score = share if counts[given] == top else min(share, 0.4)
    return tool.says(claim, score, words, confidence=min(SOFT, max(low, 1 - share) * SOFT + 0.1))


TOOL = Tool("agreement", "consistency", ("samples",), own_version("agreement 1"), one=_judge)
