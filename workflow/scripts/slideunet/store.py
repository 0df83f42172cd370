"""Artefacts: written aside, checksummed, published by rename, described by a manifest.

A rule's declared output is the manifest, a small JSON file beside its data. It holds what was made
(kind, relative path, size and sha256 of each file), from what (sha256 of each input) and how (the
settings), facts for those downstream and a checksum of itself; no time and no host, so that equal
work gives equal bytes and reruns nothing. The data itself is not declared to Snakemake: work in
progress lives in a folder beside the manifest and survives a failed or killed job.

The order of publishing (a kill between any two steps loses nothing and leaves nothing that looks
whole): data and staged manifest written and flushed to disk in the work folder; a manifest of what
is replaced removed; data renamed into place; the folder flushed; the manifest renamed into place;
the folder flushed; work folder removed, its owner's token first.

If a job of several slides fails Snakemake removes the manifests of all. There (PACKED) the staged
manifest stays in the work folder until the job has succeeded: the next attempt finds what is done.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from slideunet.durable import flush_folder, name_place, write_file
from slideunet.errors import SlideError, UserError
from slideunet.folder_lock import locked
from slideunet.manifest import (
    checksum_of,
    find_damage,
    read_manifest,
    sha256_of,
    sha256_of_file,
    to_json,
)

log = logging.getLogger("unet-slides")

STAGED, FINAL = "staged-manifest.json", "manifest.json"
OWNER = "owner.json"
# Set in the environment of jobs of several slides.
PACKED = "UNET_SLIDES_PACKED"
# Files below this total are read and compared byte for byte before each use; of larger stores only
# the sizes, since their chunks carry checksums of their own that are checked when they are read.
CHECK_BYTES_BELOW = 64 * 2**20


class Superseded(Exception):
    """Another process has taken over this work folder: this one must not write any more."""


class Work:
    """The work folder of one artefact: its name carries a digest of code, settings and inputs.

    And a number of its owner: who takes over renames it, so that nothing that the earlier owner
    still writes lands in it.
    """

    def __init__(self, manifest: Path, key: dict):
        self.manifest = manifest
        self.unlisted: list[str] = []
        self._token = {
            "job": os.environ.get("SLURM_JOB_ID"),
            "restart": os.environ.get("SLURM_RESTART_COUNT"),
            "process": os.getpid(),
            "nonce": os.urandom(8).hex(),
        }
        self._same = f".{manifest.stem}.work-{sha256_of(to_json(key))[:16]}"
        self.folder = manifest.parent / f"{self._same}-{self._token['nonce']}"

    def open(self) -> None:
        """Create or take over the folder; sweep those of other code, settings or inputs."""
        self.manifest.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.manifest.parent):  # not while another process publishes from it
            self._take()
            self._begin()

    def _take(self) -> None:
        for earlier in sorted(self.manifest.parent.glob(f".{self.manifest.stem}.work-*")):
            # One without OWNER was begun anew by a job that had been taken over: it read nothing
            # where there had been something, and is not to be trusted.
            usable = earlier.name.startswith(self._same) and (earlier / OWNER).exists()
            if usable and not self.folder.exists():
                with contextlib.suppress(FileNotFoundError):  # no locks here: another was faster
                    os.rename(earlier, self.folder)
            else:
                shutil.rmtree(earlier, ignore_errors=True)

    def _begin(self) -> None:
        self.folder.mkdir(exist_ok=True)
        write_file(self.folder / OWNER, to_json(self._token))

    def check_owner(self) -> None:
        """Raise Superseded where a later job has taken over: ask before each shard is written.

        A job that lost its node's network may still be running when its successor starts.
        """
        try:
            owner = json.loads((self.folder / OWNER).read_bytes())
        except FileNotFoundError:
            owner = None
        if owner != self._token:
            raise Superseded(f"{self.folder}: taken over by {owner}")

    def publish(self, content: dict, names: Iterable[str]) -> dict:
        """Move the named files and folders beside the manifest, then write the manifest.

        Those named in `unlisted` go along, but the manifest says nothing of their content.
        """
        files = [entry for name in sorted(names) for entry in _describe(self.folder, name)]
        for name in self.unlisted:
            _describe(self.folder, name)  # flushes them
        manifest = {**content, "files": files, "names": sorted([*names, *self.unlisted])}
        manifest = {**manifest, "checksum": checksum_of(manifest)}
        write_file(self.folder / STAGED, to_json(manifest))
        return self.finish(manifest)

    def finish(self, manifest: dict) -> dict:
        """The renames of `publish`; also completes a publication that was cut off."""
        with locked(self.manifest.parent):
            self._move(manifest)
        return manifest

    def _move(self, manifest: dict) -> None:
        self.check_owner()
        for name in manifest["names"]:
            source, target = self.folder / name, self.manifest.parent / name
            if not source.exists():  # renamed before the cut
                continue
            if target.exists() or target.is_symlink():
                self.manifest.unlink(missing_ok=True)  # what it describes goes now
                os.rename(target, self._free_name(f"replaced-{name}"))
            os.rename(source, target)
        flush_folder(self.manifest.parent)
        # A second copy: a folder that is only half removed must say that its data has gone, or
        # that nobody owns it. Else the next job would go on from what is left.
        write_file(self.folder / FINAL, to_json(manifest))
        os.rename(self.folder / FINAL, self.manifest)
        flush_folder(self.manifest.parent)
        (self.folder / OWNER).unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        if PACKED in os.environ and manifest["status"] == "done":
            self._begin()
            write_file(self.folder / STAGED, to_json(manifest))

    def _free_name(self, name: str) -> Path:
        """A path in the work folder that nothing has: an earlier publication may have been cut."""
        number = 0
        while (path := self.folder / f"{name}-{number}").exists():
            number += 1
        return path

    def staged(self) -> dict | None:
        """The manifest of a publication that was cut off, where all its files are still there.

        Where they are not, the folder is emptied: what is left in it is no whole state of work.
        """
        if not (self.folder / STAGED).exists():
            return None
        with contextlib.suppress(UserError):
            manifest = read_manifest(self.folder / STAGED)
            done = manifest["status"] == "done"  # a slide that failed is tried again
            if done and all(self._has(entry) for entry in manifest["files"]):
                return manifest
        self.check_owner()
        shutil.rmtree(self.folder)
        self._begin()
        return None

    def _has(self, entry: dict) -> bool:
        inside = self.folder / entry["path"]
        path = inside if inside.exists() else self.manifest.parent / entry["path"]
        return path.is_file() and sha256_of_file(path) == entry["sha256"]


Build = Callable[[Work], tuple[list[str], dict]]


def make(
    manifest: str | Path,
    build: Build,
    *,
    kind: str,
    settings: dict,
    code: dict,
    inputs: dict[str, str | Path | list],
    slide: bool = False,
) -> dict:
    """Make one artefact and return its manifest.

    Parameters
    ----------
    build : called with the Work; writes into its folder, returns the names to publish and the
        facts for the manifest. What names time, host or code (a model card) it names in the Work's
        `unlisted` instead: published too, but equal work still gives an equal manifest
    settings, code, inputs : what the artefact depends on; a work folder of other values is swept
    inputs : name -> file or list of files; their sha256 stand in the manifest
    slide : whether a SlideError (bad content) ends as a manifest with `status: failed`, and an
        input manifest that failed is passed on, instead of failing the job
    """
    manifest = Path(manifest)
    digests = {name: _digests(paths) for name, paths in sorted(inputs.items())}
    content = {"kind": kind, "status": "done", "settings": settings, "inputs": digests}
    work = Work(manifest, {"kind": kind, "settings": settings, "code": code, "inputs": digests})
    work.open()
    staged = work.staged()
    if staged is not None:
        return work.finish(staged)
    failure = _failed_input(inputs) if slide else None
    if failure is None:
        try:
            names, facts = build(work)
            return work.publish({**content, "facts": facts}, names)
        except SlideError as error:
            if not slide:
                raise
            failure = {"stage": kind, "reason": str(error)}
            for note in getattr(error, "__notes__", ()):
                log.error("%s", note)
        except OSError as error:
            work.check_owner()  # is its folder gone, then another job took over
            name_place(error, work.folder)
            raise
    return work.publish({**content, "status": "failed", "failure": failure}, [])


def forget_work(manifest: str | Path) -> None:
    """Remove the work folders of an artefact: what is in them will not be taken up again."""
    manifest = Path(manifest)
    for folder in manifest.parent.glob(f".{manifest.stem}.work-*"):
        shutil.rmtree(folder, ignore_errors=True)


def load(manifest: str | Path, allow_failed: bool = False) -> dict:
    """Read a manifest and check its data: all bytes of a small artefact, the sizes of a large one.

    Raises UserError, naming the file, where data is missing or damaged, and where the manifest
    says failed (unless that is allowed).
    """
    manifest = Path(manifest)
    content = read_manifest(manifest)
    if content["status"] != "done":
        if allow_failed:
            return content
        raise UserError(f"{manifest}: failed earlier: {content['failure']['reason']}")
    total = sum(entry["size"] for entry in content["files"])
    damage = find_damage(manifest, all_bytes=total < CHECK_BYTES_BELOW)
    if damage:
        raise UserError(
            f"{damage[0]}: remove {manifest} and call again to make it anew"
            + (f" ({len(damage)} damaged files)" if len(damage) > 1 else "")
        )
    return content


def beside(manifest: str | Path, name: str) -> Path:
    """The path of a file or folder that the manifest describes."""
    return Path(manifest).parent / name


def _describe(folder: Path, name: str) -> list[dict]:
    """Path, size and sha256 of the file `name` or of every file below it, flushed to the disk."""
    root = folder / name
    paths = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    if not paths:
        raise FileNotFoundError(f"{root}: nothing was written there")
    entries = []
    for path in paths:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        relative = path.relative_to(folder).as_posix()
        entries.append({"path": relative, "size": path.stat().st_size, "sha256": digest})
    # Folders between, too: one that is lost takes what is in it along.
    below = [path for path in root.rglob("*") if path.is_dir()]
    for parent in [root.parent] if root.is_file() else [root, *below]:
        flush_folder(parent)
    return entries


def _digests(paths: str | Path | list) -> str | list[str]:
    """sha256 of a file, or of each of a list."""
    if isinstance(paths, list):
        return [sha256_of_file(Path(path)) for path in paths]
    return sha256_of_file(Path(paths))


def _failed_input(inputs: dict) -> dict | None:
    """What the first failed manifest among the inputs says, or None."""
    for paths in inputs.values():
        for path in paths if isinstance(paths, list) else [paths]:
            if Path(path).suffix == ".json":
                content = read_manifest(Path(path))
                if content["status"] == "failed":
                    return content["failure"]
    return None
