"""Alexandra: describe a task and how to check it; grow a specialist that passes the check and proves it.

    import alexandra as ax
    s = ax.solve("customers.csv", target="Churn")

Every public name is looked up in `_SURFACE` when it is first used (PEP 562): importing the package loads no other
module, not even NumPy. The imports under TYPE_CHECKING say the same to type checkers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexandra import curriculum, maths, train
    from alexandra.api.foreign import register
    from alexandra.api.operations import evaluate, load, solve
    from alexandra.api.verify import verify
    from alexandra.backends import huggingface
    from alexandra.backends.foreign import wrap
    from alexandra.errors import (
        AbstainError,
        AlexandraError,
        BackendError,
        ConfigError,
        DataError,
        GraphError,
        LanguageError,
        MissingExtraError,
        NotFoundError,
        RegistryError,
        StorageError,
        TaskError,
        UsageError,
        VerifierError,
        WeightsError,
    )
    from alexandra.ir import build as net
    from alexandra.lang.nureon import compile_network as compile
    from alexandra.lang.task_spec import Task
    from alexandra.records import Claim, Verdict
    from alexandra.registry.oracle import Oracle
    from alexandra.registry.store import Registry
    from alexandra.train.estimators import Classifier, Regressor
    from alexandra.train.fits import Fit
    from alexandra.train.model import bind
    from alexandra.train.population import fit_many

__version__ = "0.1.0"

__all__ = [
    "AbstainError",
    "AlexandraError",
    "BackendError",
    "Claim",
    "Classifier",
    "ConfigError",
    "DataError",
    "Fit",
    "GraphError",
    "LanguageError",
    "MissingExtraError",
    "NotFoundError",
    "Oracle",
    "Registry",
    "RegistryError",
    "Regressor",
    "StorageError",
    "Task",
    "TaskError",
    "UsageError",
    "Verdict",
    "VerifierError",
    "WeightsError",
    "__version__",
    "bind",
    "compile",
    "curriculum",
    "evaluate",
    "fit_many",
    "huggingface",
    "load",
    "maths",
    "net",
    "register",
    "solve",
    "train",
    "verify",
    "wrap",
]

# name -> "module:attribute" inside the package; an empty attribute is the module itself
_SURFACE = {
    "AbstainError": "errors:AbstainError",
    "AlexandraError": "errors:AlexandraError",
    "BackendError": "errors:BackendError",
    "Claim": "records:Claim",
    "Classifier": "train.estimators:Classifier",
    "ConfigError": "errors:ConfigError",
    "DataError": "errors:DataError",
    "Fit": "train.fits:Fit",
    "GraphError": "errors:GraphError",
    "LanguageError": "errors:LanguageError",
    "MissingExtraError": "errors:MissingExtraError",
    "NotFoundError": "errors:NotFoundError",
    "Oracle": "registry.oracle:Oracle",
    "Registry": "registry.store:Registry",
    "RegistryError": "errors:RegistryError",
    "Regressor": "train.estimators:Regressor",
    "StorageError": "errors:StorageError",
    "Task": "lang.task_spec:Task",
    "TaskError": "errors:TaskError",
    "UsageError": "errors:UsageError",
    "Verdict": "records:Verdict",
    "VerifierError": "errors:VerifierError",
    "WeightsError": "errors:WeightsError",
    "bind": "train.model:bind",
    "compile": "lang.nureon:compile_network",
    "curriculum": "curriculum:",
    "evaluate": "api.operations:evaluate",
    "fit_many": "train.population:fit_many",
    "huggingface": "backends.huggingface:",
    "load": "api.operations:load",
    "maths": "maths:",
    "net": "ir.build:",
    "register": "api.foreign:register",
    "solve": "api.operations:solve",
    "train": "train:",
    "verify": "api.verify:verify",
    "wrap": "backends.foreign:wrap",
}


def __getattr__(name: str) -> Any:
    """Import what stands behind a public name, once."""
    if name not in _SURFACE:
        raise AttributeError(f"module 'alexandra' has no attribute {name!r}")
    from importlib import import_module

    module_name, _, attribute = _SURFACE[name].partition(":")
    module = import_module(f"alexandra.{module_name}")
    value = getattr(module, attribute) if attribute else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
