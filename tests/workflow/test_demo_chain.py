"""The demo on its real images with a short training: everything there, then nothing to be done."""

import pytest
import yaml


@pytest.fixture
def demo(small_project, project):
    """A project with the repository's own configuration but for a few steps of training."""
    wheels = project / "resources" / "wheels"
    if not list(wheels.glob("*.whl")):
        pytest.skip("the demo's images are not there: make results/demo/demo.json")
    short = {
        "demo": {"wheels": str(wheels)},
        "train": {"steps": 60, "validate_every_steps": 60},
    }
    (small_project.folder / "small.yaml").write_text(yaml.safe_dump(short))
    return small_project


def test_demo_from_images_to_measured_cells(demo):
    demo.snakemake()
    results = demo.folder / "results"
    verdict = (results / "verdict.txt").read_text()
    assert "1 done, 0 failed" in verdict
    facts = demo.read("results/slides/hela/slide.json")["facts"]
    assert (facts["height"], facts["width"], facts["dtype"]) == (3500, 4400, "uint16")
    assert facts["mpp_um"] == [0.645, 0.645]
    # far below what the whole training reaches, far above chance
    assert demo.read("results/slides/hela/accuracy.json")["facts"]["object_f1"] > 0.4
    pooled = demo.read("results/evaluation/main.json")["facts"]["averaging"]["none"]["pooled"]
    assert pooled["foreground_iou"] > 0.6
    assert "Nothing to be done" in demo.snakemake("-n").stdout

    demo.snakemake("--report", "report.html")
    report = (demo.folder / "report.html").read_text()
    for part in ("curves.png", "summary.tsv", "archive.tsv", "overlay.png", "main.png"):
        assert part in report
