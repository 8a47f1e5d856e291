"""Ranks, groups and entries over workloads: what many pairwise tests say together."""

import numpy as np
import pandas as pd
import pytest

from zobench.report.compare.entries import Entries, Overall
from zobench.report.compare.groups import groups, holm, of_pairs, ranks

NAMES = list("abcd")


def told(*pairs):
    frame = pd.DataFrame(False, index=NAMES, columns=NAMES)
    for one, other in pairs:
        frame.loc[one, other] = frame.loc[other, one] = True
    return frame


def scores(seed=0, right=(0.70, 0.70, 0.90), seeds=5, examples=600):
    generator = np.random.default_rng(seed)
    names = ("mezo", "loren", "pgap")[: len(right)]
    return {name: pd.DataFrame(generator.random((seeds, examples)) < x) for name, x in zip(names, right, strict=True)}


def test_holm_is_the_step_down_rule():
    assert holm([0.03, 0.01, 0.02, 0.9]) == pytest.approx([0.06, 0.04, 0.06, 0.9])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([np.nan, 0.02, 0.03]) == pytest.approx([np.nan, 0.04, 0.04], nan_ok=True)
    assert len(holm([])) == 0


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        ((), ["abcd"]),
        ((("a", "d"),), ["abc", "bcd"]),
        ((("a", "c"), ("a", "d"), ("b", "d")), ["ab", "bc", "cd"]),
        ((("a", "b"), ("a", "c"), ("a", "d")), ["a", "bcd"]),
        ((("a", "b"),), ["abcd"]),  # a is not told from c, which stands below b
        ([(x, y) for x in NAMES for y in NAMES if x < y], ["a", "b", "c", "d"]),
    ],
)
def test_groups_are_neighbours_that_are_not_told_apart(pairs, found):
    assert ["".join(group) for group in groups(NAMES, told(*pairs))] == found


def test_ranks_have_the_intervals_that_the_tests_leave():
    p = of_pairs(NAMES, [0.5, 0.01, 0.01, 0.2, 0.01, np.nan])  # a-b, a-c, a-d, b-c, b-d, c-d
    found = ranks(pd.Series({"d": 0.6, "c": 0.7, "b": 0.8, "a": 0.9}), p)
    assert list(found.index) == NAMES
    assert found[["rank", "best", "worst"]].to_numpy().tolist() == [[1, 1, 2], [2, 1, 3], [3, 2, 4], [4, 3, 4]]
    assert found["groups"].tolist() == ["a", "ab", "bc", "c"]


def test_entries_are_set_against_a_reference_with_holms_correction():
    found = Entries(scores()).against("mezo")
    assert list(found.index) == ["pgap", "loren"]
    assert (found["holm"] < 0.05).tolist() == [True, False]
    assert found.loc["pgap", "holm"] == pytest.approx(2 * found.loc["pgap", "p"])
    assert found[["seeds", "examples"]].to_numpy().tolist() == [[5, 600], [5, 600]]


def test_only_shared_seeds_and_examples_are_compared():
    tables = scores()
    tables["loren"] = tables["loren"].loc[[0, 2, 3], 100:]
    found = Entries(tables).versus("pgap", "loren")
    assert (found.seeds, found.examples) == (3, 500)
    expected = tables["pgap"].astype(float).loc[[0, 2, 3], 100:] - tables["loren"].astype(float)
    assert found.mean == pytest.approx(expected.to_numpy().mean())


def test_other_test_rows_with_every_seed_are_tested_over_seeds():
    metrics = {"mezo": pd.Series([0.7, 0.72, 0.71]), "loren": pd.Series([0.8, 0.81, 0.83])}
    tables = {name: pd.DataFrame(np.nan, index=range(3), columns=range(30)) for name in metrics}
    for table in tables.values():
        for seed in range(3):
            table.loc[seed, 10 * seed : 10 * seed + 9] = 1.0
    found = Entries(tables, metrics, 0.01).versus("loren", "mezo")
    assert (found.mean, found.seeds, found.examples) == (pytest.approx(0.37 / 3 - 0.02, abs=0.1), 3, 0)
    assert found == Entries({}, metrics, 0.01).versus("loren", "mezo")


