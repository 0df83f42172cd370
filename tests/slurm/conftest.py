"""A Slurm cluster and a small project for each test; skips where Slurm is not installed."""

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from slurm_cluster import Cluster, missing_programs, wait_for
from small_project import Project, make_project

HERE = Path(__file__).parent


@dataclass
class Run:
    """A Snakemake that runs on the cluster."""

    process: subprocess.Popen
    log: Path

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text()

    def wait(self, seconds: float = 400, status: int = 0) -> str:
        """Wait for its end, check its exit status, return what it printed."""
        try:
            found = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"not finished after {seconds} s:\n{self.text}") from None
        assert found == status, self.text
        return self.text

    def kill(self) -> None:
        """kill -9, which leaves its Slurm jobs behind."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Interrupt it, as Ctrl-C does; kill it if it does not go."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


@dataclass
class SlurmProject(Project):
    """A small project whose Snakemake submits to the test's cluster."""

    cluster: Cluster = None
    runs: list[Run] = field(default_factory=list)

    def start(self, *arguments: str, plain: bool = False) -> Run:
        """Start Snakemake with the Slurm profile; `plain`: the command and profile as shipped."""
        quick = [sys.executable, str(HERE / "quick_snakemake.py")]
        command = [str(Path(sys.executable).with_name("snakemake"))] if plain else quick
        more = [] if plain else ["--slurm-init-seconds-before-status-checks", "1"]
        more += [] if plain else ["--latency-wait", "5"]
        log = self.folder / f"run{len(self.runs)}.log"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [*command, "--profile", "profiles/slurm", "--configfile", "small.yaml",
                 *more, *arguments],
                cwd=self.folder, env={**self.cluster.env, "OMP_NUM_THREADS": "1"},
                stdout=file, stderr=file, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.runs.append(Run(process, log))
        return self.runs[-1]

    def fill_in(self, **values: str) -> None:
        """Put values between the empty quotes of the profile, as a user does."""
        path = self.folder / "profiles" / "slurm" / "config.yaml"
        text = path.read_text()
        for key, value in values.items():
            assert f'{key}: ""' in text
            text = text.replace(f'{key}: ""', f'{key}: "{value}"')
        path.write_text(text)

    def change_profile(self, **changes: dict) -> None:
        """Merge changes into profiles/slurm/config.yaml; `_` stands for `-` in the keys."""
        path = self.folder / "profiles" / "slurm" / "config.yaml"
        profile = yaml.safe_load(path.read_text())
        for key, values in changes.items():
            section = profile.setdefault(key.replace("_", "-"), {})
            for name, value in values.items():
                section[name] = {**section.get(name, {}), **value}
        path.write_text(yaml.safe_dump(profile))

    def without_gpu(self) -> None:
        """All rules run on any node."""
        anywhere = {"slurm_partition": "main", "gpu": 0}
        self.change_profile(set_resources=dict.fromkeys(("train", "evaluate", "segment"), anywhere))

    def remove(self, *patterns: str) -> None:
        """Remove results, which the next call has to make again."""
        for pattern in patterns:
            for path in (self.folder / "results").glob(pattern):
                path.unlink() if path.is_file() else shutil.rmtree(path)

    def running(self, rule: str, seconds: float = 120) -> dict[str, str]:
        """Wait until a job of the rule runs in Slurm; what Slurm says of it."""

        def look():
            if self.runs[-1].process.poll() is not None:
                raise AssertionError(self.runs[-1].text)
            jobs = self.cluster.jobs_of(rule)
            return next((job for job in jobs if job["JobState"] == "RUNNING"), None)

        return wait_for(f"a running job of {rule}", look, seconds)

    def wait_for_file(self, pattern: str, seconds: float = 120) -> Path:
        """Wait until a file of the project matches; what it is."""
        found = lambda: next(self.folder.glob(pattern), None)  # noqa: E731
        return wait_for(f"{pattern} in {self.folder}", found, seconds, every=0.02)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two nodes, the second with a GPU."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"no Slurm here: {', '.join(missing)} not found (Debian: slurm-wlm munge)")
    # a short path: sockets have at most 107 characters
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = Cluster(folder / "c")
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def isolated(cluster) -> Cluster:
    """A cluster whose nodes can lose their power."""
    if not cluster.isolated:
        pytest.skip("no pid namespaces here (they need root): a killed node would go on computing")
    return cluster


@pytest.fixture(scope="session")
def local_run(project, tmp_path_factory) -> Path:
    """A small project in which everything has run on this machine; leave it as it is.

    Training and segmentation take some seconds, so that there is a middle to interrupt them in.
    """
    made = make_project(project, tmp_path_factory.mktemp("local") / "project")
    made.configure(
        train={"steps": 300, "checkpoint_every_steps": 10, "validate_every_steps": 100},
        segment={"averaging": "all", "shard_px": 128},
    )
    made.snakemake()
    return made.folder


@pytest.fixture
def finished(local_run, tmp_path, cluster) -> Iterator[SlurmProject]:
    """A copy of it with its results, metadata and times."""
    shutil.copytree(local_run, tmp_path / "project", copy_function=shutil.copy2)
    yield from _closing(SlurmProject(tmp_path / "project", cluster))


@pytest.fixture
def fresh(finished) -> SlurmProject:
    """The same inputs, nothing run."""
    for name in ("results", ".snakemake"):
        shutil.rmtree(finished.folder / name)
    return finished


@pytest.fixture
def expected(local_run) -> dict[str, bytes]:
    """The results of the local run."""
    return Project(local_run).results()


@pytest.fixture
def demo(project, tmp_path, cluster) -> Iterator[SlurmProject]:
    """The demo as it comes, nothing run."""
    made = _demo_project(project, tmp_path / "demo")
    yield from _closing(SlurmProject(made.folder, cluster))


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """What a shell puts in the background ignores SIGINT, and so would all that is started here."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def demo_here(project, tmp_path_factory) -> dict[str, bytes]:
    """What the demo gives on this machine: in this checkout, where it has run, or in a copy."""
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--dry-run"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if "Nothing to be done" in done.stdout + done.stderr:
        found = Project(project).results()
        return {name: data for name, data in found.items() if name != "report.html"}
    made = _demo_project(project, tmp_path_factory.mktemp("demo") / "project")
    made.snakemake()
    return made.results()


def _demo_project(source: Path, folder: Path) -> Project:
    made = make_project(source, folder)
    (made.folder / "small.yaml").write_text("{}")
    (made.folder / "resources").symlink_to(source / "resources")
    return made


def _closing(project: SlurmProject) -> Iterator[SlurmProject]:
    try:
        yield project
    finally:
        for run in project.runs:
            run.end()
