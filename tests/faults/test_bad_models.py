"""Strangers' models: none runs, none is loaded, each is one line."""

import json
import shutil

import pytest
import warm
from bad_models import load_pickled, load_under_watch, write_all

SECONDS, MEMORY_MB = 20, 1000


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.faults)])
def test_no_strangers_model_runs_or_is_loaded(server, tmp_path, figure, every):
    canary = tmp_path / "ran"
    models = list(write_all(tmp_path, canary).items())[::every]
    verdict, good = tmp_path / "verdict.json", 0
    for name, card in models:
        verdict.unlink(missing_ok=True)
        run = warm.Run(load_under_watch, str(card), str(verdict), log=tmp_path / "log")
        status = run.join(SECONDS)
        if status is None:
            run.kill()
        found = json.loads(verdict.read_text()) if verdict.exists() else {}
        line = found.get("line")
        fine = status == 0 and line and "\n" not in line and str(card.parent) in line
        fine = fine and found["mb"] < MEMORY_MB and not canary.exists()
        print(f"{name}: {status} {found}")
        good += bool(fine)
    figure("strangers' models, refused with one line", 40 // every, len(models), good)


def test_the_sound_model_is_loaded_and_the_canary_sings(server, tmp_path):
    """The sound one of the same making is loaded; a loader of pickles runs the payload."""
    canary = tmp_path / "ran"
    models = write_all(tmp_path, canary)
    verdict = tmp_path / "verdict.json"
    sound = tmp_path / "sound" / "model.json"
    assert warm.call(load_under_watch, str(sound), str(verdict), log=tmp_path / "log") == 0
    assert json.loads(verdict.read_text())["line"] is None
    file = models["pickle"].with_name("model.safetensors")
    warm.finish(load_pickled, str(file), log=tmp_path / "log")
    assert canary.is_dir()
    shutil.rmtree(canary)
