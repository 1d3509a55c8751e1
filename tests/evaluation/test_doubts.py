"""What the top of a report says of figures that mean little."""

from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest

from spacex.evaluation.doubts import doubts, generator_doubts


def chips(plus, minus, flipped=1.0):
    columns = {"logit": 4.0, "logit_plus": 4.0 + plus, "logit_minus": 4.0 - minus, "flipped": flipped}
    return pd.DataFrame([columns | {"l1_plus": 0.0002, "l1_minus": 0.002}] * 3)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (chips(2.0, 8.0), []),
        (chips(0.08, 8.0), ["The maximiser does next to nothing", "raises the logit by 0.08"]),
        (chips(2.0, 0.01), ["The minimiser does next to nothing", "train the generators again"]),
        (chips(2.0, 2.0, flipped=0.2), ["for only 20 % of the chips"]),
    ],
)
def test_generators_that_do_nothing_are_named(numbers, said):
    lines = list(generator_doubts(numbers))
    assert len(lines) == bool(said)
    assert all(part in lines[0] for part in said)


def test_a_map_below_chance_few_places_and_missing_chips_are_said():
    files = pd.DataFrame({"file": ["a", "b"], "prevalence": [0.5, 0.5], "place": ["p", "q"]})
    cells = {("lift", "iou", "all"): SimpleNamespace(mean=0.1), ("path", "iou", "all"): SimpleNamespace(mean=0.4)}
    table = SimpleNamespace(methods=[("lift", "ours"), ("path", "ours")], cells=cells)
    outcome = SimpleNamespace(counterfactuals=[], chips=2, left_out=Counter({"it is too small": 4, "never": 0}))
    several, below, missing, few = doubts(table, outcome, files, classifiers=3)
    assert several == "All figures are of the first of the checkpoint's 3 classifiers, of which maps are drawn."
    assert below == "The map “lift” points worse than chance: IoU 0.100, by chance 0.333."
    assert missing == "2 of the 6 chips drawn are evaluated. Left out: 4 because it is too small."
    assert "2 places" in few