def test_what_does_not_train_teaches_nothing_of_the_spread():
    tables = scores(right=(0.7, 0.7, 0.7)) | {"zeroshot": pd.DataFrame([[1.0, 0.0] * 300] * 5)}
    found = Entries(tables, untrained={"zeroshot"})
    assert found.usual == Entries(scores(right=(0.7, 0.7, 0.7))).usual
    assert found.versus("mezo", "zeroshot").seeds == 5


def test_the_power_of_many_entries_is_that_among_the_better_half():
    generator = np.random.default_rng(0)
    tables = {}
    for n, right in enumerate([0.9, 0.9, 0.89, 0.88, 0.7, 0.7, 0.7, 0.7]):
        level = right + (0.1 if right < 0.8 else 0.01) * generator.normal(size=5)
        tables[f"entry{n}"] = pd.DataFrame(generator.random((5, 600)) < level[:, None])
    better = {name: tables[name] for name in list(tables)[:4]}
    assert Entries(tables).components.seed == Entries(better).components.seed
    assert Entries({name: tables[name] for name in list(tables)[1:]}).components.seed > 5 * 0.01**2


def test_workloads_that_share_test_rows_are_one_sample_and_others_are_several():
    one, other = Entries(scores(0)), Entries(scores(1))
    alone = one.versus("pgap", "mezo")
    assert Overall([[one, one]]).versus("pgap", "mezo").error == pytest.approx(alone.error)
    assert Overall([one, one]).versus("pgap", "mezo").error == pytest.approx(alone.error / np.sqrt(2))
    both = Overall([one, other])
    assert both.mean("pgap") == pytest.approx((one.mean("pgap") + other.mean("pgap")) / 2)
    assert both.versus("pgap", "mezo").mean == pytest.approx(both.mean("pgap") - both.mean("mezo"))
    assert both.ranks()["groups"].tolist() == ["a", "b", "b"]


def test_an_entry_that_a_workload_lacks_is_not_compared_over_all():
    assert Overall([Entries(scores()), Entries(scores(right=(0.7, 0.7)))]).names == ["mezo", "loren"]


def test_equal_entries_share_a_rank_whatever_their_order():
    tables = scores()
    tables["again"] = tables["loren"].iloc[:, ::-1]
    for names in (list(tables), list(tables)[::-1]):
        found = Entries({name: tables[name] for name in names}).ranks()
        assert found.loc["again", "rank"] == found.loc["loren", "rank"]
        assert found.loc["pgap", ["rank", "best", "worst"]].tolist() == [1, 1, 1]
        assert sorted(found["rank"]) in ([1, 2, 2, 4], [1, 2, 3, 3])


def test_two_seeds_tell_no_ranks_apart():
    found = Entries(scores(right=(0.5, 0.9), seeds=2))
    assert found.versus("loren", "mezo").p < 0.05
    assert found.ranks()[["best", "worst"]].to_numpy().tolist() == [[1, 2], [1, 2]]


def test_who_is_better_is_told_by_the_seeds_that_both_have():
    """Mezo has easy seeds more than loren, which is better with each that both have."""
    tables = scores(right=(0.5, 0.7), seeds=3)
    easy = pd.DataFrame(True, index=range(3, 9), columns=tables["mezo"].columns)
    found = Entries({"mezo": pd.concat([tables["mezo"], easy]), "loren": tables["loren"]})
    assert found.mean("mezo") > found.mean("loren")
    assert found.versus("loren", "mezo").mean > 0
    ranked = found.ranks()
    assert ranked.loc["mezo", ["rank", "best", "worst"]].tolist() == [1, 1, 2]
    assert ranked.loc["loren", ["rank", "best", "worst"]].tolist() == [2, 1, 2]


def test_workloads_that_share_test_rows_are_averaged_where_all_have_seed_and_row():
    one, other = scores(0), scores(1)
    other["loren"] = other["loren"].loc[1:, :499]
    found = Overall([[Entries(one), Entries(other)]])
    by_hand = (one["loren"].astype(float) + other["loren"].astype(float)).loc[1:, :499].to_numpy().mean() / 2
    assert found.mean("loren") == pytest.approx(by_hand)
    told = found.versus("loren", "mezo")
    assert (told.seeds, told.examples) == (4, 500)
    assert set(found.ranks().index) == {"mezo", "loren", "pgap"}
