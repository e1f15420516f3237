"""Whether a budget is reached: computed, by rules that can be read here."""

import pytest

from bench.overhead.budgets import BUDGETS, Budget, Of, times_reached, verdict
from bench.overhead.cases import CASES
from tests.bench.made import measured, result, whole

AT_MOST = Budget(case="c", what="w", ours=Of("us", "x"), theirs=Of("them", "x"), times=0.5)
AT_LEAST = Budget(
    case="c", what="w", ours=Of("us", "x"), theirs=Of("them", "x"), times=2.0, at_least=True
)
ADDED = Budget(
    case="c", what="w", ours=Of("us", "x", "none"), theirs=Of("them", "x", "none"), times=1.0
)
MORE = Budget(case="c", what="w", ours=Of("us", "x"), theirs=Of("them", "x"), plus=5.0)
ALONE = Budget(case="c", what="w", ours=Of("us", "x"), plus=30.0)


@pytest.mark.parametrize(
    ("budget", "ours", "theirs", "is_reached"),
    [
        pytest.param(AT_MOST, 4.9, 10.0, True, id="below-the-part"),
        pytest.param(AT_MOST, 5.1, 10.0, False, id="above-the-part"),
        pytest.param(AT_LEAST, 20.0, 10.0, True, id="as-many-times"),
        pytest.param(AT_LEAST, 19.0, 10.0, False, id="fewer-times"),
        pytest.param(ADDED, 3.0, 4.0, True, id="adds-less"),
        pytest.param(ADDED, 0.5, 0.8, True, id="quicker-than-nothing-and-less-than-theirs"),
        pytest.param(MORE, 14.9, 10.0, True, id="within-what-may-be-added"),
        pytest.param(MORE, 15.1, 10.0, False, id="beyond-what-may-be-added"),
        pytest.param(ALONE, 29.0, 0.0, True, id="below-a-number"),
        pytest.param(ALONE, 31.0, 0.0, False, id="above-a-number"),
    ],
)
def test_reached(budget: Budget, ours: float, theirs: float, is_reached: bool) -> None:
    rows = [measured("us", {"x": ours}), measured("them", {"x": theirs})]
    found = result(*rows, measured("none", {"x": 1.0}))
    assert verdict(budget, {"c": found}).is_reached is is_reached


@pytest.mark.parametrize("budget", [AT_MOST, ADDED, ALONE])
def test_what_was_not_measured_is_neither_reached_nor_not(budget: Budget) -> None:
    assert verdict(budget, {}).is_reached is None
    missing = result(measured("us", {"y": 1.0}), measured("them", {"x": 1.0}))
    assert verdict(budget, {"c": missing}).is_reached is None


def test_a_load_that_was_not_measured_is_missing_too() -> None:
    second = Budget(case="c", what="w", ours=Of("us", "x", load=1), plus=1.0)
    assert verdict(second, {"c": result(measured("us", {"x": 0.5}))}).is_reached is None


def test_the_best_of_all_loads_counts_where_no_load_is_named() -> None:
    most = Budget(case="c", what="w", ours=Of("us", "x", load=None), plus=7.0, at_least=True)
    rows = [measured("us", {"x": each}, load) for load, each in {"a": 5.0, "b": 8.0}.items()]
    assert verdict(most, {"c": result(*rows)}).ours == 8.0


def test_each_repeat_is_judged_by_itself() -> None:
    rows = [measured("us", {"x": each}, repeat=n) for n, each in enumerate((4.0, 6.0, 3.0))]
    rows += [measured("them", {"x": 10.0}, repeat=n) for n in range(3)]
    assert times_reached(AT_MOST, result(*rows)) == 2


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: f"{budget.case}: {budget.what}")
def test_a_budget_is_about_what_its_case_measures(budget: Budget) -> None:
    assert verdict(budget, {budget.case: whole(budget.case)}).is_reached is not None
    for each in filter(None, (budget.ours, budget.theirs)):
        assert {each.subject, *filter(None, [each.less])} <= set(CASES[budget.case].subjects)
