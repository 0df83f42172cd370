"""Where a slide's time went, from the markers of its shards."""

from slideunet import timing

MARKERS = [
    {
        "seconds": {"read": 1.0, "wait": 0.5, "compute": 6.0, "write": 0.25},
        "computed_px": 4_000_000,
    },
    {"seconds": {"read": 1.0, "compute": 3.0, "write": 0.25}, "computed_px": 2_000_000},
    {"seconds": {"write": 0.5}},  # of the pyramid
]


def test_sums_and_rates():
    found = timing.timing_of(MARKERS, devices=2, wall_s=5.0)
    assert (found["read_s"], found["compute_s"], found["write_s"]) == (2.0, 9.0, 1.0)
    assert found["device_busy_percent"] == 90.0
    assert found["mpx_per_s"] == 1.2
    assert set(timing.COLUMNS) == set(found)


def test_parts_together_are_as_if_one_after_another():
    parts = [timing.timing_of([marker], 1, 10.0) for marker in MARKERS[:2]]
    joining = timing.timing_of(MARKERS[2:], 1, 1.0)
    found = timing.together([joining, *parts])
    assert (found["wall_s"], found["compute_s"], found["computed_px"]) == (21.0, 9.0, 6_000_000)
    assert found["device_busy_percent"] == round(100 * 9 / 21, 1)
    assert timing.together(parts[:1]) == parts[0]


def test_nothing_to_do_is_no_division_by_zero():
    assert timing.timing_of([], 1, 0.0)["mpx_per_s"] == 0
