"""Rewards of the recipes here: functions of a completion and the columns of its row."""


def exact(completion: str, answer: str) -> float:
    """1 for the row's answer, 0 for anything else."""
    return float(completion == answer)


def places(completion: str, answer: str) -> float:
    """The share of places at which the completion agrees: what a start that is mostly wrong learns from."""
    agree = sum(a == b for a, b in zip(completion, answer, strict=False))
    return agree / max(len(completion), len(answer), 1)
