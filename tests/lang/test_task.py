"""TaskLang: what a program means, what its defaults are, and how every refusal reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from alexandra.errors import LanguageError, StorageError, TaskError
from alexandra.lang.expr import And, Compare, Fact, Gap, NoWorse, Number
from alexandra.lang.task import load_task, parse_task
from alexandra.lang.task_spec import (
    Behaviour,
    Budget,
    DataSource,
    FamilyRef,
    MetricRef,
    NetworkRef,
    Split,
    TargetEncoding,
    Task,
    VerifierRef,
    resolved,
)

CHURN = """
TASK churn
BEGIN
  ABOUT "Which customers leave within a month?"
  TAGS CLASSIFY, TABULAR
  DATA csv("telco.csv") TARGET Churn POSITIVE "Yes" DROP customerID   // only TARGET is required
  SPLIT folds=5 SEED 7
  METRIC roc_auc
  VERIFY empirical, power_dynamics(groups=[gender]), "checks.py:no_missing_contract"
  ACCEPT no_worse(baseline, margin=1%) AND roc_auc >= 0.80 AND gap(gender, of=equalized_odds) <= 0.15
  NETWORKS "networks/churn_mlp.nl", FAMILY tabular(0..4 layers, 32..256 wide)   // 0 layers is the linear model
  BUDGET time=5m memory=2GB
  PROTECT retention_v1                // these tasks must not get worse
