"""Stories made by hand: small ones for laws, large ones to look at."""

from dataclasses import replace
from typing import Any

import numpy as np

from whet.data.rows import Finding
from whet.evaluation.records import ClassScore, Comparison, Judgement, Score, Verdict
from whet.report.story import Cost, CurvePoint, DataFacts, Example, ModelFacts, Roles, Rung, Story
from whet.tasks.predictions import Kind

INTENTS = (
    "billing",
    "cancel subscription",
    "delivery late",
    "login problem",
    "product question",
    "refund request",
    "report a bug, urgent",
    "thank you 🎉",
)
BASELINES = {"frozen-probe": -0.021, "tfidf": -0.078, "majority": -0.66}


def score(metric: str, value: float, half: float = 0.02, up: bool = True) -> Score:
    low, high = value - half, value + half
    if metric not in ("mae", "rmse", "log-loss", "spearman", "r2"):
        low, high = max(low, 0.0), min(high, 1.0)
    return Score(metric, value, low, high, "wilson" if metric == "accuracy" else "bootstrap", up)


def class_scores(labels: tuple[str, ...], seed: int = 0) -> tuple[ClassScore, ...]:
    random = np.random.default_rng(seed)
    rows = random.integers(4, 60, len(labels))
    values = 1 - random.beta(1.5, 9, (len(labels), 3))
    return tuple(
        ClassScore(
            label,
            int(n),
            *(score(m, float(v), 0.9 / np.sqrt(n)) for m, v in zip(("precision", "recall", "f1"), line, strict=False)),
        )
        for label, n, line in zip(labels, rows, values, strict=False)
    )


def confusion(count: int, seed: int = 0) -> tuple[tuple[int, ...], ...]:
    random = np.random.default_rng(seed)
    matrix = np.where(random.random((count, count)) < 0.25, random.integers(1, 5, (count, count)), 0)
    np.fill_diagonal(matrix, random.integers(15, 55, count))
    return tuple(tuple(int(cell) for cell in line) for line in matrix)


def comparison(baseline: str, difference: float, metric: str, half: float = 0.016, point: float = 0.01) -> Comparison:
    answer = "better" if difference - half > 0 else "cannot tell"
    won, lost = round(300 * abs(difference)) + 9, 9
    counted = metric in ("accuracy", "macro-f1", "micro-f1")
    return Comparison(
        baseline,
        metric,
        difference,
        difference - half,
        difference + half,
        point,
        won if counted else 0,
        lost if counted else 0,
        0.0123 if counted else None,
        answer,
        round(900 * (half / point) ** 2),
        relative=metric in ("rmse", "mae", "log-loss"),
    )


def judgement(
    labels: tuple[str, ...] = INTENTS, test: str = "test", baselines: Any = None, **changes: Any
) -> Judgement:
    differences = BASELINES if baselines is None else baselines
    value = 0.911
    scores = {"model": _five(value)} | {name: _five(value + by) for name, by in differences.items()}
    sentence = "Better: 2.1 points of accuracy above the best baseline, frozen probe (95% interval 0.5 to 3.7)."
    found = Judgement(
        test=test,
        rows=902,
        metric="accuracy",
        labels=labels,
        scores=scores,
        per_class=class_scores(labels),
        confusion=confusion(len(labels)),
        calibration=(
            (0.33, 0.28, 25),
            (0.48, 0.41, 60),
            (0.61, 0.6, 90),
            (0.74, 0.69, 130),
            (0.87, 0.84, 210),
            (0.97, 0.96, 387),
        ),
        comparisons=tuple(comparison(name, -by, "accuracy") for name, by in differences.items()),
        worst=(117, 5, 480, 12, 77, 301, 640, 33, 90, 511),
        dropped=(),
        notes=(),
        verdict=Verdict("better", "accuracy", None, sentence, None),
    )
    return replace(found, **changes)


def _five(value: float) -> tuple[Score, ...]:
    return (
        score("accuracy", value),
        score("macro-f1", value - 0.02, 0.026),
        score("log-loss", 0.3 + 2 * (0.92 - value), 0.04, up=False),
        score("calibration-error", 0.021, 0.012, up=False),
    )


