"""From a recipe to a stage: the model, its text, its data, its objective. Nothing is trained here.

Everything that can be wrong with a recipe and its data is found before the first step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.backends.base import Model
from alexandra.backends.bind import bind
from alexandra.backends.foreign import Foreign
from alexandra.errors import DataError, UsageError, suggest
from alexandra.ir.adapters import Adapted, adapted
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet
from alexandra.objectives.distillation import Distillation
from alexandra.objectives.policy import GRPO, variant
from alexandra.objectives.preference import DPO, KTO
from alexandra.train.lm import examples
from alexandra.train.lm.average import Averaged
from alexandra.train.lm.batch import Row, cut
from alexandra.train.lm.chat import TEMPLATES, Template
from alexandra.train.lm.constitution import Constitution, read_constitution, rule_judges
from alexandra.train.lm.constitutional import Constitutional, ConstitutionalSettings
from alexandra.train.lm.critic import Critic, CriticJudge, longest_exchange
from alexandra.train.lm.deadline import TimedJudge
from alexandra.train.lm.dialogue import Dialogue
from alexandra.train.lm.distill import Distill, DistillSettings
from alexandra.train.lm.engines import engine_of
from alexandra.train.lm.fed import FedRun, Optimization
from alexandra.train.lm.folder import ModelFolder, fitted, read_model
from alexandra.train.lm.grpo import GroupPolicy, GRPOSettings
from alexandra.train.lm.hub import HubFolder, HubPolicy, is_hub, read_as_network, read_hub
from alexandra.train.lm.likelihood import Likelihood, LikelihoodSettings, Pretraining
from alexandra.train.lm.optimization import backend_of, execution_of, optimization_of
from alexandra.train.lm.outputs import EntropicPolicy, Outputs, logits_graph
from alexandra.train.lm.policy import NetworkPolicy
from alexandra.train.lm.ppo import PPOSettings, ProximalPolicy
from alexandra.train.lm.preference_stages import ORPO, Liking, PairRows, Preference, PreferenceSettings
from alexandra.train.lm.recipe import SAMPLING_STAGES, Recipe
from alexandra.train.lm.rejection import Rejection, RejectionSettings
from alexandra.train.lm.rewards import Judge, Mix, judge_of
from alexandra.train.lm.rollout import Actor, RolloutSettings, Task
from alexandra.train.lm.sampling import Sampling
from alexandra.train.lm.scores import RewardModel, ScoreModel, score_graph, score_weights
from alexandra.train.lm.sources import read_rows, token_parts
from alexandra.train.lm.stage import Metrics, Stage
from alexandra.train.lm.tokenizer import CharTokenizer, Tokenizer, load_tokenizer, same_tokens
from alexandra.train.lm.traces import Asked

Record = examples.Record
OPENING = 32  # characters of a text that a pre-trained model goes on from, to be read


@dataclass(frozen=True)
class Built:
    """A stage that is ready, and what its result is written with."""

    stage: Stage
    model: Model
    tokenizer: Tokenizer
    recipe: Recipe
    records: Sequence[Record]
    aside: Sequence[Record]
    asked: Asked | None = None
    hub: HubFolder | None = None
    updates: Mapping[str, FedRun] = field(default_factory=dict)
    adapted: Adapted | None = None

    @property
    def weights(self) -> WeightSet:
        """What the run is for: the trained weights of `graph`, or their average where the recipe wants one."""
        weights = self.stage.weights if isinstance(self.stage, Averaged) else self.model.weights
        return self.adapted.merged(weights) if self.adapted else weights

    @property
    def graph(self) -> Graph:
        """The network that is written: without adapters, which are merged into its weights."""
        return self.adapted.base if self.adapted else self.model.graph

    def merge_gap(self, tokens_BT: np.ndarray) -> float:
        """The largest difference of a logit between adapters beside the weights and merged into them."""
        if self.adapted is None:
            return float(self.model.inside.merge_gap(tokens_BT))  # type: ignore[attr-defined]
        rows = [row[:length] for row in tokens_BT.tolist() for length in range(1, len(row) + 1)]
        merged = bind(self.adapted.base, self.model.backend, self.adapted.merged(self.model.weights))
        beside, inside = (NetworkPolicy(model).next_logits(rows) for model in (self.model, merged))
        return float(np.abs(beside - inside).max())

    def norms(self) -> Metrics:
        """`grad_norm` of the step that was just done; "value_grad_norm" is that of PPO's critic."""
        found = {name: run.take_norm() for name, run in self.updates.items()}
        return {name: norm for name, norm in found.items() if not math.isnan(norm)}

    @property
    def rows(self) -> int:
        return len(self.records)

    @property
    def held_out(self) -> int:
        return len(self.aside)


