"""Stages and who may move between them: promotion through a gate, quarantine, archive, rollback.

A gate's REQUIRE conditions are decided on the version's own facts and on paired tests against production and
the protected tasks, item by item. Every move is one transaction with its line in the audit log, the decision
and all measured figures included. Conditions themselves are lang/conditions.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from alexandra.errors import AbstainError, DataError, NotFoundError, RegistryError, TaskError
from alexandra.lang.conditions import Comparison, Decision, Reason, evaluate
from alexandra.lang.rules import default_rules
from alexandra.lang.rules_spec import Gate
from alexandra.lang.task import parse_task
from alexandra.metrics import Metric
from alexandra.records import EMPTY, Outcomes
from alexandra.registry import audit
from alexandra.registry.artifact import AuditEntry, ModelVersion
from alexandra.registry.facts import facts_of
from alexandra.registry.rows import version_of
from alexandra.registry.schema import VERSIONS, Row, select_rows, update
from alexandra.registry.serving import read_serving, reset_serving
from alexandra.registry.store import Registry
from alexandra.statistics import paired

PRODUCTION = "production"

# stage -> where a version may go from there; production is entered by promote and rollback alone.
TRANSITIONS: dict[str, tuple[str, ...]] = {
    "experiment": (PRODUCTION, "quarantine", "archived"),
    PRODUCTION: ("quarantine", "archived"),
    "quarantine": ("experiment", "archived"),
    "archived": (PRODUCTION, "experiment", "quarantine"),
}

_TRIES = 5

# Outcomes of a protected task before and after the change, by task.
Protected = Mapping[str, tuple[Outcomes, Outcomes]]


@dataclass(frozen=True)
class GateDecision:
    """What a gate decided about `version`; `version.stage` is its stage afterwards.

    `rival` is the version that was in production when it was decided, None when there was none.
    """

    gate: str
    version: ModelVersion
    passed: bool
    reasons: tuple[Reason, ...]
    forced: bool = False
    rival: int | None = None

    def words(self) -> str:
        """One line a requirement."""
        return Decision(self.passed, self.reasons).words()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as the audit log keeps it."""
        reasons = [{"text": one.text, "passed": one.passed, "words": one.words} for one in self.reasons]
        about = {"gate": self.gate, "passed": self.passed, "forced": self.forced, "rival": self.rival}
        return {**about, "reasons": reasons}


# ---------------------------------------------------------------- gates


def evaluate_gate(
    registry: Registry,
    ref: str | ModelVersion,
    gate: Gate | None = None,
    metric: str | Metric | None = None,
    protected: Protected | None = None,
) -> GateDecision:
    """Decide the gate (default: the shipped `production`) for a version; nothing moves.

    `metric` is what production is compared in (default: the version's own); a protected task is compared in the
    metric of its version in production. Beside what the gate requires, the version must have passed its own check,
    where its lineage has one. `protected` None means that no comparison was made: then a version whose task names
    protected tasks does not pass.
    """
    gate = gate or default_rules().gate(PRODUCTION)
    with registry.database.read() as connection:
        row = registry.row_of(connection, ref)
        version = version_of(connection, row)
        facts = facts_of(version, read_serving(connection, row))
        rivals = select_rows(connection, VERSIONS, VERSIONS.c.task == version.task, VERSIONS.c.stage == PRODUCTION)
        rival = version_of(connection, rivals[0]) if rivals else None
    compare = _Comparisons(registry, version, rival, metric or version.metric, protected)
    decisions = [evaluate(condition, facts, compare) for condition in gate.require]
    own = _own_check(version)
    reasons = (*own, *(compare.explained(reason) for one in decisions for reason in one.reasons))
    passed = all(one.passed for one in decisions) and all(one.passed for one in own)
    return GateDecision(gate.name, version, passed, reasons, rival=rival.version if rival else None)


def _own_check(version: ModelVersion) -> tuple[Reason, ...]:
    """Whether the version passed the check of its task, as its lineage says; nothing where it says nothing."""
    found = version.lineage.get("check")
    if not isinstance(found, Mapping) or "passed" not in found:
        return ()
    words = "; ".join(map(str, found.get("reasons", ())))
    return (Reason("the task's own check", bool(found["passed"]), words or "no reasons were kept"),)


def protected_tasks(version: ModelVersion) -> tuple[str, ...]:
    """The tasks that PROTECT names in the task of `version`, as its lineage keeps it."""
    text = version.lineage.get("task")
    return parse_task(str(text), f"<task of {version.ref}>").protect if text else ()


