"""The tables are settled before the first job: each mistake one line with file, line, reason.

Typical mistakes, word for word: tests/workflow/test_mistakes.py.
"""

import pytest
import yaml
from slideunet.errors import UserError
from slideunet.tables import read_slides, read_training


@pytest.fixture(scope="session")
def schemas(project):
    folder = project / "workflow" / "schemas"
    return {
        name: yaml.safe_load((folder / f"{name}.schema.yaml").read_text())
        for name in ("training", "slides")
    }


@pytest.fixture
def table(tmp_path):
    (tmp_path / "a.tif").touch()
    (tmp_path / "b.xml").touch()

    def write(text):
        path = tmp_path / "table.tsv"
        path.write_text(text.replace("DIR", str(tmp_path)))
        return str(path)

    return write


def test_reads_rows_in_order_and_leaves_empty_cells_out(table, schemas):
    path = table(
        "id\timage\tlabel\tsplit\tregion\tpage\n"
        "z\tDIR/a.tif\tDIR/b.xml\ttrain\t0,0, 5,6\t\n"
        "\n# a comment\n"
        "a\tDIR/a.tif\tDIR/b.xml\t\t\t3\n"
    )
    rows = read_training(path, schemas["training"])
    assert list(rows) == ["z", "a"]
    assert rows["z"]["region"] == "0,0, 5,6"
    assert "split" not in rows["a"]
    assert rows["a"]["page"] == "3"


def test_text_stays_text(table, schemas):
    """pandas would make 1.0 of 001 and NaN of NA."""
    path = table("id\timage\tlabel\n001\tDIR/a.tif\tDIR/b.xml\nNA\tDIR/a.tif\tDIR/b.xml\n")
    assert list(read_training(path, schemas["training"])) == ["001", "NA"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("id\timage\tlable\nx\tDIR/a.tif\ty\n", "no column 'label'"),
        ("id\timage\tlabel\timage\n", "a column stands twice in the first line"),
        ("id\timage\tlabel\n../x\tDIR/a.tif\tDIR/b.xml\n", "id '../x': 1 to 64 letters"),
        ("id\timage\tlabel\tpage\nx\tDIR/a.tif\tDIR/b.xml\t-1\n", "page '-1'"),
        ("id\timage\tlabel\tmpp_um\nx\tDIR/a.tif\tDIR/b.xml\tnan\n", "mpp_um 'nan'"),
        ("id;image;label\n", "its columns are parted by ';'"),
        ("", "empty"),
    ],
)
def test_a_mistake_in_the_training_table_is_one_line(table, schemas, rows, message):
    with pytest.raises(UserError, match=message) as error:
        read_training(table(rows), schemas["training"])
    assert "\n" not in str(error.value)
    assert "table.tsv" in str(error.value)


def test_a_bad_slide_is_a_row_of_the_failure_table(table, schemas):
    path = table(
        "id\timage\ngood\tDIR/a.tif\ngone\tDIR/no.svs\nbad id\tDIR/a.tif\n"
        "good\tDIR/a.tif\nbrace\tDIR/{x}.svs\n"
    )
    rows, failures = read_slides(path, schemas["slides"])
    assert list(rows) == ["good"]
    assert [failure["slide"] for failure in failures] == ["gone", "line-4", "good", "brace"]
    assert all(failure["stage"] == "table" for failure in failures)


def test_a_slide_table_without_slides_is_one_line(table, schemas):
    path = table("id\timage\n# none yet\n")
    with pytest.raises(UserError, match="no slide in it: add a row"):
        read_slides(path, schemas["slides"])


def test_comments_may_stand_before_the_header(table, schemas):
    path = table("# from the scanner\nid\timage\ngone\tnone.tif\n")
    _, (failure,) = read_slides(path, schemas["slides"])
    assert "line 3: " in failure["reason"]


def test_files_that_a_rule_makes_need_not_exist(table, schemas):
    path = table("id\timage\nx\tlater.tif\n")
    assert read_slides(path, schemas["slides"])[0] == {}
    assert "x" in read_slides(path, schemas["slides"], made={"later.tif"})[0]
