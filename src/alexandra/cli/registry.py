"""Registered models: list, show, promote, quarantine, roll back. Heavy modules are imported inside the commands."""

from __future__ import annotations

from typing import Annotated

import typer

from alexandra.cli.options import DEFAULT_STORE, Json, Store, show


def registry_list(
    task: Annotated[str, typer.Option(help="Only this task.")] = "",
    stage: Annotated[str, typer.Option(help="Only this stage.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag; repeat for more.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.")] = 50,
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """List registered models.

    Example: alexandra registry list --stage production
    """
    from alexandra.api import json_records, models, render

    found = models.find(registry, task=task, stage=stage, tags=tuple(tag or ()), limit=limit)
    show([json_records.version(one) for one in found], as_json, lambda: render.versions(found))


def registry_show(ref: str, registry: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Everything known of one model.

    Example: alexandra registry show churn@production
    """
    from alexandra.api import json_records, models, render

    version = models.get(ref, registry)
    show(json_records.details(version), as_json, lambda: render.details(version))


def registry_history(task: str, registry: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Every move of a task's models: who, when, why.

    Example: alexandra registry history churn
    """
    from alexandra.api import json_records, models, render

    entries = models.history(task, registry)
    show([json_records.audit(entry) for entry in entries], as_json, lambda: render.history(entries))


def registry_promote(
    ref: str,
    reason: Annotated[str, typer.Option(help="Needed with --force; kept in the history.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Promote although the gate refuses.")] = False,
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Put a model into production, if the gate agrees.

    Example: alexandra registry promote churn:3
    """
    from alexandra.api import json_records, models, render

    decision = models.promote(ref, registry, reason=reason, force=force)
    show(json_records.gate(decision), as_json, lambda: render.gate(ref, decision))


def registry_quarantine(
    ref: str,
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")],
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Take a model out of service.

    Example: alexandra registry quarantine churn:3 --reason "wrong prices in May"
    """
    from alexandra.api import json_records, models

    version = models.quarantine(ref, registry, reason=reason)
    show(json_records.version(version), as_json, lambda: f"{version.task}:{version.version} is in quarantine")


def registry_rollback(
    task: str,
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")] = "",
    registry: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Put the previous production model back.

    Example: alexandra registry rollback churn
    """
    from alexandra.api import json_records, models

    version = models.rollback(task, registry, reason=reason)
    show(
        json_records.version(version),
        as_json,
        lambda: f"production of {task} is v{version.version} {version.name} again",
    )
