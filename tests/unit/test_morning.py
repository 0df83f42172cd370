"""The morning report: what stands in it, and that nothing written into it can do anything."""

from html.parser import HTMLParser

import pytest
from browser import Browser, program
from made_night import archive_row, benchmark, log_file, made_night, model, write_table
from slideunet import night
from slideunet.embedded import embed, share_bytes
from slideunet.morning_page import COLUMNS, figure
from slideunet.stages.morning import morning, pictures, totals

VOID = {"meta", "img", "input", "br", "link"}
HOSTILE = [
    text.replace("X", mark)
    for text in (
        "<script>window.hacked=1</script>X", "<img src=x onerror=window.hacked=1>X",
        "</title><script>X</script>", "</style><style>*{display:none}</style>X",
        '" onmouseover="window.hacked=1" X="', "' onfocus='window.hacked=1' autofocus X='",
        "</td></tr></table><h1>X", "<svg/onload=window.hacked=1>X", "{{ 7 * 7 }}X", "{% raw %}X",
        "javascript:window.hacked=1//X", "<!-- X", "-->X<script>", "&lt;b&gt;X", "&#60;b&#62;X",
        "<iframe src='https://example.org/X'>", "<link rel=stylesheet href=//example.org/X>",
        "<base href='https://example.org/'>X", "<meta http-equiv=refresh content='0;url=//e.org'>X",
        "\u202etxt.exe X", "<a href='data:text/html,X'>", "]]><b>X", "<textarea>X", "${X}`",
        "<style>@import '//example.org/X'</style>", "<math><mtext><b>X", "\"'><b id=hacked>X",
        "<object data=//example.org/X>", "<form action=//example.org/X><input>", "<plaintext>X",
    )
    for mark in ("a", "b")
]  # fmt: skip