@dataclass(frozen=True)
class Given:
    """What a caller hands over as values instead of naming it in the recipe; `launch` hears of its LaunchPlan."""

    model: ModelFolder | None = None
    data: Sequence[Record] | None = None
    held_out: Sequence[Record] | None = None
    rewards: tuple[Any, ...] = ()
    checks: tuple[Any, ...] = ()
    launch: Callable[[Any], None] | None = None


def build(recipe: Recipe, given: Given | None = None, folder: Path | None = None) -> Built:
    """The stage of `recipe`; paths in it are relative to `folder` (the recipe's). Raises UsageError, DataError."""
    return _Builder(recipe, given or Given(), folder or Path()).built()


class _Builder:
    def __init__(self, recipe: Recipe, given: Given, folder: Path) -> None:
        self.recipe, self.given, self.folder = recipe, given, folder
        self.template = _template(recipe.data.template)
        self.hub = None if given.model else self._hub()
        self.source = given.model or (None if self.hub else self._network())
        self.rows = read_rows(recipe, given.data, given.held_out, folder)
        self.train, self.held_out = self.rows.train, self.rows.held_out
        self.tokenizer = self._tokenizer()
        self.dialogue = Dialogue(self.tokenizer, self.template)
        self.graph = fitted(self.source.graph, self.tokenizer) if self.source else None
        self.updates: dict[str, FedRun] = {}
        self.adapted: dict[Model, Adapted] = {}

    def built(self) -> Built:
        makers: dict[str, Callable[[], tuple[Stage, Model]]] = {
            "pretrain": self._pretrain,
            "sft": self._sft,
            "dpo": self._preference,
            "orpo": self._preference,
            "kto": self._kto,
            "reward": self._reward,
            "ppo": self._ppo,
            "grpo": self._grpo,
            "distill": self._distill,
            "rejection": self._rejection,
            "constitution": self._constitution,
        }
        stage, model = makers[self.recipe.stage]()
        if self.recipe.train.ema:
            stage = Averaged(stage, model, self.recipe.train.ema, self.updates["grad_norm"].optimization.frozen)
        told = self._asked(model), self.hub, self.updates, self.adapted.get(model)
        return Built(stage, model, self.tokenizer, self.recipe, self.train, self.held_out, *told)

    # --- model, text, data ------------------------------------------------------------------------------

    def _place(self, path: str) -> Path:
        if not path:
            raise UsageError("the recipe names no model", hint='[model] path = "net.nl", or --model')
        return self.folder / path

    def _hub(self) -> HubFolder | None:
        """The transformers model that the recipe names, if it names one and torch is to run it."""
        config = self.recipe.model
        place = self._place(config.path)
        if not is_hub(place, config.path) or config.backend not in ("auto", "torch"):
            return None
        return read_hub(place, config.path, config.lora, config.lora_alpha)

    def _network(self) -> ModelFolder:
        config = self.recipe.model
        place = self._place(config.path)
        return read_as_network(place, config.path) if is_hub(place, config.path) else read_model(place)

    def _tokenizer(self) -> Tokenizer:
        config = self.recipe.tokenizer
        if config.path:
            return load_tokenizer(self.folder / config.path, eos=config.eos)
        own = self.hub or self.source
        if own is not None and own.tokenizer is not None:
            return own.tokenizer
        texts = [str(value) for row in (*self.train, *self.held_out) for value in _strings(row)]
        opening = [part for role in ("system", "user", "assistant", "tool") for part in self.template.around(role)]
        return CharTokenizer.of("".join([*texts, *opening]))

    def _model(self) -> tuple[Model, Optimization]:
        assert self.graph is not None and self.source is not None
        model, frozen = self._learner(self.graph, self.source.weights)
        return model, optimization_of(self.recipe, frozen)

    def _learner(self, graph: Graph, weights: WeightSet | None, whole: str = "") -> tuple[Model, tuple[str, ...]]:
        """A network of our own and what of it is frozen: with `lora` all but its adapters and the layer `whole`."""
        config, seed = self.recipe.model, self.recipe.seed
        if not config.lora:
            return self._bound(graph, weights), ()
        if weights is None:
            hint = "give the folder of a trained model, or train the whole network: without lora"
            raise UsageError(f"LoRA learns beside weights that stay, and network {graph.name!r} has none", hint=hint)
        made = adapted(graph, config.lora, config.lora_alpha or 2.0 * config.lora, (whole,) if whole else ())
        model = self._bound(made.graph, made.start(weights, seed))
        self.adapted[model] = made
        return model, made.frozen

    def _bound(self, graph: Graph, weights: WeightSet | None) -> Model:
        recipe = self.recipe
        threads, execution = recipe.model.threads, execution_of(recipe)
        return bind(graph, backend_of(recipe), weights, recipe.seed, threads, execution)

    def _policy(self) -> NetworkPolicy | HubPolicy:
        coefficient = self.recipe.rollout.entropy if self.recipe.stage in ("ppo", "grpo") else 0.0
        if self.hub is not None:
            return self._hub_policy(self.hub, coefficient)
        if not coefficient:
            return NetworkPolicy(*self._model())
        assert self.graph is not None
        self.graph = logits_graph(self.graph)
        return EntropicPolicy(*self._model(), coefficient)

    def _hub_policy(self, hub: HubFolder, entropy: float) -> HubPolicy:
        if entropy:
            raise UsageError(
                f"rollout.entropy={entropy:g} needs a network", hint='read the model as one: [model] backend = "native"'
            )
        policy = HubPolicy(self._hub_module(hub), optimization_of(self.recipe))
        if policy.vocab < self.tokenizer.vocab_size:
            raise DataError(f"the model has {policy.vocab} tokens, its tokenizer {self.tokenizer.vocab_size}")
        return policy

    def _hub_module(self, hub: HubFolder, *, scores: bool = False) -> Any:
        recipe = self.recipe
        return hub.module(recipe.seed, recipe.model.threads, scores=scores, execution=execution_of(recipe))

    def _trained_here(self) -> tuple[NetworkPolicy | HubPolicy, Model]:
        policy = self._policy()
        self.updates["grad_norm"] = policy.updates
        return policy, policy.model

    # --- stages -----------------------------------------------------------------------------------------

    def _pretrain(self) -> tuple[Stage, Model]:
        parts, aside = token_parts(self.rows, self.tokenizer, self.recipe.data.held_out)
        settings = self._likelihood(self.recipe.data.length or 128)
        policy, model = self._trained_here()
        sources = [(len(part), one.weight) for part, one in zip(parts, self.rows.parts, strict=True) if one.weight]
        return Pretraining(policy, np.concatenate(parts), settings, aside, sources), model

    def _likelihood(self, length: int) -> LikelihoodSettings:
        train = self.recipe.train
        return LikelihoodSettings(
            length, train.batch, train.pack, train.per_sequence, self.recipe.seed, self.tokenizer.pad
        )

    def _sft(self) -> tuple[Stage, Model]:
        train, held = self._rows(self.train), self._rows(self.held_out)
        length = self._length([*train, *held])
        policy, model = self._trained_here()
        return Likelihood(policy, _cut(train, length), self._likelihood(length), _cut(held, length)), model

    def _rows(self, records: Sequence[Record]) -> list[Row]:
        return [self.dialogue.whole(examples.conversation(record, i).messages) for i, record in enumerate(records)]

    def _length(self, rows: Sequence[Row]) -> int:
        return self.recipe.data.length or max(row.positions for row in rows)

    def _pairs(self, records: Sequence[Record]) -> list[PairRows]:
        found = [examples.pair(record, i) for i, record in enumerate(records)]
        answer = self.dialogue.answer
        return [PairRows(answer(p.prompt, p.chosen), answer(p.prompt, p.rejected)) for p in found]

    def _preference_settings(self, pairs: Sequence[PairRows]) -> PreferenceSettings:
        length = self._length([row for pair in pairs for row in (pair.chosen, pair.rejected)])
        return PreferenceSettings(length, self.recipe.train.batch, self.recipe.seed, self.tokenizer.pad)

    def _preference(self) -> tuple[Stage, Model]:
        train, held = self._pairs(self.train), self._pairs(self.held_out)
        settings = self._preference_settings([*train, *held])
        dpo = DPO(**self.recipe.dpo.model_dump())
        objective = dpo if self.recipe.stage == "dpo" else ORPO(self.recipe.orpo_weight)
        policy, model = self._trained_here()
        return Preference(policy, train, objective, settings, held_out=held), model

    def _kto(self) -> tuple[Stage, Model]:
        found = [examples.judged(record, i) for i, record in enumerate(self.train)]
        rows = []
        for i, one in enumerate(found):
            other = found[(i + 1) % len(found)]
            own, elsewhere = (self.dialogue.answer(prompt, one.completion) for prompt in (one.prompt, other.prompt))
            rows.append((own, elsewhere, one.desirable))
        length = self._length([row for own, other, _ in rows for row in (own, other)])
        settings = PreferenceSettings(length, self.recipe.train.batch, self.recipe.seed, self.tokenizer.pad)
        policy, model = self._trained_here()
        return Liking(policy, rows, KTO(**self.recipe.kto.model_dump()), settings), model

    def _scorer(self) -> ScoreModel:
        if self.hub is not None:
            inside = self._hub_module(self.hub, scores=True)
            return ScoreModel(Foreign(inside), optimization_of(self.recipe))
        assert self.graph is not None and self.source is not None
        graph = score_graph(self.graph)
        weights = score_weights(self.source.weights, graph, self.recipe.seed) if self.source.weights else None
        model, frozen = self._learner(graph, weights, graph.outputs[0].name)
        return ScoreModel(model, optimization_of(self.recipe), frozen)

    def _reward(self) -> tuple[Stage, Model]:
        train, held = self._pairs(self.train), self._pairs(self.held_out)
        settings = self._preference_settings([*train, *held])
        longer = PreferenceSettings(settings.length + 1, settings.batch_rows, settings.seed, settings.pad)
        scorer = self._scorer()
        self.updates["grad_norm"] = scorer.updates
        return RewardModel(scorer, train, longer, held_out=held), scorer.model

    def _tasks(self, records: Sequence[Record]) -> list[Task]:
        return [self._task(examples.prompt(record, i)) for i, record in enumerate(records)]

    def _task(self, prompt: examples.Prompt) -> Task:
        return Task(tuple(self.dialogue.prompt(prompt.messages)), prompt)

    def _actor(self, policy: NetworkPolicy | HubPolicy, wants_reference: bool, judges: Sequence[Judge] = ()) -> Actor:
        reward = self.recipe.reward
        named = [self._judge(name) for name in reward.functions]
        rules = rule_judges(self._read_constitution(reward.constitution)) if reward.constitution else ()
        judges = judges or [judge_of(one) for one in (*self.given.rewards, *named, *rules)]
        mix = Mix(tuple(judges), reward.weights, reward.veto)
        checks = tuple(judge_of(one) for one in (*self.given.checks, *map(self._judge, reward.check)))
        reference = self._policy() if wants_reference else None
        engine, check = engine_of(policy), Mix(checks) if checks else None
        return Actor(policy, self.tokenizer, engine.sample, mix, reference, engine.exact, check, engine.words)

    def _judge(self, name: str) -> Judge:
        """The judge of "file.py:function", with the recipe's deadline."""
        seconds = self.recipe.reward.timeout
        return TimedJudge(name, self.folder, seconds) if seconds else judge_of(self._function(name))

    def _function(self, name: str) -> Any:
        from alexandra.verifiers.loading import import_function

        return import_function(name, self.folder)

    def _sampling(self) -> Sampling:
        config = self.recipe.rollout
        return Sampling(config.max_tokens, config.temperature, config.top_k, config.top_p, stop=(self.tokenizer.eos,))

    def _rollout(self, group: int) -> RolloutSettings:
        config = self.recipe.rollout
        return RolloutSettings(self._sampling(), group, config.redraws, self.recipe.seed, config.staleness)

    def _asked(self, model: Model) -> Asked | None:
        """A few prompts to be answered now and then, for stages that sample nothing themselves."""
        if self.recipe.stage in (*SAMPLING_STAGES, "reward") or not self.recipe.log.samples:
            return None
        records = (self.held_out or self.train)[: self.recipe.log.samples]
        if self.recipe.stage == "pretrain":
            texts = [examples.document(record, i)[:OPENING] for i, record in enumerate(records)]
            prompts = [(text, self.tokenizer.encode(text)) for text in texts]
        else:
            tasks = [self._task(examples.question(record, i)) for i, record in enumerate(records)]
            prompts = [(task.prompt.text, list(task.tokens)) for task in tasks]
        policy = HubPolicy(model.inside) if isinstance(model, Foreign) else NetworkPolicy(model)
        return Asked(prompts, engine_of(policy).sample, self._sampling(), self.tokenizer)

    def _grpo(self) -> tuple[Stage, Model]:
        config, (train, held) = self.recipe.rollout, (self._tasks(self.train), self._tasks(self.held_out))
        base = variant(config.variant, config.max_tokens)
        objective = GRPO(**{**vars(base), "beta": config.kl})
        length = self._rollout_length([*train, *held])
        passes = config.prompts, config.epochs, config.minibatches, config.credit
        settings = GRPOSettings(objective, self._rollout(config.group), length, *passes)
        policy, model = self._trained_here()
        return GroupPolicy(self._actor(policy, config.kl > 0), train, settings, held), model

    def _rollout_length(self, tasks: Sequence[Task]) -> int:
        longest = max(len(task.tokens) for task in tasks)
        return self.recipe.data.length or longest + self.recipe.rollout.max_tokens - 1

    def _rejection(self) -> tuple[Stage, Model]:
        config, rollout = self.recipe.rejection, self.recipe.rollout
        train, held = self._tasks(self.train), self._tasks(self.held_out)
        settings = RejectionSettings(
            self._rollout(rollout.group),
            self._rollout_length([*train, *held]),
            rollout.prompts,
            config.at_least,
            config.keep,
            config.learn,
        )
        policy, model = self._trained_here()
        return Rejection(self._actor(policy, False), train, settings, held), model

    def _distill(self) -> tuple[Stage, Model]:
        config, own = self.recipe.distill, self.recipe.distill.on_policy == 1
        train, held = (self._prompts(rows) if own else self._rows(rows) for rows in (self.train, self.held_out))
        if self.graph is None:
            raise UsageError(
                "distillation trains a network, the recipe names a transformers model",
                hint='read it as one: [model] backend = "native"',
            )
        self.graph = logits_graph(self.graph)
        longest = max(len(row.tokens) for row in (*train, *held)) + self.recipe.rollout.max_tokens
        length = self.recipe.data.length or (longest - 1 if config.on_policy else self._length([*train, *held]))
        objective = Distillation(config.divergence, config.temperature, config.mix)
        settings = DistillSettings(
            length,
            self._sampling(),
            self.recipe.train.batch,
            config.on_policy,
            self.recipe.seed,
            self.tokenizer.pad,
            objective,
        )
        model, optimization = self._model()
        student = Outputs(model, optimization)
        self.updates["grad_norm"] = student.updates
        sampler = engine_of(NetworkPolicy(model)).sample
        cut_rows = (rows if own else _cut(rows, length) for rows in (train, held))
        return Distill(student, self._teacher(), next(cut_rows), settings, sampler, next(cut_rows)), model

    def _read_constitution(self, path: str) -> Constitution:
        return read_constitution(self.folder / path if path else None, self._function)

    def _constitution(self) -> tuple[Stage, Model]:
        recipe, config = self.recipe, self.recipe.constitution
        rollout, rules = self._rollout(recipe.rollout.group), self._read_constitution(config.path)
        policy, model = self._trained_here()
        kept = self._policy()
        tokens = recipe.rollout.max_tokens
        asks = engine_of(kept).sample
        critic = Critic(rules, self.dialogue, kept, asks, rollout.sampling, config.critique_tokens)
        train, held = self._tasks(self.train), self._tasks(self.held_out)
        exchange = longest_exchange(rules, self.dialogue, tokens, config.critique_tokens)
        length = recipe.data.length or max(len(task.tokens) for task in (*train, *held)) + exchange
        finders = tuple(CriticJudge(critic, principle) for principle in rules.principles)
        actor = self._actor(policy, False, rule_judges(rules) if rules.formal else finders)
        settings = ConstitutionalSettings(
            rollout, length, recipe.rollout.prompts, config.rounds, config.learn, DPO(**recipe.dpo.model_dump())
        )
        reinforce = None
        if config.then == "rl":
            judged = replace(actor, mix=Mix(finders), reference=kept)
            objective = GRPO(**{**vars(variant(recipe.rollout.variant, tokens)), "beta": recipe.rollout.kl})
            reinforce = GroupPolicy(judged, train, GRPOSettings(objective, rollout, length, recipe.rollout.prompts))
        return Constitutional(actor, critic, train, settings, held_out=held, reinforce=reinforce), model

    def _prompts(self, records: Sequence[Record]) -> list[Row]:
        return [Row(task.tokens, [0] * len(task.tokens)) for task in self._tasks(records)]

    def _teacher(self) -> Outputs:
        path = self.recipe.distill.teacher
        if not path:
            raise UsageError("distillation needs a teacher", hint='[distill] teacher = "runs/large/model"')
        found = read_model(self.folder / path)
        if found.weights is None:
            raise UsageError(f"the teacher {path!r} has no weights", hint="name the folder model of a finished run")
        if found.tokenizer is not None and not same_tokens(found.tokenizer, self.tokenizer):
            raise UsageError(
                f"the teacher {path!r} and the student read different tokens",
                hint="start the student with [tokenizer] path = the teacher's folder",
            )
        graph = logits_graph(fitted(found.graph, self.tokenizer))
        return Outputs(self._bound(graph, found.weights))

    def _ppo(self) -> tuple[Stage, Model]:
        config, (train, held) = self.recipe.rollout, (self._tasks(self.train), self._tasks(self.held_out))
        settings = PPOSettings(
            self._rollout(config.group),
            self._rollout_length([*train, *held]),
            config.prompts,
            config.epochs,
            config.minibatches,
            config.kl,
        )
        (policy, model), critic = self._trained_here(), self._scorer()
        self.updates["value_grad_norm"] = critic.updates
        return ProximalPolicy(self._actor(policy, config.kl > 0), critic, train, settings, held), model


def _template(name: str) -> Template:
    if name not in TEMPLATES:
        raise UsageError(f"unknown template {name!r}", hint=suggest(name, TEMPLATES))
    return TEMPLATES[name]


def _cut(rows: Sequence[Row], length: int) -> list[Row]:
    return cut(list(rows), length)


def _strings(value: Any) -> list[str]:
    """Every text inside a record."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _strings(inner)]
    return [text for inner in value for text in _strings(inner)] if isinstance(value, list | tuple) else []
