"""The published rules of Workflow Run RO-Crates, checked by roc-validator without the network."""

import json
from pathlib import Path

import pytest

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
# The package rocrate carries the context of RO-Crate 1.3. These terms it has under other names than
# 1.1, which the profile rests on.
TERMS_OF_1_1 = {
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": "https://bioschemas.org/ComputationalWorkflow#input",
    "output": "https://bioschemas.org/ComputationalWorkflow#output",
}


class Answer:
    """What a server would say when it is asked for the context."""

    status_code, from_cache, url = 200, True, CONTEXT
    headers = {"Content-Type": "application/ld+json"}  # noqa: RUF012 - as requests has it

    def __init__(self, context: dict):
        self.text = json.dumps(context)
        self.content = self.text.encode()

    def json(self) -> dict:
        return json.loads(self.text)

    def raise_for_status(self) -> None:
        pass


class NoNetwork:
    """A session that knows the context and nothing else."""

    def __init__(self, context: dict):
        self.context = context

    def get(self, url: str, *_: object, **__: object) -> Answer:
        if url.rstrip("/") != CONTEXT:
            raise OSError(f"the network is not asked for {url}")
        return Answer(self.context)

    head = get


def broken_rules(folder: Path, severity: str = "REQUIRED") -> list[str]:
    """What Workflow Run Crate 0.5, and what it rests on, has against the crate in `folder`."""
    reason = "needs envs/requirements-test.txt and -export.txt"
    rocrate = pytest.importorskip("rocrate", reason=reason)
    pytest.importorskip("rocrate_validator", reason=reason)
    from rocrate_validator import services
    from rocrate_validator.models import Severity, ValidationSettings
    from rocrate_validator.utils.http import HttpRequester

    context = json.loads((Path(rocrate.__file__).parent / "data/ro-crate.jsonld").read_text())
    context["@context"] |= TERMS_OF_1_1
    settings = ValidationSettings(
        rocrate_uri=str(folder),
        profile_identifier="workflow-run-crate-0.5",
        requirement_severity=getattr(Severity, severity),
        no_cache=True,
    )
    HttpRequester().session = NoNetwork(context)
    found = services.validate(settings)
    return [f"{issue.check.identifier}: {issue.message}" for issue in found.get_issues()]