class Page(HTMLParser):
    """The elements of a page: tags, attributes, texts; that each is closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return "".join(self.texts)


@pytest.fixture
def folder(tmp_path):
    results = tmp_path / "results"
    rows = [archive_row("bad", 0, "failed"), archive_row("a", 20), archive_row("b", 3)]
    failures = [
        {"slide": "bad", "stage": "segmentation", "reason": "tile 3 is torn",
         "log": "results/logs/segment/bad.log"},
        {"slide": "line-9", "stage": "table", "reason": "no such file", "log": ""},
    ]  # fmt: skip
    made_night(results, rows, failures, picture_px=300)
    benchmark(results, "segment", "a", 3601.5)
    line = "2026-11-25 18:00:00,123 WARNING the pixel size is unknown"
    log_file(results, "segment", "a", "2026-11-25 17:59:00,001 INFO begins", line, line)
    summary = {"model": "main", "averaging": "none", "foreground_iou": "0.91"}
    write_table(results / "evaluation" / "summary.tsv", [summary])
    group = {"group": "folds", "averaging": "none", "models": "4", "foreground_iou": "0.876"}
    write_table(results / "evaluation" / "groups.tsv", [group])
    return results


def made(folder, models=(), config=None):
    page = folder / "morning.html"
    morning(results=str(folder), models=list(models), page=str(page), config=config or {"a": 1})
    return page


def test_failed_slides_come_first_with_their_reason(folder):
    page = Page(made(folder).read_text())
    rows = [a for a in page.all("tr") if "data-status" in a]
    assert [row["data-status"] for row in rows] == ["failed", "skipped", "done", "done"]
    names = [a["data-value"] for a in page.all("th") if a.get("scope") == "row"]
    assert names == ["bad", "line-9", "a", "b"]
    assert "segmentation: tile 3 is torn" in page.text
    assert "results/logs/segment/bad.log" in page.text
    text = " ".join(page.text.split())
    assert "2 done 1 failed 1 skipped" in text
    assert page.open == []


def test_figures_times_warnings_networks_and_provenance_stand_in_it(folder):
    text = Page(
        made(folder, [model(folder, "main", ["background", "gland"])], {"classes": ["x", "gland"]})
        .read_text()
    ).text  # fmt: skip
    for wanted in (
        "20 000", "3602", "8.33", "75", "segment: the pixel size is unknown", "0.91",
        "0.876", "ab" * 32, "background, gland", "torch", "processor", "commit", "- gland",
        "1 Gpx", "23 000",
    ):  # fmt: skip
        assert wanted.replace(" ", "\u2009") in text.replace(" ", "\u2009"), wanted
    assert text.count("the pixel size is unknown") == 1, (
        "a line that is logged twice is one warning"
    )


def test_a_network_tested_on_its_own_images_is_shown_as_such(folder):
    networks = [model(folder, "own", ["x"], "ab"), model(folder, "main", ["x"], "cd")]
    text = Page(made(folder, networks).read_text()).text
    (line,) = [line for line in text.splitlines() if "TRAINED on" in line]
    assert line.startswith("own: ")


def test_totals_are_in_units_that_fit_and_unknown_areas_are_left_out():
    values = {"computed_px": 116352.0, "wall_s": 2.0, "index_s": 25.0}
    slide = night.Slide("a", "done", values=values)
    small = dict(totals([slide]))
    assert small["computed"] == "0.116 Mpx"
    assert small["time of all slides' jobs"] == "25 s"
    assert "tissue" not in small
    slide.values |= {"computed_px": 2.5e9, "index_s": 5400.0, "tissue_mm2": 12.0}
    large = dict(totals([slide]))
    assert large["computed"] == "2.50 Gpx"
    assert large["time of all slides' jobs"] == "1.50 h"
    assert large["tissue"] == "12 mm²"


def test_each_slide_has_its_pictures_and_they_are_data(folder):
    page = Page(made(folder, [model(folder, "main", ["x", "y"])]).read_text())
    sources = [image["src"] for image in page.all("img")]
    assert len(sources) == 2 * 2 + 1
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    for tag, attributes in page.tags:
        for key in ("src", "href"):
            address = attributes.get(key, "#")
            assert address.startswith(("data:image/", "#", "slides/")), (tag, address)


def test_what_is_hostile_is_shown_as_text(tmp_path):
    assert len(HOSTILE) == 60
    folder = tmp_path / "results"
    rows = [archive_row(f"s{number}", number) for number in range(60)]
    for row, text in zip(rows, HOSTILE, strict=True):
        row["reader"] = row["density_per_mm2"] = text
    failures = [
        {"slide": text, "stage": text, "reason": text, "log": text} for text in HOSTILE
    ]  # fmt: skip
    made_night(folder, rows, failures)
    for number, text in enumerate(HOSTILE):
        log_file(folder, "segment", f"s{number}", f"2026-11-25 18:00:00,1 WARNING {text}")
    write_table(folder / "evaluation" / "summary.tsv", [{"model": text} for text in HOSTILE])
    manifest = model(folder, "main", HOSTILE)
    harmless = tmp_path / "harmless"
    plain = [{"slide": f"f{n}", "stage": "s", "reason": "r", "log": "l"} for n in range(60)]
    made_night(harmless, [archive_row(f"s{n}", n) for n in range(60)], plain)
    for number in range(60):
        log_file(harmless, "segment", f"s{number}", f"2026-11-25 18:00:00,1 WARNING {number}")
    write_table(harmless / "evaluation" / "summary.tsv", [{"model": "m"} for _ in HOSTILE])
    config = {"classes": HOSTILE}
    bad = made(folder, [manifest], config)
    page = Page(bad.read_text())
    good = Page(made(harmless, [model(harmless, "main", ["a", "b"])]).read_text())
    # the same elements with the same attributes as where all names are plain: nothing came in
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in good.tags]
    assert [set(a) for _, a in page.tags] == [set(a) for _, a in good.tags]
    assert page.open == []
    for text in HOSTILE:
        shown = " ".join(text.split())
        assert page.text.count(shown) >= 6, text  # name, reason, log, cells, warning, class
    if program():
        with Browser() as browser:
            browser.open(bad)
            assert browser.value("window.hacked") is None
            assert browser.value("document.querySelectorAll('#hacked').length") == 0
            assert len(browser.requested()) == 1
            assert browser.complaints() == []


def test_the_pages_pictures_stay_within_their_limit(tmp_path):
    folder = tmp_path / "results"
    names = [f"s{number}" for number in range(12)]
    made_night(folder, [archive_row(name, 1) for name in names], [], picture_px=400)
    for limit in (400_000, 60_000):
        shown, left_out = pictures(folder, names, limit)
        sizes = [len(p.address) for pair in shown.values() for p in pair.values() if p]
        assert len(sizes) == 24 and left_out == 0
        assert limit / 4 < sum(sizes) <= limit
    shown, left_out = pictures(folder, names, 5_000)
    assert left_out == 24
    assert all(picture is None for pair in shown.values() for picture in pair.values())


def test_a_picture_is_never_enlarged_and_a_broken_one_is_left_out(tmp_path):
    made_night(tmp_path, [archive_row("s", 1)], [], picture_px=100)
    picture = embed(tmp_path / "slides" / "s" / "thumbnail.png", 10**6)
    assert (picture.width, picture.height) == (100, 75)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    assert embed(tmp_path / "broken.png", 10**6) is None
    assert embed(tmp_path / "none.png", 10**6) is None
    assert share_bytes(1000) * 1000 <= 20_000_000


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"mpp_y_um": "", "mpp_x_um": ""}, "no pixel size: it went through unscaled"),
        ({"objects": 0}, "no object found"),
        ({"tissue_fraction": 0}, "no tissue found"),
        ({"bad_tiles": 3}, "3 tiles do not decode"),
        ({"masked_px": 4096}, "4096 px masked"),
        ({"pen_fraction": 0.2}, "pen on the slide"),
        ({"focus": 10}, "less sharp than the others"),
    ],
)
def test_doubtful_figures_are_warnings(tmp_path, change, warning):
    rows = [archive_row(name, 5) for name in ("a", "b", "c")]
    made_night(tmp_path, [{**rows[0], **change}, *rows[1:]], [])
    assert [slide.warnings for slide in night.read_slides(tmp_path)] == [[warning], [], []]


def test_of_a_long_log_the_end_is_read_and_few_warnings_shown(tmp_path):
    lines = [f"2026-11-25 18:00:00,123 WARNING number {n} {'.' * 40}" for n in range(5000)]
    log_file(tmp_path, "objects", "a", *lines)
    found = night.logged(tmp_path, "a")
    assert len(found) == night.WARNINGS_SHOWN + 1
    assert not any(f"number {n} " in line for line in found for n in range(2000))
    assert found[-1].endswith("more in the logs")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (12.0, "12"), (1234567.0, "1\u2009234\u2009567"), (0.123456, "0.123"),
     (12.3456, "12.3"), (123456.7, "123457"), (-3.25, "-3.25"), ("tifffile", "tifffile")],
)  # fmt: skip
def test_figures_are_short(value, text):
    assert figure(value) == text


def test_without_slides_and_networks_there_is_a_page_too(tmp_path):
    assert "No slides were asked for." in made(tmp_path).read_text()


@pytest.mark.skipif(program() is None, reason="no Chromium here")
def test_a_browser_sorts_and_filters_and_loads_nothing(folder):
    page = made(folder)
    shown = "document.querySelectorAll('#table tbody tr:not([hidden]) th')"
    names = f"Array.from({shown}).map(e => e.textContent)"
    with Browser() as browser:
        browser.open(page)
        assert browser.value(names) == ["bad", "line-9", "a", "b"]
        title = next(n for n, c in enumerate(used(folder), 4) if c.key == "objects")
        click = f"document.querySelector('#table thead tr').cells[{title}].click()"
        browser.value(click)
        assert browser.value(names) == ["b", "a", "bad", "line-9"]  # 3,000 before 20,000
        browser.value(click)
        assert browser.value(names) == ["a", "b", "bad", "line-9"]
        browser.value("words.value = 'torn'; words.dispatchEvent(new Event('input'))")
        assert browser.value(names) == ["bad"]
        assert browser.value("document.getElementById('shown').textContent") == "1 of 4"
        browser.value("words.value = ''; document.getElementById('status').value = 'done'")
        browser.value("document.getElementById('status').dispatchEvent(new Event('change'))")
        assert browser.value(names) == ["a", "b"]
        assert browser.value("Array.from(document.images).every(i => i.naturalWidth > 0)")
        assert [address.split("/")[-1] for address in browser.requested()] == ["morning.html"]
        assert browser.complaints() == []


def used(folder):
    values = {key for slide in night.read_slides(folder) for key in slide.values}
    return [column for column in COLUMNS if column.key in values]
