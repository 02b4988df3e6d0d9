"""Every objective agrees with the oracle in value and gradient (1e-12), and does not depend on how a batch is cut."""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from alexandra.errors import UsageError  # noqa: E402
from alexandra.objectives import advantages as adv  # noqa: E402
from alexandra.objectives import policy, preference, tokens  # noqa: E402
from alexandra.objectives.policy import GRPO, Sampled  # noqa: E402
from alexandra.objectives.preference import DPO, KTO, Answers  # noqa: E402
from alexandra.objectives.tokens import F64, TokenLoss  # noqa: E402
from alexandra.rng import derive  # noqa: E402

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
assert _spec is not None and _spec.loader is not None
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

ROWS, LENGTH = 6, 9
TOLERANCE = 1e-12


@dataclass
class Data:
    """A random batch: rows of different lengths, gaps inside answers, and garbage where the mask is 0."""

    seed: int

    def array(self, name: str, scale: float = 1.0, low: float = -1.0) -> F64:
        return low + scale * derive(self.seed, name).uniform(ROWS * LENGTH).reshape(ROWS, LENGTH)

    def logp(self, name: str) -> F64:
        found = self.array(name, 2.0, -2.2)
        found[self.mask == 0] = derive(self.seed, name, "garbage").normal(int((self.mask == 0).sum())) * 50
        return found

    @property
    def mask(self) -> F64:
        mask = np.zeros((ROWS, LENGTH))
        for row, (start, length) in enumerate(zip(self.integers("start", 3), self.integers("length", 5), strict=True)):
            mask[row, start : start + 1 + length] = 1
            mask[row, start + length // 2] = 0 if length > 2 else 1
        return mask

    def integers(self, name: str, bound: int) -> list[int]:
        return [int(i) for i in derive(self.seed, name).below(bound, ROWS)]


Whole = Callable[[list[F64], F64], list[TokenLoss]]  # log-probabilities of each side, mask -> losses of the sides
Truth = Callable[[list, F64], "torch.Tensor"]  # type: ignore[type-arg]


def assert_agrees(logps: list[F64], mask: F64, ours: Whole, truth: Truth) -> None:
    found = ours(logps, mask)
    tensors = [torch.tensor(logp, requires_grad=True) for logp in logps]
    wanted = truth(tensors, torch.tensor(mask))
    grads = torch.autograd.grad(wanted, tensors)
    assert math.fsum(side.value for side in found) == pytest.approx(wanted.item(), abs=TOLERANCE, rel=TOLERANCE)
    for side, grad in zip(found, grads, strict=True):
        np.testing.assert_allclose(side.grad_BT, grad.numpy(), atol=TOLERANCE, rtol=TOLERANCE)
        assert (side.grad_BT[mask == 0] == 0).all()


SEEDS = range(8)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("per_sequence", [False, True])
def test_sft(seed: int, per_sequence: bool) -> None:
    data = Data(seed)
    normalizer = tokens.rows_with_tokens if per_sequence else tokens.count
    assert_agrees(
        [data.logp("policy")],
        data.mask,
        lambda logps, mask: [tokens.sft(logps[0], mask, normalizer(mask), per_sequence=per_sequence)],
        lambda logps, mask: oracle.sft(logps[0], mask, per_sequence),
    )


DPOS = [
    DPO(),
    DPO(0.3, label_smoothing=0.2),
    DPO(0.7, "hinge"),
    DPO(0.2, "ipo"),
    DPO(0.5, "robust", label_smoothing=0.1),
    DPO(2.0, length_normalized=True),
    DPO(2.0, length_normalized=True, simpo_margin=0.5),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("settings", DPOS, ids=repr)
def test_dpo_and_its_variants(seed: int, settings: DPO) -> None:
    data = Data(seed)
    refs = [data.logp("reference 0"), data.logp("reference 1")]

    def ours(logps: list[F64], mask: F64) -> list[TokenLoss]:
        sides = [Answers.of(logp, ref, mask) for logp, ref in zip(logps, refs, strict=True)]
        return list(preference.dpo(sides[0], sides[1], settings, ROWS))

    def truth(logps: list, mask: F64):  # type: ignore[no-untyped-def, type-arg]
        sides = [(logp, torch.tensor(ref), mask) for logp, ref in zip(logps, refs, strict=True)]
        return oracle.dpo(
            sides,
            settings.beta,
            settings.loss,
            settings.label_smoothing,
            settings.length_normalized,
            settings.simpo_margin,
        )

    assert_agrees([data.logp("chosen"), data.logp("rejected")], data.mask, ours, truth)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kl", [-0.4, 0.0, 0.8])
def test_kto(seed: int, kl: float) -> None:
    data = Data(seed)
    reference, good = data.logp("reference"), [bool(i) for i in data.integers("good", 2)]
    settings = KTO(0.4, 1.0, 1.3)
    assert_agrees(
        [data.logp("policy")],
        data.mask,
        lambda logps, mask: [preference.kto(Answers.of(logps[0], reference, mask), good, kl, settings, ROWS)],
        lambda logps, mask: oracle.kto((logps[0], torch.tensor(reference), mask), good, kl, 0.4, (1.0, 1.3)),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_orpo(seed: int) -> None:
    data = Data(seed)

    def ours(logps: list[F64], mask: F64) -> list[TokenLoss]:
        sides = [Answers.of(logp, np.zeros_like(logp), mask) for logp in logps]
        return list(preference.orpo(sides[0], sides[1], 0.6, tokens.count(mask), ROWS))

    assert_agrees(
        [data.logp("chosen"), data.logp("rejected")],
        data.mask,
        ours,
        lambda logps, mask: oracle.orpo([(logp, mask) for logp in logps], 0.6),
    )


POLICIES = [
    *[policy.variant(name, LENGTH) for name in policy.VARIANTS],
    GRPO(beta=0.3),
    GRPO(beta=0.2, mean="token", dual_clip=1.4),
    GRPO(ratio="none", beta=0.1, advantage="leave_one_out"),
    GRPO(ratio="sequence", mean="token", clip_low=0.05, clip_high=0.05),
    GRPO(ratio="clipped_weight", clip_low=0.1, clip_high=0.1),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("settings", POLICIES, ids=repr)
def test_policy_losses(seed: int, settings: GRPO) -> None:
    data = Data(seed)
    old, advantage = data.logp("old"), data.array("advantage", 4.0, -2.0)
    reference = data.logp("reference") if settings.beta else None

    def ours(logps: list[F64], mask: F64) -> list[TokenLoss]:
        sampled = Sampled(old, advantage, mask, reference)
        return [policy.policy_loss(logps[0], sampled, settings, policy.normalizer(mask, settings))]

    words = {
        "ratio": settings.ratio,
        "mean": settings.mean,
        "lo": settings.clip_low,
        "hi": settings.clip_high,
        "beta": settings.beta,
        "dual": settings.dual_clip,
        "max_tokens": settings.max_tokens,
    }
    ref = None if reference is None else torch.tensor(reference)
    assert_agrees(
        [data.logp("policy")],
        data.mask,
        ours,
        lambda logps, mask: oracle.grpo(logps[0], torch.tensor(old), ref, torch.tensor(advantage), mask, words),
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("clip", [0.0, 0.2])
def test_value_loss(seed: int, clip: float) -> None:
    data = Data(seed)
    values, old, returns, mask = data.array("v"), data.array("o"), data.array("r"), data.mask
    found = policy.value_loss(values, old, returns, mask, tokens.count(mask), clip=clip)
    tensor = torch.tensor(values, requires_grad=True)
    wanted = oracle.value(tensor, *(torch.tensor(array) for array in (old, returns, mask)), clip)
    assert math.fsum(found.rows_B) == pytest.approx(wanted.item(), abs=TOLERANCE)
    np.testing.assert_allclose(found.grad_BT, torch.autograd.grad(wanted, tensor)[0].numpy(), atol=TOLERANCE)


def test_reward_model_against_autograd() -> None:
    c, r = derive(1, "c").normal(7), derive(1, "r").normal(7)
    ct, rt = (torch.tensor(x, requires_grad=True) for x in (c, r))
    wanted = (-torch.nn.functional.logsigmoid(ct - rt - 0.3) + 0.05 * (ct + rt) ** 2).mean()
    grads = torch.autograd.grad(wanted, (ct, rt))
    rows, dc, dr = preference.bradley_terry(c, r, 7, margin=0.3, center=0.05)
    assert math.fsum(rows) == pytest.approx(wanted.item(), abs=TOLERANCE)
    np.testing.assert_allclose(dc, grads[0].numpy(), atol=TOLERANCE)
    np.testing.assert_allclose(dr, grads[1].numpy(), atol=TOLERANCE)


def test_stats_are_sums_of_what_they_are_called() -> None:
    data = Data(4)
    mask, logp, old, reference = data.mask, data.logp("p"), data.logp("o"), data.logp("r")
    inside = mask > 0
    ratio = np.exp((logp - old)[inside])
    found = policy.policy_loss(logp, Sampled(old, np.ones(ROWS), mask, reference), GRPO(beta=0.1), 3.0).stats
    gap = (reference - logp)[inside]
    wanted = {
        "tokens": mask.sum(),
        "ratio": ratio.sum(),
        "approx_kl": -(logp - old)[inside].sum(),
        "clipped": (ratio > 1.2).sum(),
        "kl": (np.exp(gap) - gap - 1).sum(),
    }
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
    sides = [Answers.of(data.logp(side), data.logp(f"{side} reference"), mask) for side in ("c", "d")]
    ratios = [(side.logp_BT - side.reference_BT).sum(1) for side in sides]
    stats = preference.dpo(sides[0], sides[1], DPO(0.3), ROWS)[0].stats
    assert stats["pairs"] == ROWS and stats["accuracy"] == (ratios[0] > ratios[1]).sum()
    assert stats["margin"] == pytest.approx(0.3 * (ratios[0] - ratios[1]).sum())
    assert stats["chosen_reward"] == pytest.approx(0.3 * ratios[0].sum())
    assert stats["rejected_reward"] == pytest.approx(0.3 * ratios[1].sum())
    near = Answers.of(logp, np.where(inside, logp - 0.01, 0.0), mask)  # every log-ratio is between 0 and 1
    level = Answers.of(logp, logp, mask)
    assert preference.dpo(near, level, DPO(0.3), ROWS)[0].stats["accuracy"] == ROWS
    assert preference.dpo(level, level, DPO(0.3), ROWS)[0].stats["accuracy"] == 0
    good = np.arange(ROWS) % 2 == 0
    liked = preference.kto(sides[0], good, 0.2, KTO(0.4), ROWS).stats
    assert liked["rows"] == ROWS and liked["desirable_reward"] == pytest.approx(0.4 * ratios[0][good].sum())
    assert liked["undesirable_reward"] == pytest.approx(0.4 * ratios[0][~good].sum())
    odds = preference.orpo(near, Answers.of(logp - 0.01, logp, mask), 0.1, mask.sum(), ROWS)[0].stats
    assert odds["pairs"] == odds["accuracy"] == ROWS and 0 < odds["log_odds"] < 1


def test_rows_without_a_token_are_no_sequences() -> None:
    assert tokens.rows_with_tokens([[0, 0], [0, 1], [1, 1]]) == 2 and tokens.count([[0, 0], [0, 1], [1, 1]]) == 3


# --- a batch may be cut anywhere ----------------------------------------------------------------------------


def cuts(seed: int) -> list[tuple[list[int], int]]:
    """Random factorisations: the rows in another order in pieces, and how many positions of padding each gets."""
    order = [int(i) for i in derive(seed, "order").permutation(ROWS)]
    edges = sorted({0, ROWS, *(int(i) for i in derive(seed, "cut").below(ROWS, 3))})
    return [(order[a:b], int(derive(seed, "pad", a).below(4, 1)[0])) for a, b in zip(edges, edges[1:], strict=False)]


def padded(array: F64, rows: list[int], extra: int, left: bool) -> F64:
    return np.pad(array[rows], ((0, 0), (extra, 0) if left else (0, extra)))


@pytest.mark.parametrize("settings", POLICIES, ids=repr)
def test_policy_losses_do_not_depend_on_the_cut(settings: GRPO) -> None:
    for seed in range(40):
        data, left = Data(seed), seed % 2 == 0
        logp, old, advantage, mask = data.logp("p"), data.logp("o"), data.array("a", 4.0, -2.0), data.mask
        reference = data.logp("reference") if settings.beta else None
        normalizer = policy.normalizer(mask, settings)
        whole = policy.policy_loss(logp, Sampled(old, advantage, mask, reference), settings, normalizer)
        rows, shares = [], []
        for piece, extra in cuts(seed):
            given = [padded(x, piece, extra, left) for x in (old, advantage, mask)]
            ref = None if reference is None else padded(reference, piece, extra, left)
            sampled = Sampled(given[0], given[1], given[2], ref)
            part = policy.policy_loss(padded(logp, piece, extra, left), sampled, settings, normalizer)
            rows += piece
            shares += part.rows_B.tolist()
            inside = slice(extra, None) if left else slice(0, LENGTH)
            np.testing.assert_allclose(part.grad_BT[:, inside], whole.grad_BT[piece], rtol=1e-13, atol=1e-15)
        assert sorted(rows) == list(range(ROWS))
        assert math.fsum(shares) == pytest.approx(whole.value, rel=1e-13, abs=1e-15)


def test_the_value_of_a_batch_is_the_same_bits_in_any_order_of_its_rows() -> None:
    data = Data(3)
    logp, mask = data.logp("p"), data.mask
    whole = tokens.sft(logp, mask, tokens.count(mask))
    for seed in range(50):
        order = derive(seed, "order").permutation(ROWS)
        parts = [tokens.sft(logp[order[a:b]], mask[order[a:b]], tokens.count(mask)) for a, b in ((0, 2), (2, 6))]
        both = tokens.merged(parts)
        assert both.value == whole.value
        assert (both.grad_BT == whole.grad_BT[order]).all()
        assert both.stats["tokens"] == tokens.count(mask)


def test_preference_losses_do_not_depend_on_the_cut() -> None:
    for seed in range(40):
        data = Data(seed)
        arrays = [data.logp(name) for name in ("c", "rc", "r", "rr")]
        mask = data.mask
        for settings in DPOS:
            sides = Answers.of(arrays[0], arrays[1], mask), Answers.of(arrays[2], arrays[3], mask)
            whole = preference.dpo(*sides, settings, ROWS)
            value = []
            for piece, _ in cuts(seed):
                cut = [Answers.of(a[piece], b[piece], mask[piece]) for a, b in (arrays[:2], arrays[2:])]
                part = preference.dpo(cut[0], cut[1], settings, ROWS)
                value += part[0].rows_B.tolist()
                np.testing.assert_array_equal(part[1].grad_BT, whole[1].grad_BT[piece])
            assert math.fsum(value) == whole[0].value


# --- what is refused ----------------------------------------------------------------------------------------


def test_a_batch_without_a_counted_token_is_refused() -> None:
    zeros = np.zeros((2, 3))
    with pytest.raises(UsageError, match="every label is masked"):
        tokens.sft(zeros, zeros, tokens.count(zeros))
    with pytest.raises(UsageError, match="answer 0 has no token"):
        Answers.of(zeros, zeros, zeros)


def test_shapes_and_values_that_are_wrong_are_refused() -> None:
    ones = np.ones((2, 3))
    with pytest.raises(UsageError, match="have shape"):
        tokens.sft(np.zeros((2, 2)), ones, 6)
    with pytest.raises(UsageError, match="row 1 has a token"):
        tokens.sft(np.array([[0.0, 0, 0], [0, np.nan, 0]]), ones, 6)
    with pytest.raises(UsageError, match="of 0 and 1"):
        tokens.sft(ones, ones * 0.5, 3)
    with pytest.raises(UsageError, match="needs the reference"):
        policy.policy_loss(-ones, Sampled(-ones, ones, ones), GRPO(beta=0.1), 6)
    with pytest.raises(UsageError, match="is not a number"):
        policy.policy_loss(-ones, Sampled(-ones, np.array([np.nan, 0.0]), ones), GRPO(), 2)
    for wrong in (
        lambda: DPO(loss="sigmod"),
        lambda: DPO(label_smoothing=0.5),
        lambda: DPO(beta=0.0),
        lambda: GRPO(ratio="tokens"),
        lambda: GRPO(mean="constant"),
        lambda: GRPO(dual_clip=0.5),
        lambda: GRPO(clip_low=-1),
        lambda: policy.variant("grpoo", 8),
        lambda: adv.advantages([[1.0, np.inf]]),
    ):
        with pytest.raises(UsageError):
            wrong()