class _Comparisons:
    """Answers better(...) and no_worse(...) by paired tests on per-item outcomes; remembers why one failed."""

    def __init__(
        self,
        registry: Registry,
        version: ModelVersion,
        rival: ModelVersion | None,
        metric: str | Metric,
        protected: Protected | None,
    ) -> None:
        self.registry = registry
        self.version = version
        self.rival = rival
        self.metric = metric
        self.protected: Protected = protected or {}
        self.unmade = () if protected is not None else protected_tasks(version)
        self.trouble: dict[str, str] = {}

    def __call__(self, reference: str, test: str) -> Sequence[Comparison] | None:
        try:
            if reference == PRODUCTION:
                return self._production(test)
            if reference == "protected" and self.unmade:
                raise TaskError(f"its task protects {', '.join(self.unmade)}, and no comparison was made")
            if reference == "protected":
                return [self._protected(task, *pair, test) for task, pair in sorted(self.protected.items())]
        except (DataError, TaskError) as error:
            self.trouble[reference] = error.message
        return None

    def explained(self, reason: Reason) -> Reason:
        """The reason with what went wrong in its comparison, if anything did."""
        for reference, trouble in self.trouble.items():
            if reason.passed is None and f"({reference}" in reason.text:
                return replace(reason, words=f"{reason.words}: {trouble}")
        return reason

    def _production(self, test: str) -> list[Comparison]:
        if self.rival is None or self.rival.id == self.version.id:
            return []
        ours, theirs = (self.registry.scorecard(one).outcomes for one in (self.version, self.rival))
        return [Comparison(f"production v{self.rival.version}", paired(self.metric, ours, theirs, method=test))]

    def _protected(self, task: str, before: Outcomes, after: Outcomes, test: str) -> Comparison:
        try:
            metric: str | Metric = self.registry.get(task).metric
        except (NotFoundError, AbstainError):
            metric = self.metric
        return Comparison(task, paired(metric, after, before, method=test))


# ---------------------------------------------------------------- moves


def try_promote(
    registry: Registry,
    ref: str | ModelVersion,
    gate: Gate | None = None,
    metric: str | Metric | None = None,
    protected: Protected | None = None,
    reason: str = "",
) -> GateDecision:
    """Promote a version if the gate lets it; the decision says whether it did. A refusal is audited, too."""
    for _ in range(_TRIES):
        decision = evaluate_gate(registry, ref, gate, metric, protected)
        version = decision.version
        if version.stage == PRODUCTION:
            return replace(decision, passed=True, reasons=(Reason("stage", True, f"{version.ref} is in production"),))
        if PRODUCTION not in TRANSITIONS[version.stage]:
            return replace(decision, passed=False, reasons=(Reason("stage", False, _forbidden(version, PRODUCTION)),))
        if not decision.passed:
            _note_refusal(registry, decision, reason)
            return decision
        promoted = _promote(registry, decision, reason)
        if promoted is not None:
            return promoted
    raise RegistryError(f"the production of {version.task!r} changed {_TRIES} times during the test", hint="try again")


def promote(
    registry: Registry,
    ref: str | ModelVersion,
    gate: Gate | None = None,
    protected: Protected | None = None,
    *,
    force: bool = False,
    reason: str = "",
) -> GateDecision:
    """Promote through the gate, RegistryError with every missed requirement when it refuses.

    `force` promotes all the same; it needs a `reason`, and the audit log keeps both with the gate's decision.
    """
    if force and not audit.printable(reason):
        raise RegistryError("a forced promotion needs a reason", hint='add --reason "why the gate is overruled"')
    if not force:
        decision = try_promote(registry, ref, gate, None, protected, reason)
    else:
        decision = replace(evaluate_gate(registry, ref, gate, None, protected), forced=True)
        _check_move(decision.version, PRODUCTION)
        decision = _promote(registry, decision, reason, any_rival=True) or decision
    if not decision.passed and not force:
        missed = "\n".join(f"  {one}" for one in decision.reasons if one.passed is not True)
        hint = "improve the model, or promote it by force with a reason"
        raise RegistryError(f"the gate {decision.gate!r} refuses {decision.version.ref}:\n{missed}", hint=hint)
    return decision


def _promote(registry: Registry, decision: GateDecision, reason: str, any_rival: bool = False) -> GateDecision | None:
    """Archive the present production and put the version in its place; None when production has changed since."""
    version = decision.version
    with registry.database.write() as connection:
        rivals = select_rows(connection, VERSIONS, VERSIONS.c.task == version.task, VERSIONS.c.stage == PRODUCTION)
        judged_against = [] if decision.rival is None else [decision.rival]
        if not any_rival and [row["version"] for row in rivals] != judged_against:
            return None
        row = registry.row_of(connection, version)
        _check_move(version_of(connection, row), PRODUCTION)
        for rival in rivals:
            note = f"replaced by version {version.version}"
            _move(connection, registry.actor, "archive", rival, "archived", reason=note)
        row = _move(connection, registry.actor, "promote", row, PRODUCTION, reason=reason, decision=decision.to_dict())
        reset_serving(connection, row)
        return replace(decision, version=version_of(connection, row))


def quarantine(
    registry: Registry, ref: str | ModelVersion, reason: str, decision: Mapping[str, Any] = EMPTY
) -> ModelVersion:
    """Withdraw a version: it answers nobody until it is reinstated. A task alone means its production."""
    if not audit.printable(reason):
        raise RegistryError("a quarantine needs a reason", hint='add --reason "what is wrong"')
    return _simple_move(registry, ref, "quarantine", "quarantine", reason, decision)


