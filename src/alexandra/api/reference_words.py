"""What the statements of the three languages mean, in a sentence or two each, for the reference pages.

Literal tables keyed by the grammar's rules; reference.py puts them beside the grammar and refuses a statement
without its sentence. Nothing here is read by the languages themselves.
"""

from __future__ import annotations

STATEMENTS: dict[str, dict[str, str]] = {
    "nureonlang": {
        "network": "The program's name; without it the name is the file's.",
        "file": "Binds weights whose manifest carries this network's hash; other weights are an error.",
        "block": "Constants declared inside are known inside only.",
        "layer": "One layer. Its type is a row of the table of layers, `name=` names it, the other parameters are the "
        "row's attributes. `INPUT x size=8` and `LAYER h dense size=8` are accepted, and rewritten by `alexandra fmt`. "
        "`shared=` names a layer whose weights are used, `tied=` the other of an embedding and its projection; "
        "`LAYER_TYPE=SWIGLU` of a feed-forward layer is `activation=silu gated=TRUE`.",
        "connect": "Wires, left to right. Several into a layer with one input are joined along the last axis. "
        "`x[0]` and `x[2:5]` select on the last axis.",
        "let": "A constant, or one entry of an array of constants. A name in brackets is computed: `h_[i]` is `h_0`.",
        "for_loop": "Runs its body with the variable from the first value to the last, both included.",
        "if_else": "On constants it is decided while expanding. On a tensor (`IF x[0] == 1`) both branches are "
        "computed and, row by row, the value of one of them is taken.",
        "module": "A group of layers with names of its own (`encoder.e1`), used as often as it is called.",
        "define": "A macro. Its own layers never meet the caller's; an argument stands for what the caller names.",
        "call": "Runs a macro or makes an instance of a module, `AS` under another name. Instances share weights only "
        "with `SHARED`: then with the module's first instance.",
        "repeat": "The rounds `name_1`, `name_2` ..., each with weights of its own, one feeding the next. Layers "
        "without a CONNECT inside chain in the order written.",
        "residual": "What enters is added to what the chain inside makes of it.",
        "expand": "One body with one set of weights over several views of what it reads, whose last axis is cut into n "
        "equal parts. `SPACE = nD`: n copies, copy k sees part k. `GROUP = G`: one copy per element of the group, "
        "which sees all parts in that order: Cn the n rotations, Dn rotations and reflections, Sn all orders. Outside, "
        "a name of the body is all copies side by side on the last axis.",
    },
    "tasklang": {
        "about": "The question in words; it stands on the report.",
        "tags": "What rules look for (`task HAS CLASSIFY`). Default: by the target.",
        "data": "Where the rows come from. A path starts at the folder of the task's file.",
        "target": "The column to predict.",
        "positive": "The class that a two-class task asks about. Default: yes, true, 1 and the like, else "
        "the rarer one.",
        "drop": "Columns that are not learnt from.",
        "split": "`folds=5` pools out-of-fold answers; `train=70% validation=15% test=15%` holds rows out; "
        "`time=COLUMN` keeps the order of time; `group=COLUMN` keeps equal values together. Default: 5 folds under "
        "20,000 rows, else 70/15/15. Parts are disjoint by the content of the rows.",
        "seed": "A whole number; with the same seed the bytes of the result are the same. Default: 0.",
        "metric": "What candidates are compared by. Default: roc_auc for two classes, accuracy for more, rmse for a "
        "number.",
        "verify": "Verifiers, in order. Default: `empirical`.",
        "accept": "What a specialist must show on rows that took no part in choosing it. Default: "
        "`no_worse(baseline, margin=1%)`. A condition that no score could meet at this number of rows is refused "
        "before training.",
        "networks": "The candidates: NureonLang files, networks written in place, families. Default: "
        "`FAMILY tabular(0..4 layers, 32..256 wide)`; 0 layers is the linear model.",
        "budget": "Bounds of one solve. Default: `time=5m`.",
        "protect": "Tasks that must not get worse when this one is promoted.",
        "behaviour": "The data are events; each entity becomes one row. `entity=`, `time=` and "
        '`cutoff="2023-10-01"` are required. Features see events before the cutoff only: recency, tenure, frequency, '
        "gaps, with `amount=` what was spent, per `windows=[30d, 90d, 365d]` the events and the change to the window "
        "before, `distinct=[...]` counts, `latest=[...]` last values. The target is `churned` (no event within "
        "`ahead=90d` from the cutoff on), `spent` (the amounts within it), or one of `latest`.",
        "encode": "Columns that are replaced by the mean target of their value, of which `prior=20` rows are the "
        "overall mean. A training row gets the mean over the other of `folds=5` folds, so it never sees its own "
        "target.",
    },
    "rulelang": {
        "rules": "The rules in the order in which they are tried. A file holds at most one set.",
        "rule": "One rule: candidates, their order, how many answer.",
        "when": "Which registered versions are candidates; without it all are.",
        "score": "What candidates are ranked by, the highest first. Default: `metric`.",
        "select": "How many of them answer and how their answers become one, or a pipeline of named stages.",
        "otherwise": "What happens when no rule finds a candidate: another selection, or ABSTAIN with its reason.",
        "gate": "Conditions of the stage that the gate is named after. A file holds any number of gates.",
        "require": "Must hold before a version enters the stage; all of them must.",
        "quarantine": "Withdraws a version that serves; one that holds suffices.",
    },
}

