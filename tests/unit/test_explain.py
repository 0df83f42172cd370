"""Why a job will run, said so that a user understands it."""

from slideunet.explain import changed_inputs, changed_params, join, report, some

CODE = {"segment.py": "1", "slideunet/geometry.py": "2", "slideunet/store.py": "3"}
SETTINGS = {"segment": {"tile_px": "auto", "threads": 1, "models": ["main"]}}


def changed(before, now):
    """As Snakemake gives it: only what differs, printed."""
    old, new = {repr(value) for value in before}, {repr(value) for value in now}
    return changed_params(old - new, new - old)


def test_a_changed_key_is_named_with_both_values():
    now = {"segment": {**SETTINGS["segment"], "tile_px": 512}}
    assert changed([SETTINGS, CODE], [now, CODE]) == ["config segment.tile_px is 512, was 'auto'"]


def test_keys_that_came_and_went():
    now = {"segment": {"tile_px": "auto", "models": ["main"], "scratch": "/tmp"}}
    assert changed([SETTINGS], [now]) == [
        "config segment.scratch is new: '/tmp'",
        "config segment.threads is gone (was 1)",
    ]


def test_changed_modules_are_named():
    now = {**CODE, "slideunet/geometry.py": "9", "slideunet/new.py": "4"}
    assert changed([SETTINGS, CODE], [SETTINGS, now]) == [
        "its code changed: workflow/scripts/slideunet/geometry.py and "
        "workflow/scripts/slideunet/new.py"
    ]


def test_a_slide_replaced():
    before = {"mtime_ns": 1, "size": 5}
    assert "another time" in changed([before], [{"mtime_ns": 2, "size": 5}])[0]
    assert "another size" in changed([before], [{"mtime_ns": 2, "size": 6}])[0]


def test_rows_of_the_table():
    assert changed([["a", "b"]], [["a", "c", "d"]]) == [
        "the table's rows changed: 2 new and 1 gone"
    ]
    assert changed([["a"], None], [None]) == ["the table's rows changed: 1 gone"]


def test_what_cannot_be_told_apart_is_still_a_reason():
    assert changed(["x"], ["y"])


def test_inputs():
    assert changed_inputs(["a", "b"], ["b", "c"]) == ["new input: c", "no longer an input: a"]


def test_words():
    assert join(["a"]) == "a"
    assert join(["a", "b", "c"]) == "a, b and c"
    assert join([]) == ""
    assert some("abcde") == "a, b, c and 2 more"


def test_jobs_with_one_reason_share_a_line():
    jobs = [("segment", name, ["it was never made"]) for name in "abcde"]
    assert report([*jobs, ("train", "main", ["x", "y"]), ("verdict", "", [])]) == [
        "segment a, b, c and 2 more: it was never made",
        "train main: x; y",
        "verdict: what it makes is wanted",
    ]