def archive(registry: Registry, ref: str | ModelVersion, reason: str = "") -> ModelVersion:
    """Put a version aside; it can be promoted or reinstated later."""
    return _simple_move(registry, ref, "archive", "archived", reason)


def reinstate(registry: Registry, ref: str | ModelVersion, reason: str = "") -> ModelVersion:
    """Bring a quarantined or archived version back as an experiment, which may be promoted again."""
    return _simple_move(registry, ref, "reinstate", "experiment", reason)


def rollback(registry: Registry, task: str, reason: str = "") -> ModelVersion:
    """Give production back to the version that held it before; the present one, if any, is archived.

    Rolling back twice goes back twice. Versions that were withdrawn since are passed over.
    """
    with registry.database.write() as connection:
        rows = {row["version"]: row for row in select_rows(connection, VERSIONS, VERSIONS.c.task == task)}
        if not rows:
            registry.way_out(connection, task)
        line = production_line(audit.entries(connection, task))
        current = next((row for row in rows.values() if row["stage"] == PRODUCTION), None)
        earlier = [number for number in line if current is None or number != current["version"]]
        usable = [number for number in earlier if PRODUCTION in TRANSITIONS[rows[number]["stage"]]]
        if not usable:
            now = f"version {current['version']} is its first" if current else "it never had one"
            hint = "alexandra registry history shows what was"
            raise RegistryError(f"task {task!r} has no earlier production to go back to: {now}", hint=hint)
        if current is not None:
            note = f"rolled back to version {usable[-1]}"
            _move(connection, registry.actor, "archive", current, "archived", reason=note)
        row = _move(connection, registry.actor, "rollback", rows[usable[-1]], PRODUCTION, reason=reason)
        reset_serving(connection, row)
        return version_of(connection, row)


def production_line(entries: Sequence[AuditEntry]) -> list[int]:
    """Versions that hold or held production and may again, earliest first: promotions in order, less withdrawals."""
    line: list[int] = []
    for entry in entries:
        if entry.action == "promote":
            line = [number for number in line if number != entry.version] + [entry.version]
        elif entry.action == "rollback" and entry.version in line:
            line = line[: line.index(entry.version) + 1]
        elif entry.action in ("quarantine", "reinstate"):
            line = [number for number in line if number != entry.version]
    return line


def review(registry: Registry, ref: str | ModelVersion, gate: Gate | None = None) -> Decision | None:
    """Quarantine a version if one of the gate's QUARANTINE WHEN holds; returns that decision, else None."""
    gate = gate or default_rules().gate(PRODUCTION)
    with registry.database.read() as connection:
        row = registry.row_of(connection, ref)
        version = version_of(connection, row)
        facts = facts_of(version, read_serving(connection, row), "quarantine")
    for condition in gate.quarantine:
        decision = evaluate(condition, facts)
        if decision.passed:
            held = [reason for reason in decision.reasons if reason.passed]
            evidence = GateDecision(gate.name, version, True, tuple(held)).to_dict()
            quarantine(registry, version, "; ".join(map(str, held)), evidence)
            return decision
    return None


# ---------------------------------------------------------------- one move


def _simple_move(
    registry: Registry,
    ref: str | ModelVersion,
    action: str,
    target: str,
    reason: str,
    decision: Mapping[str, Any] = EMPTY,
) -> ModelVersion:
    with registry.database.write() as connection:
        row = registry.row_of(connection, ref)
        _check_move(version_of(connection, row), target)
        row = _move(connection, registry.actor, action, row, target, reason=reason, decision=decision)
        return version_of(connection, row)


def _move(
    connection: Connection,
    actor: str,
    action: str,
    row: Row,
    target: str,
    *,
    reason: str = "",
    decision: Mapping[str, Any] = EMPTY,
) -> Row:
    audit.append(connection, actor, action, row, target=target, reason=reason, decision=decision)
    return update(connection, VERSIONS, row, stage=target)


def _check_move(version: ModelVersion, target: str) -> None:
    if target not in TRANSITIONS[version.stage]:
        raise RegistryError(_forbidden(version, target))


def _forbidden(version: ModelVersion, target: str) -> str:
    if version.stage == target:
        return f"{version.ref} is in stage {target!r} already"
    allowed = ", ".join(TRANSITIONS[version.stage])
    return f"{version.ref} cannot go from {version.stage!r} to {target!r}; allowed from there: {allowed}"


def refuse(registry: Registry, ref: str | ModelVersion, reasons: Sequence[Reason]) -> GateDecision:
    """Refuse a promotion for reasons outside the gate (a protected task that could not be compared); audited."""
    with registry.database.read() as connection:
        version = version_of(connection, registry.row_of(connection, ref))
    decision = GateDecision(PRODUCTION, version, False, tuple(reasons))
    _note_refusal(registry, decision, "")
    return decision


def _note_refusal(registry: Registry, decision: GateDecision, reason: str) -> None:
    with registry.database.write() as connection:
        row = registry.row_of(connection, decision.version)
        audit.append(
            connection,
            registry.actor,
            "refuse",
            row,
            target=row["stage"],
            reason=reason,
            decision=decision.to_dict(),
        )
