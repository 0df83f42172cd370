"""Any order of planning, writing, dying, damaging, going on: no wrong bytes pass for whole."""

import random
import shutil
import tempfile
from pathlib import Path

import pytest
import warm
from crash_cases import publish
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from slideunet import store
from slideunet.errors import UserError
from slideunet.manifest import read_manifest
from small_archive import content
from test_damage import cut, delete, flip

SEED = 3


class Machine(RuleBasedStateMachine):
    """One artefact of changing settings, its maker killed and its files damaged at will."""

    calm: dict[int, dict[str, bytes]]
    steps: int
    counts: dict[str, int]

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.out, self.log = self.folder / "publish", self.folder / "log"
        self.out.mkdir()
        self.wanted = 1

    @rule(number=st.integers(1, 2))
    def plan(self, number: int) -> None:
        self.wanted = number

    @rule(share=st.floats(0, 1), torn=st.booleans())
    def write_and_die(self, share: float, torn: bool) -> None:
        armed = warm.DieAt(self.out, 1 + int(share * self.steps), torn)
        warm.call(publish, self.out, settings=self.wanted, log=self.log, prepare=[armed])
        self.counts["deaths"] += 1

    @rule(which=st.integers(0, 99), kind=st.sampled_from([flip, cut, delete]))
    def damage(self, which: int, kind) -> None:
        paths = sorted(path for path in self.out.rglob("*") if path.is_file())
        if not paths:
            return
        path = paths[which % len(paths)]
        data = path.read_bytes()
        damaged = kind(data, random.Random(which)) if data else None
        path.unlink() if damaged is None else path.write_bytes(damaged)
        self.counts["damages"] += 1

    @rule()
    def go_on(self) -> None:
        warm.finish(publish, self.out, settings=self.wanted, log=self.log)
        assert content(self.out) == self.calm[self.wanted]
        self.counts["resumed"] += 1

    @invariant()
    def what_is_called_whole_is_whole(self) -> None:
        manifest = self.out / "a.json"
        try:
            if store.find_damage(manifest):
                return
        except UserError:
            return
        made = read_manifest(manifest)
        calm = self.calm[made["settings"]["n"]]
        for entry in made["files"]:
            assert (self.out / entry["path"]).read_bytes() == calm[entry["path"]]
        assert manifest.read_bytes() == calm["a.json"]

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


@pytest.fixture
def machine(server, crash_points, tmp_path):
    """The machine with what it compares to."""
    calm = {}
    for number in (1, 2):
        out = tmp_path / str(number)
        out.mkdir()
        counted = warm.DieAt(out, 0, count=tmp_path / "count")
        warm.finish(publish, out, settings=number, log=tmp_path / "log", prepare=[counted])
        calm[number] = content(out)
    made = type("Made", (Machine,), {})
    made.calm, made.steps = calm, int((tmp_path / "count").read_text())
    made.counts = {"deaths": 0, "damages": 0, "resumed": 0}
    return made


@pytest.mark.parametrize("examples", [2, pytest.param(60, marks=pytest.mark.faults)])
def test_any_order_of_faults(machine, figure, examples):
    options = settings(
        max_examples=examples, stateful_step_count=20, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), print_blob=True,
    )  # fmt: skip
    run_state_machine_as_test(seed(SEED)(machine), settings=options)
    print(f"seed {SEED}, {machine.counts}")
    resumed = machine.counts["resumed"]
    figure(
        "state machine: calls after deaths and damage, same bytes", examples // 2, resumed, resumed
    )


@pytest.mark.faults
def test_the_machine_finds_a_store_that_checks_nothing(machine, monkeypatch):
    """Sizes alone: the machine must find a flip that passes."""
    checked = store.find_damage
    monkeypatch.setattr(store, "find_damage", lambda path: checked(path, all_bytes=False))
    options = settings(
        max_examples=60, stateful_step_count=20, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    with pytest.raises(AssertionError):
        run_state_machine_as_test(seed(SEED)(machine), settings=options)