def story(judgements: tuple[Judgement, ...] | None = None, task: Kind = "classification", **changes: Any) -> Story:
    judged = (judgement(),) if judgements is None else judgements
    labels = judged[0].labels if judged else INTENTS
    made = Story(
        name="tickets-intent-0001",
        created="2025-05-03T14:02:11",
        folder="runs/tickets-intent-0001",
        seconds=48.2,
        command="whet finetune tickets.csv --target intent",
        task=task,
        labels=labels,
        data=_data(labels),
        model=ModelFacts(
            name="sentence-transformers/all-MiniLM-L6-v2",
            revision="fa97f6e",
            sha256="53aa51172d142c89d9012cce15ae4d6c" * 2,
            licence="apache-2.0",
            parameters=22_713_216,
            loading="sentence-transformers",
            python="from sentence_transformers import SentenceTransformer",
            window=256,
        ),
        method="auto",
        summary="climbs from the probe to deeper tuning while validation says that it pays.",
        plan=_plan(),
        forecast=Cost(seconds=51.0, memory_bytes=1_240_000_000, disk_bytes=98_000_000),
        actual=Cost(seconds=48.2, memory_bytes=1_190_000_000, disk_bytes=95_400_000),
        rungs=_rungs(),
        curve=_curve(),
        notes=(
            "3 texts are longer than 256 tokens and were read in overlapping windows; nothing was cut.",
            "Replay verified: outputs and gradients equal those of the plain model, bit for bit.",
        ),
        judgements=judged,
        examples=_examples(judged),
        parts={
            "read": 0.4,
            "check": 0.9,
            "features": 3.1,
            "fit": 33.0,
            "tfidf baseline": 4.2,
            "judge": 2.8,
            "package": 1.1,
        },
        machine="Linux, 2 cores (AVX-512, BF16), 7.7 GiB memory",
        versions={"whet": "0.1.0", "torch": "2.13.0", "transformers": "5.4.1"},
    )
    return replace(made, **changes)


def two_tests() -> Story:
    other = judgement(
        test="may_tickets.csv",
        verdict=Verdict(
            "cannot tell",
            "accuracy",
            "tfidf",
            "Cannot tell: 0.4 points above tfidf (95% interval −0.9 to 1.7); "
            "about 2,300 test rows would show a difference of one point.",
            2300,
        ),
        comparisons=(comparison("tfidf", 0.004, "accuracy", 0.013), comparison("majority", 0.55, "accuracy")),
    )
    return story((judgement(test="test"), other))


def multi_label() -> Story:
    labels = ("action", "comedy", "drama", "science fiction")
    scores = {
        "model": (score("micro-f1", 0.71), score("macro-f1", 0.66), score("exact-match", 0.41)),
        "tfidf": (score("micro-f1", 0.705), score("macro-f1", 0.6), score("exact-match", 0.39)),
    }
    judged = judgement(
        labels,
        metric="micro-f1",
        confusion=(),
        scores=scores,
        comparisons=(comparison("tfidf", 0.005, "micro-f1"),),
        verdict=Verdict(
            "not better",
            "micro-f1",
            "tfidf",
            "Not better than TF-IDF + linear: the difference is below one point (0.2, 95% interval −0.4 to 0.8).",
            None,
        ),
    )
    return story((judged,), "multi-label")


def regression() -> Story:
    random = np.random.default_rng(3)
    targets = random.gamma(3.0, 8.0, 400)
    pairs = tuple((float(a), float(a + b)) for a, b in zip(targets, random.normal(0, 5, 400), strict=False))
    scores = {
        name: (
            score("rmse", rmse, 0.4, up=False),
            score("mae", rmse * 0.7, 0.3, up=False),
            score("r2", 0.6),
            score("spearman", 0.8),
        )
        for name, rmse in {"model": 5.1, "tfidf": 6.0, "majority": 13.9}.items()
    }
    judged = judgement(
        (),
        metric="rmse",
        scores=scores,
        per_class=(),
        confusion=(),
        calibration=(),
        comparisons=(comparison("tfidf", 0.9, "rmse", 0.35, 0.06), comparison("majority", 8.8, "rmse", 0.8, 0.06)),
        verdict=Verdict(
            "better",
            "rmse",
            None,
            "Better: RMSE 15.0% below the best baseline, TF-IDF + linear (95% interval 9.2 to 20.8).",
            None,
        ),
    )
    examples = tuple(
        replace(one, target=("31.5",), predicted=("12.1",), confidence=None) for one in _examples((judged,))
    )
    data = replace(_data(()), columns=Roles(("description",), ("price",)), class_counts={})
    return story((judged,), "regression", scatter={"test": pairs}, examples=examples, data=data, labels=())


def many_classes(count: int) -> Story:
    labels = tuple(
        f"{('card', 'transfer', 'top up', 'exchange', 'pin')[i % 5]} {i:03d} not recognised" for i in range(count)
    )
    return story((judgement(labels, rows=3080),))


def _data(labels: tuple[str, ...]) -> DataFacts:
    random = np.random.default_rng(1)
    counts = {
        label: int(n) for label, n in zip(labels, sorted(random.integers(18, 140, len(labels)))[::-1], strict=False)
    }
    return DataFacts(
        source="tickets.csv",
        columns=Roles(("message",), ("intent",)),
        rows={"train": 420, "valid": 60, "test": 902},
        split="Split here: stratified by intent, seed 0, equal texts kept on one side.",
        class_counts=counts,
        findings=(
            Finding(
                "missing",
                "warning",
                "3 rows have an empty text and were dropped.",
                "tickets.csv, column 'message'",
                "fill them in, or leave them out",
                3,
                (44, 208, 590),
            ),
            Finding(
                "conflicts",
                "error",
                "2 texts stand under two targets each.",
                "tickets.csv, columns 'message' and 'intent'",
                "decide which target is right",
                4,
                (5, 91),
            ),
            Finding(
                "markup",
                "info",
                "7 texts hold HTML.",
                "tickets.csv, column 'message'",
                "strip it if it carries no meaning",
                7,
                (31,),
            ),
        ),
    )


