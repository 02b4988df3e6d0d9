"""Actions on registered models: find, show, history, promote, quarantine, roll back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alexandra.errors import RegistryError
from alexandra.lang.rules import default_rules, load_rules
from alexandra.registry import lifecycle
from alexandra.registry.artifact import AuditEntry, ModelVersion
from alexandra.registry.lifecycle import GateDecision
from alexandra.registry.store import Registry
from alexandra.serve.engine import Engine
from alexandra.train.protect import protect
from alexandra.train.specialist import Specialist

DEFAULT_REGISTRY = ".alexandra"
Store = str | Path | Registry | None


def open_registry(registry: Store) -> Registry:
    """A Registry as it is, or the one at a folder or URL (default: .alexandra in the working folder)."""
    return registry if isinstance(registry, Registry) else Registry(registry or DEFAULT_REGISTRY)


def find(
    registry: Store, *, task: str = "", stage: str = "", tags: Sequence[str] = (), limit: int = 50
) -> list[ModelVersion]:
    """Versions that meet every criterion, newest first; an unknown task is an error."""
    store = open_registry(registry)
    if task:
        store.versions(task)
    return store.search(task=task or None, stage=stage or None, tags=tags, limit=limit)


def get(ref: str, registry: Store) -> ModelVersion:
    """The version that `ref` names."""
    return open_registry(registry).get(ref)


def history(task: str, registry: Store) -> list[AuditEntry]:
    """Every move of a task's models, oldest first."""
    return open_registry(registry).history(task)


def promote(
    ref: str, registry: Store, *, force: bool = False, reason: str = "", rules: Path | None = None
) -> GateDecision:
    """Offer a version to the gate `production` (of `rules`, else the default); RegistryError when it refuses.

    The tasks that the version's task protects are compared first, as solve does.
    """
    store = open_registry(registry)
    gate = (default_rules() if rules is None else load_rules(rules)).gate("production")
    version = store.get(ref)
    names = lifecycle.protected_tasks(version)
    if force or not names:
        return lifecycle.promote(store, version, gate, None if names else {}, force=force, reason=reason)
    member = Engine(store).specialist(version)
    if not isinstance(member, Specialist):
        raise RegistryError(f"{ref} cannot be compared with the tasks that its task protects: {', '.join(names)}")
    protection = protect(store, names, member)
    if protection.trouble:
        lifecycle.refuse(store, version, protection.trouble)
        missed = "; ".join(map(str, protection.trouble))
        raise RegistryError(
            f"{ref} is not promoted: {missed}", hint="promote it by force with a reason, or change PROTECT"
        )
    return lifecycle.promote(store, version, gate, protection.pairs, reason=reason)


def quarantine(ref: str, registry: Store, *, reason: str) -> ModelVersion:
    """Withdraw a version; `reason` is kept in the history."""
    return lifecycle.quarantine(open_registry(registry), ref, reason)


def rollback(task: str, registry: Store, *, reason: str = "") -> ModelVersion:
    """Put the previous production version back."""
    return lifecycle.rollback(open_registry(registry), task, reason)
