"""The papers' equations written once more, one answer and one token at a time, in torch float64 with its autograd.

Nothing here knows src/alexandra/objectives: the equations are typed from the papers, and derivatives are torch's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def tokens_of(logp: Tensor, mask: Tensor, row: int) -> list[Tensor]:
    return [logp[row, t] for t in range(logp.shape[1]) if mask[row, t] > 0]


def total(values: Sequence[Tensor]) -> Tensor:
    result = torch.zeros((), dtype=torch.float64)
    for value in values:
        result = result + value
    return result


def sft(logp: Tensor, mask: Tensor, per_sequence: bool) -> Tensor:
    rows = [tokens_of(logp, mask, row) for row in range(len(logp))]
    if per_sequence:
        means = [-total(row) / len(row) for row in rows if row]
        return total(means) / len(means)
    flat = [value for row in rows for value in row]
    return -total(flat) / len(flat)


Side = tuple[Tensor, Tensor, Tensor]  # policy, reference, mask


def dpo(sides: Sequence[Side], beta: float, kind: str, e: float, per_token: bool, m: float) -> Tensor:
    losses = []
    for row in range(len(sides[0][0])):
        ratios = []
        for logp, reference, mask in sides:
            policy, base = tokens_of(logp, mask, row), tokens_of(reference, mask, row)
            ratio = total(policy) - total(base)
            ratios.append(ratio / len(policy) if per_token or kind == "ipo" else ratio)
        h = ratios[0] - ratios[1]
        p = 1 / (1 + torch.exp(-(beta * h - m)))
        if kind == "sigmoid":
            losses.append(-(1 - e) * torch.log(p) - e * torch.log(1 - p))
        elif kind == "robust":
            losses.append((-(1 - e) * torch.log(p) + e * torch.log(1 - p)) / (1 - 2 * e))
        elif kind == "hinge":
            losses.append(torch.clamp(1 - (beta * h - m), min=0))
        else:
            losses.append((h - 1 / (2 * beta)) ** 2)
    return total(losses) / len(losses)


def kto(side: Side, desirable: Sequence[bool], kl: float, beta: float, w: tuple[float, float]) -> Tensor:
    losses = []
    for row, good in enumerate(desirable):
        r = total(tokens_of(side[0], side[2], row)) - total(tokens_of(side[1], side[2], row))
        z = max(0.0, kl)
        value = torch.sigmoid(beta * (r - z)) if good else torch.sigmoid(beta * (z - r))
        losses.append((w[0] if good else w[1]) * (1 - value))
    return total(losses) / len(losses)


def orpo(sides: Sequence[tuple[Tensor, Tensor]], weight: float) -> Tensor:
    losses, likelihood, count = [], [], 0
    for row in range(len(sides[0][0])):
        odds = []
        for logp, mask in sides:
            own = tokens_of(logp, mask, row)
            p = torch.exp(total(own) / len(own))
            odds.append(p / (1 - p))
        losses.append(-torch.log(torch.sigmoid(torch.log(odds[0] / odds[1]))))
        own = tokens_of(*sides[0], row)
        likelihood.append(-total(own))
        count += len(own)
    return total(likelihood) / count + weight * total(losses) / len(losses)


def grpo(logp: Tensor, old: Tensor, ref: Tensor | None, advantage: Tensor, mask: Tensor, s: dict) -> Tensor:  # type: ignore[type-arg]
    """Any variant: `s` holds ratio, mean, lo, hi, beta, dual and max_tokens."""
    rows = []
    for row in range(len(logp)):
        places = [t for t in range(logp.shape[1]) if mask[row, t] > 0]
        length = len(places)
        if not length:
            continue
        answer = torch.exp(total([(logp[row, t] - old[row, t]) / length for t in places]))
        terms = []
        for t in places:
            a = advantage[row, t]
            r = torch.exp(logp[row, t] - old[row, t]) if s["ratio"] == "token" else answer
            if s["ratio"] == "none":
                term = -a * logp[row, t]
            elif s["ratio"] == "clipped_weight":
                r = torch.exp(logp[row, t] - old[row, t])
                term = -torch.clamp(r, 1 - s["lo"], 1 + s["hi"]).detach() * a * logp[row, t]
            else:
                term = -torch.minimum(r * a, torch.clamp(r, 1 - s["lo"], 1 + s["hi"]) * a)
                if s["dual"] and a < 0:
                    term = torch.minimum(term, -s["dual"] * a)
            if ref is not None:
                d = ref[row, t] - logp[row, t]
                kl = s["beta"] * (torch.exp(d) - d - 1)
                term = term + (kl / length if s["ratio"] == "none" and s["mean"] == "sequence" else kl)
            terms.append(term)
        rows.append((total(terms), length))
    if s["mean"] == "token":
        return total([value for value, _ in rows]) / sum(length for _, length in rows)
    if s["mean"] == "constant":
        return total([value for value, _ in rows]) / (len(rows) * s["max_tokens"])
    return total([value if s["ratio"] == "none" else value / length for value, length in rows]) / len(rows)


def value(values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    losses = []
    for row in range(len(values)):
        for t in range(values.shape[1]):
            if mask[row, t] > 0:
                v, o, r = values[row, t], old[row, t], returns[row, t]
                loss = (v - r) ** 2
                if clip:
                    loss = torch.maximum(loss, (torch.clamp(v, o - clip, o + clip) - r) ** 2)
                losses.append(loss / 2)
    return total(losses) / len(losses)