END
"""


EVENTS = 'BEHAVIOUR entity=who time=day cutoff="2024-03-01"'


def test_behaviour_and_encoding_are_declared_steps() -> None:
    text = f"TASK t BEGIN DATA frame TARGET churned {EVENTS} amount=paid windows=[7d, 30d] latest=city ahead=90d END"
    task = parse_task(text.replace("END", "ENCODE city, plan prior=5 END"))
    assert task.behaviour == Behaviour("who", "day", "2024-03-01", "paid", (7, 30), latest=("city",), ahead=90)
    assert task.encode == TargetEncoding(("city", "plan"), 5)


def test_the_program_of_the_design_means_this_task() -> None:
    assert parse_task(CHURN) == Task(
        data=DataSource.csv("telco.csv"),
        target="Churn",
        name="churn",
        about="Which customers leave within a month?",
        tags=("CLASSIFY", "TABULAR"),
        positive="Yes",
        drop=("customerID",),
        split=Split(folds=5, seed=7),
        metric=MetricRef("roc_auc"),
        verify=(
            VerifierRef("empirical"),
            VerifierRef("power_dynamics", (("groups", ("gender",)),)),
            VerifierRef("checks.py:no_missing_contract"),
        ),
        accept=And(
            (
                NoWorse("baseline", Number(0.01, "%")),
                Compare(Fact("roc_auc"), ">=", Number(0.80)),
                Compare(Gap("gender", "equalized_odds"), "<=", Number(0.15)),
            )
        ),
        networks=(NetworkRef("networks/churn_mlp.nl"), FamilyRef("tabular", (0, 4), (32, 256))),
        budget=Budget(300.0, 2_000_000_000),
        protect=("retention_v1",),
    )


def test_keywords_in_any_case_semicolons_and_any_order_change_nothing() -> None:
    plain = parse_task('TASK t BEGIN DATA csv("a.csv") TARGET y METRIC f1 SEED 3 END')
    assert parse_task('task t begin; seed 3; Metric f1;; target y; data CSV("a.csv") ; end;') == plain


def test_a_curriculum_has_levels_and_a_count_and_no_target() -> None:
    text = "TASK arithmetic BEGIN TAGS ARITH, SUM  DATA curriculum(levels=1..2, count=20000)  METRIC exact END"
    assert parse_task(text).data == DataSource.curriculum((1, 2), 20_000)
    assert parse_task("TASK a BEGIN DATA curriculum(levels=3) END").data == DataSource.curriculum((3, 3), 10_000)


@pytest.mark.parametrize(
    ("statement", "split"),
    [
        ("SPLIT folds=10", Split(folds=10)),
        ("SPLIT train=70% validation=15% test=15%", Split(fractions=(0.70, 0.15, 0.15))),
        ("SPLIT train=0.6 test=0.3 SEED 4", Split(fractions=(0.6, 0.1, 0.3), seed=4)),
        ("SPLIT time=when", Split(time="when")),
        ('SPLIT group="customer id" folds=4', Split(folds=4, group="customer id")),
        ("SEED 12", Split(seed=12)),
    ],
)
def test_splits(statement: str, split: Split) -> None:
    assert parse_task(f"TASK t BEGIN DATA frame TARGET y {statement} END").split == split


@pytest.mark.parametrize(
    ("metric", "meaning"),
    [
        ("roc_auc", MetricRef("roc_auc")),
        ("recall_at(10%)", MetricRef("recall_at", (("share", 0.1),))),
        ("recall_at(share=0.1)", MetricRef("recall_at", (("share", 0.1),))),
        ("profit(fp=-10, tp=100)", MetricRef("profit", (("tp", 100.0), ("fp", -10.0)))),
        ("accuracy(threshold=0.3)", MetricRef("accuracy", (("threshold", 0.3),))),
        ("accuracy(threshold=50%)", MetricRef("accuracy")),  # the default: one measurement has one name
    ],
)
def test_metrics_with_parameters(metric: str, meaning: MetricRef) -> None:
    assert parse_task(f"TASK t BEGIN DATA frame TARGET y METRIC {metric} END").metric == meaning


def test_a_metrics_name_is_the_one_that_the_table_of_metrics_prints() -> None:
    from alexandra.metrics import metric

    for text in ("recall_at(10%)", "profit(tp=100, fp=-10)", "accuracy(threshold=0.3)", "lift_at(2.5%)", "rmse"):
        found = parse_task(f"TASK t BEGIN DATA frame TARGET y METRIC {text} END").metric
        assert found is not None
        assert found.key == str(metric(text)) == text


def test_a_network_may_stand_in_the_task_itself() -> None:
    text = """TASK t BEGIN DATA frame TARGET network
      NETWORKS NETWORK two BEGIN
          LAYER INPUT name=x size=AUTO   // BEGIN in a comment, "END" in a text
          IF 1 == 1 BEGIN LAYER OUTPUT name=y size=AUTO END
        END, "other.nl"
    END"""
    task = parse_task(text)
    program = task.networks[0]
    assert isinstance(program, NetworkRef)
    lines = program.program.split("\n")
    assert (lines[0], lines[-1], len(lines)) == ("NETWORK two BEGIN", "END", 4)
    assert task.networks[1] == NetworkRef("other.nl")
    assert task.target == "network"
    assert parse_task(task.text()) == task


def test_an_error_after_a_network_in_place_shows_the_line_as_it_is_written() -> None:
    with pytest.raises(LanguageError) as caught:
        parse_task("TASK t BEGIN\nNETWORKS NETWORK a BEGIN\nEND METRIC foo DATA frame TARGET y END")
    assert (caught.value.line, caught.value.column) == (3, 12)
    assert caught.value.source_line.startswith("END METRIC foo")


def test_data_and_target_are_enough_in_python() -> None:
    task = Task.of("data/2024 customers.csv", "Churn")
    assert task.name == "_2024_customers"
    assert task.text() == ('TASK _2024_customers\nBEGIN\n  DATA csv("data/2024 customers.csv") TARGET Churn\nEND\n')
    assert parse_task(task.text()) == task
    assert Task.of("a.parquet", "y").data == DataSource.parquet("a.parquet")
    frame = object()
    assert Task.of(frame, "y").data.value is frame


def test_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.task"
    path.write_text(CHURN, encoding="utf-8")
    task = load_task(path)
    assert task.path("telco.csv") == tmp_path / "telco.csv"
    assert task == parse_task(CHURN)


def test_a_file_that_is_missing_or_no_text_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="none.task"):
        load_task(tmp_path / "none.task")
    (tmp_path / "bad.task").write_bytes(b"TASK t\nBEGIN \xff END")
    with pytest.raises(LanguageError, match=r"bad.task:2:7: byte 0xff is not UTF-8 text"):
        load_task(tmp_path / "bad.task")


@pytest.mark.parametrize(
    ("n_rows", "kind", "split", "metric", "tags"),
    [
        (19_999, "binary", Split(folds=5), "roc_auc", ("CLASSIFY", "TABULAR")),
        (20_000, "multiclass", Split(fractions=(0.70, 0.15, 0.15)), "accuracy", ("CLASSIFY", "TABULAR")),
        (100, "regression", Split(folds=5), "rmse", ("REGRESS", "TABULAR")),
    ],
)
def test_defaults(n_rows: int, kind: str, split: Split, metric: str, tags: tuple[str, ...]) -> None:
    task = resolved(Task.of("a.csv", "y"), n_rows, kind)
    assert task.split == split
    assert task.metric == MetricRef(metric)
    assert task.tags == tags
    assert task.verify == (VerifierRef("empirical"),)
    assert task.accept == NoWorse("baseline", Number(0.01, "%"))
    assert task.networks == (FamilyRef("tabular"),)
    assert task.budget == Budget(300.0)
    assert resolved(task, n_rows, kind) == task


def test_what_is_written_is_not_replaced_by_a_default() -> None:
    task = parse_task(CHURN)
    assert resolved(task, 7043, "binary") == task


def test_time_order_is_kept_also_for_few_rows() -> None:
    task = Task(DataSource.csv("a.csv"), "y", split=Split(time="when", seed=3))
    assert resolved(task, 100, "regression").split == Split(fractions=(0.70, 0.15, 0.15), time="when", seed=3)


def test_a_gap_in_accept_brings_the_verifier_that_measures_it() -> None:
    gap = Compare(Gap("gender", "auc"), "<=", Number(0.1))
    task = resolved(Task(DataSource.csv("a.csv"), "y", accept=gap), 100, "binary")
    assert task.verify == (VerifierRef("empirical"), VerifierRef("power_dynamics", (("groups", ("gender",)),)))
    own = VerifierRef("power_dynamics", (("groups", ("age_group",)), ("least", 50)))
    task = resolved(Task(DataSource.csv("a.csv"), "y", accept=gap, verify=(own,)), 100, "binary")
    assert task.verify[0].kwargs == {"groups": ("age_group", "gender"), "least": 50}


def test_unknown_facts_of_a_task_built_in_python_are_refused_when_it_is_resolved() -> None:
    task = Task(DataSource.csv("a.csv"), "y", accept=Compare(Fact("roc_acu"), ">=", Number(0.5)))
    with pytest.raises(TaskError, match="unknown fact 'roc_acu'") as caught:
        resolved(task, 100, "binary")
    assert "Did you mean 'roc_auc'?" in caught.value.hint


def refusal(statement: str) -> LanguageError:
    """The error for one statement, which stands alone in line 3 from column 3."""
    with pytest.raises(LanguageError) as caught:
        parse_task(f'TASK t BEGIN\n  DATA csv("a.csv") TARGET y\n  {statement}\nEND', "t.task")
    return caught.value


def test_an_error_quotes_points_lists_and_suggests() -> None:
    assert str(refusal("METRIC roc_au")) == (
        "t.task:3:10: unknown metric 'roc_au'\n"
        "      METRIC roc_au\n"
        "             ^^^^^^\n"
        "known: accuracy, average_precision, balanced_accuracy, brier, ece, exact, f1, lift_at, log_loss, mae, profit, "
        "r2, recall_at, rmse, roc_auc. Did you mean 'roc_auc'?"
    )


REFUSALS = [
    # statement, column, message, hint
    ("METRIC recall_at", 10, "metric 'recall_at' needs share", "for example recall_at(10%)"),
    ("METRIC recall_at(110%)", 20, "share=1.1 is not a number from", ""),
    ("METRIC roc_auc(3)", 18, "roc_auc takes no parameters", ""),
    ("METRIC accuracy(bins=3)", 19, "accuracy has no parameter 'bins'", "known: threshold."),
    ("METRIC samples", 10, "unknown metric 'samples'", "known: accuracy"),
    ("ACCEPT roc_auc >= 80", 10, "roc_auc is a score from 0 to 1: 80 lies outside", "write 80%"),
    ("ACCEPT roc_acu >= 0.8", 10, "unknown fact 'roc_acu'", "Did you mean 'roc_auc'?"),
    ("ACCEPT latency_p95 <= 3", 10, "'3' is a number, not a duration", "write 20ms, 3s or 30d"),
    ("ACCEPT size >= 3%", 10, "'3%' is a number, not a size", "write 500kB or 2GB"),
    ("ACCEPT failed < 3%", 10, "'failed' is not known in ACCEPT", "it is known in QUARANTINE WHEN"),
    ("ACCEPT stage == production", 10, "'stage' is not known in ACCEPT", "it is known in WHEN and SCORE"),
    ("ACCEPT no_worse(baselin)", 19, "unknown reference 'baselin'", "Did you mean 'baseline'?"),
    ("ACCEPT no_worse(margin=1%)", 10, "no_worse needs what it compares with", "known: baseline, production"),
    ("ACCEPT no_worse(baseline, production)", 29, "no_worse takes one reference", ""),
    ("ACCEPT no_worse(baseline, margn=1%)", 29, "no_worse has no parameter 'margn'", "Did you mean 'margin'?"),
    ("ACCEPT no_worse(baseline, margin=3ms)", 36, "margin is a number or a percentage", ""),
    ("ACCEPT better(production, alpha=90%)", 10, "alpha must lie above 0% and at most at 50%, got 90%", ""),
    ("ACCEPT better(production, paired=t)", 36, "unknown paired test 't'", "known: auto, bootstrap"),
    ("ACCEPT gap(gender, of=foo) < 0.1", 25, "unknown gap 'foo'", "known: auc, equalized_odds, selection, tpr."),
    ("ACCEPT gap(gender, age) < 0.1", 22, "gap takes one column", "write gap(gender, of=equalized_odds)"),
    ("ACCEPT gap(of=auc) < 0.1", 10, "gap needs a column", ""),
    ("ACCEPT 3 < 4", 10, "'3 < 4' compares no fact", "name a fact"),
    ("ACCEPT roc_auc == foo", 21, "unknown fact 'foo'", ""),
    ("ACCEPT task HAS TEXT", 10, "HAS belongs to the WHEN of a rule", ""),
    ("ACCEPT log10(roc_auc, 2) > 2", 10, "log10 takes 1 argument, got 2", ""),
    ("ACCEPT roc_auc >= 0.8 AND END", 29, "unexpected 'END'", "expected: '('"),
    ('DATA csv("b")', 3, "a second DATA: the first is in line 2", "keep one of them"),
    ("SPLIT fold=5", 9, "SPLIT has no parameter 'fold'", "Did you mean 'folds'?"),
    ("SPLIT folds=5 folds=6", 17, "parameter 'folds' is given twice", ""),
    ("SPLIT folds=1", 3, "folds must be 2 to 100, got 1", ""),
    ("SPLIT folds=2.5", 15, "folds is a whole number, got '2.5'", ""),
    ("SPLIT folds=5 train=70% test=30%", 3, "by folds or by train, validation and test, not both", ""),
    ("SPLIT train=70%", 3, "SPLIT needs two of train, validation and test", "the third is the remainder"),
    ("SPLIT train=70% test=130%", 24, "a part lies above 0% and below 100%, got '130%'", "write train=70%"),
    ("SPLIT train=70% test=20% validation=20%", 3, "must sum to 100%, got 70%, 20%, 20%", "for instance"),
    ("SPLIT time=when folds=5", 3, "folds do not keep the order of time", "write train=70%"),
    ("SPLIT time=when group=who", 3, "a split is by time or by group, not both", ""),
    ("SPLIT time=5", 14, "time is a column, got '5'", ""),
    ("SEED -3", 8, "unexpected '-'", "expected: a whole number."),
    ("SEED 99999999999999999999", 8, "is too large", "at most 18 digits"),
    ("VERIFY empircal", 10, "unknown verifier 'empircal'", "Did you mean 'empirical'?"),
    ('VERIFY "checks.py"', 10, "unknown verifier 'checks.py'", "file.py:function"),
    ("VERIFY power_dynamics(groups=[a], groups=b)", 37, "parameter 'groups' is given twice", ""),
    ("NETWORKS FAMILY tabula", 12, "unknown family 'tabula'", "Did you mean 'tabular'?"),
    ("NETWORKS FAMILY tabular(4..0 layers)", 12, "4..0 layers is not a range within 0..64", ""),
    ("NETWORKS FAMILY tabular(4 deep)", 29, "'deep' is unknown in a family", "write FAMILY tabular(0..4 layers"),
    ("BUDGET time=5", 15, "time is a duration, got '5'", "write time=5m"),
    ("BUDGET memory=5m", 17, "memory is a size, got '5m'", "write memory=2GB"),
    ("BUDGET tme=5m", 10, "BUDGET has no parameter 'tme'", "Did you mean 'time'?"),
    ("BUDGET time=0s", 3, "time must be above 0", ""),
    ('BEHAVIOUR entity=c time=d cutoff="soon"', 3, "cutoff 'soon' is not a date", 'write it as "2023-10-01"'),
    ('BEHAVIOUR entity=c time=d cutoff="2023-02-30"', 3, "cutoff '2023-02-30' is not a date", ""),
    ("BEHAVIOUR entity=c time=d cutoff=5", 36, "cutoff is a text, got '5'", 'write cutoff="2023-10-01"'),
    ("BEHAVIOUR entity=c", 3, "BEHAVIOUR needs time", 'write BEHAVIOUR entity=customer time=date cutoff="2023-10-01"'),
    ("BEHAVIOUR entiti=c", 13, "BEHAVIOUR has no parameter 'entiti'", "Did you mean 'entity'?"),
    ("BEHAVIOUR entity=[a, b]", 20, "entity is a column, got '[a, b]'", ""),
    ("BEHAVIOUR entity=a windows=[5h]", 31, "windows counts whole days, got '5h'", "write windows=90d"),
    ("BEHAVIOUR entity=a ahead=[5d, 6d]", 28, "ahead is one duration, got '[5d, 6d]'", "write ahead=90d"),
    ("ENCODE a, a", 3, "ENCODE names 'a' twice", ""),
    ("ENCODE a folds=1", 3, "folds must be 2 to 100, got 1", ""),
    ("ENCODE a prior=x", 18, "prior is a number, got 'x'", "write prior=20"),
    ("PROTECT a, a", 14, "PROTECT names 'a' twice", ""),
    ("TAGS a, A", 11, "TAGS names 'A' twice", ""),
    ('DROP ""', 8, "a name cannot be empty", ""),
    ("FOO bar", 3, "unexpected 'FOO'", "expected: ';', ABOUT, ACCEPT"),
    ("TARGT y", 3, "unknown statement 'TARGT'", "Did you mean 'TARGET'?"),
    ('ABOUT "abc', 9, "this text is not closed", 'close it with "'),
    (r'ABOUT "a\q"', 11, r"unknown escape '\q'", ""),
    ("/* foo", 3, "this comment is not closed", "close it with */"),
]


@pytest.mark.parametrize(("statement", "column", "message", "hint"), REFUSALS, ids=[row[0][:40] for row in REFUSALS])
def test_refusals(statement: str, column: int, message: str, hint: str) -> None:
    error = refusal(statement)
    assert message in error.message
    assert hint in error.hint
    assert (error.file, error.line, error.column) == ("t.task", 3, column)


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", (1, 1), "the text ends too early"),
        ("TASK x BEGIN END", (1, 6), "a task needs DATA"),
        ('TASK x BEGIN DATA csv("a") END', (1, 6), "a task needs its TARGET column"),
        ("TASK x BEGIN DATA csv TARGET y END", (1, 19), "csv needs a path"),
        ('TASK x BEGIN DATA bundled("iri") TARGET y END', (1, 27), "unknown bundled data set 'iri'"),
        ("TASK x BEGIN DATA iris END", (1, 19), "unknown data source 'iris'"),
        ('TASK x BEGIN DATA frame("x") TARGET y END', (1, 25), "frame takes no text"),
        ("TASK x BEGIN DATA curriculum TARGET y END", (1, 30), "a curriculum has no columns"),
        ("TASK x BEGIN DATA curriculum(levels=2..1) END", (1, 30), "levels 2..1 are not a range"),
        ("TASK x BEGIN DATA curriculum(count=1..2) END", (1, 36), "count is a count, got '1..2'"),
        ('TASK "a b" BEGIN DATA frame TARGET y END', (1, 6), "a task is named by letters, digits and underscores"),
        ("TASK x BEGIN DATA frame TARGET y ENCODE y END", (1, 25), "ENCODE names the target 'y'"),
        ("TASK x BEGIN DATA frame TARGET y DROP a ENCODE a END", (1, 25), "ENCODE names 'a', which stands in DROP"),
        (f"TASK x BEGIN DATA frame TARGET y {EVENTS} END", (1, 25), "BEHAVIOUR makes no column 'y' to predict"),
        (f"TASK x BEGIN DATA frame TARGET churned {EVENTS} END", (1, 25), "the target churned needs the days to look"),
        (f"TASK x BEGIN DATA frame TARGET spent {EVENTS} ahead=9d END", (1, 25), "the target spent needs an amount"),
        ("TASK x BEGIN DATA frame TARGET y DROP y END", (1, 25), "the target 'y' stands in DROP"),
        ("TASK a BEGIN DATA frame TARGET y END TASK b BEGIN END", (1, 43), "one task per file: this is a second TASK"),
        ("TASK a\nBEGIN\n  DATA frame TARGET y\n", (3, 21), "the text ends too early"),
    ],
)
def test_refusals_of_whole_programs(text: str, position: tuple[int, int], message: str) -> None:
    with pytest.raises(LanguageError) as caught:
        parse_task(text)
    assert message in caught.value.message
    assert (caught.value.line, caught.value.column) == position


def test_deep_nesting_ends_at_the_stated_limit() -> None:
    for expression in ("(" * 80 + "roc_auc" + ")" * 80, "-" * 200 + "roc_auc", "roc_auc" + " + roc_auc" * 200):
        assert "the limit 'nesting' is 64" in refusal(f"ACCEPT {expression} > 0.5").message
    assert "the limit 'nesting' is 64" in refusal("ACCEPT " + "NOT " * 200 + "roc_auc > 0.5").message
    many = " AND ".join(["roc_auc > 0.5"] * 500)  # a long list is not deep
    task = parse_task(f"TASK t BEGIN DATA frame TARGET y ACCEPT {many} END")
    assert isinstance(task.accept, And) and len(task.accept.items) == 500


def test_the_reader_of_data_knows_the_same_bundled_sets() -> None:
    from alexandra.data.readers import BUNDLED as readable
    from alexandra.lang.task_parts import BUNDLED

    assert set(BUNDLED) == set(readable)


def test_the_examples_parse_and_are_laid_out_as_the_formatter_lays_them_out(repository: Path) -> None:
    from alexandra.lang.fmt import format_text

    paths = sorted((repository / "examples/tasks").glob("*.task"))
    assert {path.stem for path in paths} >= {"breast_cancer", "churn", "diabetes", "digits", "wine"}
    for path in paths:
        task = load_task(path)
        assert task.name == path.stem
        assert parse_task(task.text()) == task
        assert format_text(path.read_text(encoding="utf-8"), file=str(path)) == path.read_text(encoding="utf-8")
