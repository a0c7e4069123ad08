"""Agreement of judges, slowly: by counting pairs of answers, one by one, in fractions. And the worked
examples of others, with what they come to."""
import itertools
from collections import Counter
from fractions import Fraction

# Cohen's kappa: (how often the first judge said i and the second j, the kappa). The first is the standard
# example of two readers who say yes or no to 50 proposals: p_o = 35/50, p_e = .5 * .6 + .5 * .4, kappa .4.
# The other two have the same p_o = .6 with other margins: p_e = .54 and .46.
COHEN = [
    ([[20, 5], [10, 15]], Fraction(2, 5)),
    ([[45, 15], [25, 15]], Fraction(6, 46)),
    ([[25, 35], [5, 35]], Fraction(14, 54))]
# Fleiss' kappa: 14 raters sort 10 subjects into 5 categories; counts of each subject. P_bar = .378,
# P_e = .213, kappa = .210.
FLEISS = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
          [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]
FLEISS_KAPPA = 0.210  # as published, to three places
FLEISS_MEANS = (0.378, 0.213)


def answers_of_table(table):
    """[(first judge's answer, second judge's)] of a table of counts."""
    return [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]


def answers_of_counts(rows):
    """[[answer, ...] of each subject] of counts."""
    return [[category for category, count in enumerate(row) for _ in range(count)] for row in rows]


def cohens_kappa(pairs):
    """Of [(first judge's answer, second judge's)] on the same items; None where chance alone would agree
    always, or there are none.

    What is expected by chance is counted as it is meant: an answer of the first judge meets one of the
    second, each taken from any item.
    """
    if not pairs:
        return None
    observed = Fraction(sum(first == second for first, second in pairs), len(pairs))
    met = [first == second for (first, _), (_, second) in itertools.product(pairs, pairs)]
    expected = Fraction(sum(met), len(met))
    return None if expected == 1 else (observed - expected) / (1 - expected)


def fleiss_parts(answers):
    """(mean agreement of two different answers to the same subject, agreement of any two answers), where each
    subject has equally many, at least two."""
    assert len({len(each) for each in answers}) == 1 and len(answers[0]) > 1
    of_subjects = []
    for each in answers:
        pairs = [first == second for first, second in itertools.permutations(each, 2)]
        of_subjects.append(Fraction(sum(pairs), len(pairs)))
    counts = Counter(itertools.chain.from_iterable(answers))
    total = sum(counts.values())
    expected = sum(Fraction(count, total)**2 for count in counts.values())
    return sum(of_subjects) / len(of_subjects), expected


def fleiss_kappa(answers):
    """Of [[answer, ...] of each subject]; None where chance alone would agree always, or there are none."""
    if not answers:
        return None
    observed, expected = fleiss_parts(answers)
    return None if expected == 1 else (observed - expected) / (1 - expected)
