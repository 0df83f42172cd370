"""Large slides first: what the scheduler's sample holds, how large a slide is."""

from dataclasses import dataclass
from types import SimpleNamespace

from slideunet.longest_first import bytes_of, first_of_each, install, worth_showing


@dataclass(frozen=True)
class Job:
    name: str
    priority: int


def test_the_sample_holds_the_largest_of_each_rule():
    segment = [Job("segment", n) for n in range(100)]
    objects = [Job("objects", n) for n in range(5)]
    chosen = first_of_each([*segment, *objects], 10, 5)
    shown = {job.priority for job in chosen if job.name == "segment"}
    assert shown == {*range(90, 100), *range(5)}, "and some of the smallest"
    assert {job for job in chosen if job.name == "objects"} == set(objects), "not hidden by segment"


def test_few_jobs_are_all_there():
    jobs = [Job("a", 1), Job("b", 2)]
    assert first_of_each(jobs, 2) == set(jobs)


def test_the_scheduler_s_random_sample_is_replaced():
    seen = []
    scheduler = SimpleNamespace(
        subsample=2, job_selector=lambda jobs: seen.append(jobs) or [], resources={"_cores": 4}
    )
    install(scheduler)
    assert scheduler.subsample is None
    scheduler.job_selector({Job("a", n) for n in range(9)})
    assert seen == [{Job("a", 8), Job("a", 7)}]
    unlimited = SimpleNamespace(subsample=None, job_selector=None)
    install(unlimited)
    assert unlimited.job_selector is None


def test_few_are_shown_where_few_can_start():
    assert worth_showing({"_cores": 2, "mem_mb": 4000}, 200) == 12
    assert worth_showing({"_cores": 1 << 60, "_nodes": 1}, 200) == 10, "a full queue of a cluster"
    assert worth_showing({"_cores": 1 << 60, "_nodes": 500}, 200) == 200
    assert worth_showing({}, 200) == 200


def test_what_can_start_is_asked_each_time():
    seen, resources = [], {"_cores": 0}
    scheduler = SimpleNamespace(
        subsample=200, job_selector=lambda jobs: seen.append(len(jobs)), resources=resources
    )
    install(scheduler)
    jobs = {Job("a", n) for n in range(300)}
    for free in (0, 3, 1000):
        resources["_cores"] = free
        scheduler.job_selector(jobs)
    assert seen == [8 + 4, 14 + 7, 200], "small ones too where not all may fit"


def test_size_of_files_folders_and_of_nothing(tmp_path):
    (tmp_path / "a.svs").write_bytes(b"x" * 1000)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "data").write_bytes(b"x" * 5000)
    (tmp_path / "b.mrxs").write_bytes(b"x")
    assert bytes_of(str(tmp_path / "a.svs")) == 1000
    assert bytes_of(str(tmp_path / "b.mrxs")) == 5001
    assert 5000 < bytes_of(str(tmp_path / "b")) < 20_000
    assert bytes_of(str(tmp_path / "none.svs")) == 0
