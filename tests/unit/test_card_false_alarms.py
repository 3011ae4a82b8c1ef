"""True ids are not taken for card numbers: fewer of them here than `python -m bench.false_alarms` draws."""

import pytest

from bench.false_alarms import NEVER_REFUSED, SELDOM_REFUSED, refused

IDS = 3_000
SEED = 20_261_130
# Of a thousand ids: what `bench.false_alarms` measures over a million, with room for the chance of a small sample.
MOST_REFUSED_PER_THOUSAND = {"number of 16 digits": 60, "number of 16 digits from 4": 130, "number of 19 digits": 50}
MOST_REFUSED_OF_OTHERS_PER_THOUSAND = 20


@pytest.mark.parametrize("shape", NEVER_REFUSED)
def test_no_id_is_refused_when_it_has_a_shape_that_machines_make(shape: str) -> None:
    assert refused(NEVER_REFUSED[shape], ids=IDS, seed=SEED) == 0


@pytest.mark.parametrize("shape", SELDOM_REFUSED)
def test_few_ids_are_refused_when_a_card_number_can_look_like_them(shape: str) -> None:
    most = MOST_REFUSED_PER_THOUSAND.get(shape, MOST_REFUSED_OF_OTHERS_PER_THOUSAND)
    assert refused(SELDOM_REFUSED[shape], ids=IDS, seed=SEED) <= IDS * most / 1000
