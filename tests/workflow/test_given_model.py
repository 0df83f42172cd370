"""A model made elsewhere segments slides without a training, or is trained on."""

import shutil


def test_a_model_made_elsewhere_segments_as_it_did_at_home(finished_project, small_project):
    home, away = finished_project, small_project
    model = away.folder / "models" / "nuclei"
    model.mkdir(parents=True)
    for name in ("model.json", "model.safetensors"):
        shutil.copy(home.folder / "results" / "models" / "main" / name, model)
    # no training table at all: none is read
    away.configure(model="models/nuclei/model.json", training="none.tsv")
    assert "train" not in away.planned()
    away.snakemake()
    results = away.results()
    assert not {path.split("/")[0] for path in results} & {"images", "weights"}
    for name in ("objects.geojson.gz", "objects.parquet"):
        path = f"slides/one/{name}"
        assert results[path] == home.results()[path], name
    assert "slides:   1 done, 0 failed" in results["verdict.txt"].decode()
    assert away.planned() == {}
    # fine-tuning from it, in a project of the same kind
    away.configure(model="", training="tables/training.tsv", train={"steps": 4})
    away.configure(train={"start_from": "models/nuclei/model.json"})
    away.snakemake("results/models/main/train.json")
    fine = away.read("results/models/main/train.json")
    assert len(fine["inputs"]["start"]) == 1
    assert "start_from" not in fine["settings"]["train"]
    # one segmentation at a time: other weights of the model train again
    away.configure(train={"start_from": ""})
    assert away.planned("results/models/main/train.json")["train"] == 1


def test_a_model_that_is_not_there_is_one_line(small_project):
    small_project.configure(model="models/none.json")
    done = small_project.snakemake("-n", check=False)
    assert done.returncode != 0
    assert "config: model: 'models/none.json': no such file: give the path of" in done.stdout
    assert "Traceback" not in done.stdout