# name -> (example, meaning) of the terminals that a grammar uses.
WORDS: dict[str, tuple[str, str]] = {
    "NAME": ("churn_mlp", "a name; a word of the language is a name wherever the grammar cannot take it as a word"),
    "KEY": ("size", "a name before `=`"),
    "TAIL": ("_out", "the rest of a computed name, touching the bracket: `h_[i]_out`"),
    "INT": ("64", "a whole number"),
    "FLOAT": ("2.5e-3", "a decimal number"),
    "STRING": ('"telco.csv"', "a text; escapes are those of JSON"),
    "DIMS": ("28 x 28", "a shape"),
    "AXES": ("3D", "a number of axes"),
    "COMPARE": (">=", "a comparison"),
    "DURATION": ("5m", "a duration: us, ms, s, m, h, d"),
    "SIZE": ("2GB", "a size: B; kB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB powers of 1024"),
    "PERCENT": ("1%", "a percentage: 0.01"),
    "NETWORK": ("NETWORK n BEGIN ... END", "a whole NureonLang program, written in place"),
}
IGNORED = ("COMMENT", "WS")

COMBINE: dict[str, str] = {
    "best": "the first answers, the others stand in for it",
    "vote": "each has one vote for its class; numbers: the median",
    "average": "mean of the probabilities or numbers",
    "pipeline": "each sees the answer of the one before it, in the order of the score",
}
REFERENCES: dict[str, str] = {
    "baseline": "the better of linear or logistic regression and gradient boosting, trained beside",
    "production": "the version in production; while there is none, better and no_worse hold",
    "protected": "each task under PROTECT",
}
SOURCES: dict[str, tuple[str, str]] = {
    "csv": ('csv("telco.csv")', "a text table, also .csv.gz and .tsv"),
    "parquet": ('parquet("telco.parquet")', "a Parquet file"),
    "bundled": ('bundled("breast_cancer")', "a set that scikit-learn brings along"),
    "curriculum": ("curriculum(levels=1..2, count=20000)", "generated items with exact answers"),
    "frame": ("frame", "a table in memory, given in Python"),
}

SAMPLES: dict[str, str] = {
    "nureonlang": """\
NETWORK sample
BEGIN
  LET width = 64;
  MODULE reader(part, out)
  BEGIN
    LAYER DENSE name=h size=16 activation=relu
    CONNECT part -> h -> out
  END

  LAYER INPUT name=x size=30
  CALL reader AS left
  CALL reader AS right SHARED
  CONNECT x[0:15] -> left -> joined
  CONNECT x[15:30] -> right -> joined
  LAYER DENSE name=joined size=width activation=gelu
  REPEAT 2 AS block
  BEGIN
    RESIDUAL
    BEGIN
      LAYER LAYERNORM
      LAYER DENSE size=width activation=gelu
    END
  END
  LAYER OUTPUT name=y size=AUTO activation=softmax
  CONNECT joined -> block -> y
END
""",
    "tasklang": """\
TASK churn
BEGIN
  ABOUT "Which customers leave within a month?"
  TAGS CLASSIFY, TABULAR
  DATA csv("telco.csv") TARGET Churn POSITIVE "Yes" DROP customerID
  SPLIT folds=5 SEED 7
  METRIC roc_auc
  VERIFY empirical, power_dynamics(groups=[gender])
  ACCEPT no_worse(baseline, margin=1%) AND roc_auc >= 0.80 AND gap(gender, of=equalized_odds) <= 0.15
  NETWORKS FAMILY tabular(0..3 layers, 32..128 wide)
  BUDGET time=5m memory=2GB
  PROTECT retention_v1
END
""",
    "rulelang": """\
RULES default
BEGIN
  RULE quick
    WHEN task HAS CLASSIFY AND roc_auc >= 0.80 AND latency_p95 <= 20ms
    SCORE roc_auc - 0.01 * log10(parameters)
    SELECT 3 COMBINE vote
  RULE staged
    WHEN task HAS TEXT
    SELECT PIPELINE retrieve, answer, check
  OTHERWISE ABSTAIN "no specialist has passed this task's check"
END

GATE production
BEGIN
  REQUIRE samples >= 200 AND latency_p95 <= 3s
  REQUIRE better(production, paired=bootstrap, alpha=1%)
  REQUIRE no_worse(protected, margin=1%)
  QUARANTINE WHEN served >= 1000 AND (failed > 20% OR metric < accepted - 15%)
END
""",
}
