"""A folder or a glob of slides: ids that last, duplicates and hostile names settled at once."""

import os

import pytest
import yaml
from slideunet import tables
from slideunet.errors import UserError
from slideunet.slide_folder import id_of, read_slides


@pytest.fixture(scope="session")
def schema(project):
    return yaml.safe_load((project / "workflow" / "schemas" / "slides.schema.yaml").read_text())


@pytest.fixture
def folder(tmp_path):
    """Makes files (with something in them) and tells the folder."""

    def make(*names):
        for name in names:
            path = tmp_path / "slides" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"slide " + name.encode("utf-8", "surrogateescape"))
        return tmp_path / "slides"

    return make


@pytest.mark.parametrize("name", ["CMU-1.svs", "CMU-1.ome.tif", "CMU-1.OME.TIFF", "CMU-1.zarr"])
def test_a_clean_name_is_the_id(name):
    assert id_of(name) == "CMU-1"


@pytest.mark.parametrize(
    "name",
    ["a b.svs", "batch/a.svs", "-rf.svs", "..svs", "é.svs", "x" * 200 + ".svs", "$(x).svs"],
)
def test_any_other_name_gives_an_id_of_its_own_that_lasts(name):
    found = id_of(name)
    assert tables.ID.fullmatch(found)
    assert found == id_of(name)
    assert found != id_of(name.replace(".svs", ".tif")), "the digest is of the whole name"


def test_ids_are_fixed():
    """Another digest or cut would make every archive anew."""
    assert id_of("batch 1/slide 7.svs") == "batch-1-slide-7-77e9e810"


def test_a_folder_holds_what_looks_like_a_slide(folder, schema):
    found = folder("b.svs", "a.ome.tif", "notes.txt", ".hidden.svs", "._a.svs", "series/1.dcm")
    folder("other/x.txt", "c.ome.zarr/zarr.json")
    rows, refused = read_slides(str(found), schema)
    assert refused == []
    assert {name: os.path.relpath(row["image"], found) for name, row in rows.items()} == {
        "a": "a.ome.tif",
        "b": "b.svs",
        "c": "c.ome.zarr",
        "series": "series",
    }


def test_a_new_slide_changes_no_other_id(folder, schema):
    before, _ = read_slides(str(folder("a b.svs", "c.svs")), schema)
    after, _ = read_slides(str(folder("a-b.svs", "0.svs", "a_b.svs")), schema)
    assert before.items() <= after.items()
    assert len(after) == 5


def test_a_glob_takes_all_it_matches_relative_to_its_fixed_part(folder, schema):
    found = folder("one/x.raw", "two/x.raw", "two/y.txt")
    rows, refused = read_slides(f"{found}/*/x.raw", schema)
    assert refused == []
    assert set(rows) == {id_of("one/x.raw"), id_of("two/x.raw")}
    rows, _ = read_slides(f"{found}/t*/**", schema)
    assert len(rows) == 3, "the folder too"


def test_one_slide_is_enough(folder, schema):
    rows, _ = read_slides(str(folder("only.svs") / "only.svs"), schema)
    assert list(rows) == ["only"]


def test_what_can_t_be_used_is_refused_with_its_reason(folder, schema):
    found = folder("good.svs", "a.svs", "a.tif", "{x}.svs", "line\nend.svs", "<y>.svs")
    (found / "empty.svs").touch()
    (found / "broken.svs").symlink_to("nowhere")
    (found / "again.svs").symlink_to("good.svs")
    with open(os.fsencode(found) + b"/\xff.svs", "wb") as file:
        file.write(b"x")
    rows, refused = read_slides(str(found), schema)
    assert list(rows) == ["good"]
    reasons = "\n".join(row["reason"] for row in refused)
    assert len(refused) == 9
    for words in (
        "a.svs: id 'a' is that of",
        "a.tif: id 'a' is that of",
        "{x}.svs: { } < >",
        "line\\nend.svs: { } < >",
        "empty.svs: empty file",
        "broken.svs: a link to a file that is not there",
        "again.svs: the same file as",
        "\\xff.svs: its name is no UTF-8",
    ):
        assert words in reasons
    assert all(tables.ID.fullmatch(row["slide"]) for row in refused)
    assert {row["stage"] for row in refused} == {"table"}


def test_a_job_on_a_cluster_looks_at_no_file(folder, schema, monkeypatch):
    found = folder("good.svs", "a.svs", "a.tif", "{x}.svs")
    with_look = read_slides(str(found), schema)[0]
    monkeypatch.setattr(os, "stat", lambda *a, **k: pytest.fail("looked"))
    monkeypatch.setattr(os, "access", lambda *a, **k: pytest.fail("looked"))
    monkeypatch.setattr(os.path, "isdir", lambda path: True)
    assert read_slides(str(found), schema, look=False)[0] == with_look


@pytest.mark.parametrize("value", ["", "/none*.svs", "/none.svs"])
def test_nothing_there_is_one_line(folder, schema, value):
    found = folder("notes.txt")
    if value == "/none.svs":
        _, refused = read_slides(f"{found}{value}", schema)
        assert "there" in refused[0]["reason"]
        return
    with pytest.raises(UserError, match="no slide there") as error:
        read_slides(f"{found}{value}", schema)
    assert "\n" not in str(error.value)


def test_a_table_is_still_a_table(folder, schema):
    found = folder("a.svs")
    (found / "slides.tsv").write_text(f"id\timage\nx\t{found}/a.svs\n")
    assert list(read_slides(str(found / "slides.tsv"), schema)[0]) == ["x"]
    with pytest.raises(UserError, match="No such file"):
        read_slides(str(found / "none.tsv"), schema)
