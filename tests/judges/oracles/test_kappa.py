"""The slow kappas come to what others have published, and to what must be so for any answers."""
import itertools

import pytest

from tests.helpers import kappa


@pytest.mark.parametrize("table, expected", kappa.COHEN)
def test_cohens_kappa_of_the_worked_examples(table, expected):
    pairs = kappa.answers_of_table(table)
    assert kappa.cohens_kappa(pairs) == expected
    turned = [(second, first) for first, second in pairs]
    assert kappa.cohens_kappa(turned) == expected


def test_fleiss_kappa_of_the_worked_example():
    answers = kappa.answers_of_counts(kappa.FLEISS)
    observed, expected = kappa.fleiss_parts(answers)
    assert (round(float(observed), 3), round(float(expected), 3)) == kappa.FLEISS_MEANS
    assert round(float(kappa.fleiss_kappa(answers)), 3) == kappa.FLEISS_KAPPA


def test_judges_who_always_agree_have_1_and_who_agree_as_by_chance_0():
    assert kappa.cohens_kappa([(0, 0), (1, 1), (1, 1)]) == 1
    assert kappa.cohens_kappa(list(itertools.product((0, 1), (0, 1)))) == 0
    assert kappa.fleiss_kappa([[0, 0, 0], [1, 1, 1]]) == 1


def test_judges_who_know_one_answer_alone_have_none():
    assert kappa.cohens_kappa([(1, 1), (1, 1)]) is None and kappa.cohens_kappa([]) is None
    assert kappa.fleiss_kappa([[1, 1], [1, 1]]) is None and kappa.fleiss_kappa([]) is None


def test_who_always_says_the_opposite_is_below_0():
    assert kappa.cohens_kappa([(0, 1), (1, 0)]) == -1
    assert kappa.fleiss_kappa([[0, 1], [1, 0]]) == -1