def _plan() -> dict[str, Any]:
    return {
        "data": {"source": "tickets.csv", "inputs": ["message"], "target": ["intent"], "group": None},
        "task": {"name": "classification"},
        "backbone": {"name": "all-MiniLM-L6-v2", "max_length": 256, "pooling": "mean"},
        "method": {"name": "auto", "rungs": ["probe", "top-layers 2", "full"]},
        "training": {"learning_rate": 2e-4, "batch": 32, "epochs": 4, "bf16": True},
        "seed": 0,
    }


def _rungs() -> tuple[Rung, ...]:
    return (
        Rung(
            name="probe",
            trainable_parameters=3080,
            steps=0,
            seconds=4.1,
            score=0.881,
            rows=320,
            kept=True,
            why="The first rung.",
        ),
        Rung(
            name="top-layers 2",
            trainable_parameters=3_552_000,
            steps=160,
            seconds=14.8,
            rows=320,
            cost=3.6,
            score=0.903,
            gain=2.2,
            gain_low=0.9,
            gain_high=4.4,
            kept=True,
            why="Kept: the lower 80% bound of its gain is above zero.",
        ),
        Rung(
            name="full",
            trainable_parameters=22_713_216,
            steps=120,
            seconds=18.2,
            rows=320,
            cost=20.3,
            score=0.901,
            gain=-0.2,
            gain_low=-1.1,
            gain_high=1.4,
            why="Dropped: the lower 80% bound of its gain is not above zero.",
        ),
    )


def _curve() -> tuple[CurvePoint, ...]:
    points = []
    for stage, steps, start in (("top-layers 2", 160, 0.62), ("full", 120, 0.41)):
        for step in range(5, steps + 1, 5):
            loss = start * float(np.exp(-step / 60)) + 0.08 + 0.02 * np.sin(step)
            valid = 0.28 + 0.3 * float(np.exp(-step / 30)) + 0.0006 * step if step % 20 == 0 else None
            points.append(CurvePoint(stage=stage, step=step, train_loss=float(loss), valid_loss=valid))
    return tuple(points)


_TEXTS = (
    "I was charged twice in April and nobody answers. Please give the second payment back!",
    "<script>alert('hello')</script> my page shows this since the update",
    "where is my parcel??? 😡😡 it said Tuesday",
    "Hello,\n\nI would like to know whether the blue one also comes in XL. If not, please cancel my order, "
    "because I do not need it otherwise. " + "I have written about this before. " * 8,
    "thanks",
)


def _examples(judged: tuple[Judgement, ...]) -> tuple[Example, ...]:
    rows = [(one.test, row, one.labels) for one in judged for row in one.worst]
    worst = tuple(
        Example(
            source=test,
            row_id=row,
            text=_TEXTS[i % 5],
            target=labels[i % 3 : i % 3 + 1],
            predicted=labels[3:4],
            confidence=0.99 - 0.02 * i,
        )
        for i, (test, row, labels) in enumerate(rows)
    )
    conflicts = tuple(
        Example(source="", row_id=row, text="please cancel", target=(t,)) for row, t in ((5, "billing"), (91, "cancel"))
    )
    return worst + conflicts


def named(text: str) -> Story:
    """A story in which every text of a user, file or hub is ``text``, with a letter where names must differ."""
    labels = tuple(f"{letter}{text}" for letter in "abcd")
    verdict = Verdict("better", "accuracy", None, f"v{text}", None)
    judged = judgement(labels, f"t{text}", notes=(f"n{text}",), dropped=(f"m{text}",), verdict=verdict)
    finding = Finding("missing", "warning", f"e{text}", f"f{text}", f"g{text}", 1, (3,))
    data = DataFacts(
        source=f"h{text}",
        columns=Roles((f"i{text}",), (f"j{text}",), f"k{text}", f"l{text}"),
        rows={f"o{text}": 3},
        split=f"p{text}",
        class_counts=dict.fromkeys(labels, 2),
        findings=(finding,),
    )
    examples = (Example(source=judged.test, row_id=117, text=f"q{text}", target=labels[:1], predicted=labels[1:]),)
    return replace(
        story((judged,)),
        name=f"r{text}",
        command=f"s{text}",
        folder=f"u{text}",
        data=data,
        examples=examples,
        model=ModelFacts(name=f"w{text}", revision=f"x{text}", licence=f"y{text}", python=f"p{text}"),
        plan={f"z{text}": {f"a{text}": f"b{text}"}},
        notes=(f"c{text}",),
        machine=f"d{text}",
        parts={f"e{text}": 1.0},
    )


def sane(value: object) -> bool:
    """Whether ``value`` holds plain JSON values alone."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and sane(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(map(sane, value))
    return value is None or isinstance(value, str | int | float)
