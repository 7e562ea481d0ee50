"""This module is a FHIR server for tests that exports in bulk; it shares no code with the product.

Source: FHIR Bulk Data Access, export.html. What it does otherwise than it should can be chosen.
"""

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

BEGAN = dt.datetime(2026, 3, 18, 14, 15, tzinfo=dt.UTC)


def patient(name: str, version: str = "1", **more: Any) -> dict[str, Any]:
    """Return a Patient."""
    return {"resourceType": "Patient", "id": name, "meta": {"versionId": version}, **more}


@dataclass
class Exporter:
    """Jobs that need ``rounds`` questions each; ``files`` is what the next one lists, by name, as lines of resources.

    A request whose path ends with a key of ``refuses`` is answered with the next of its answers instead.
    """

    rounds: int = 0
    waits: str = "1"
    files: dict[str, Sequence[dict[str, Any]]] = field(default_factory=dict)
    deleted: dict[str, Sequence[dict[str, Any]]] = field(default_factory=dict)
    errors: dict[str, Sequence[dict[str, Any]]] = field(default_factory=dict)
    needs_token: bool | None = False
    elsewhere: str = ""  # where files are instead
    job_at: str = ""  # where jobs are instead
    changes: Mapping[str, Any] = field(default_factory=dict)  # of the manifest
    refuses: dict[str, list[Callable[[], web.Response]]] = field(default_factory=dict)
    asked: list[web.Request] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    begun: int = 0  # jobs
    base: str = ""
    _jobs: dict[str, int] = field(default_factory=dict)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        app = web.Application()
        for path in ("/fhir/Group/{group}/$export", "/fhir/Patient/$export", "/fhir/$export"):
            app.router.add_get(path, self._answering(self._begin))
        app.router.add_get("/jobs/{job}", self._answering(self._tell))
        app.router.add_delete("/jobs/{job}", self._answering(self._remove))
        app.router.add_get("/files/{file}", self._answering(self._file))
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}/fhir"

    async def stop(self) -> None:
        """Close the port."""
        assert self._runner is not None
        await self._runner.cleanup()

    def paths(self, contains: str) -> list[str]:
        """Return the paths that were asked for, of those that contain a text."""
        return [request.path for request in self.asked if contains in request.path]

    @property
    def root(self) -> str:
        """The address of the host."""
        return self.base.removesuffix("/fhir")

    def _answering(self, answer: Callable[[web.Request], web.Response]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            self.asked.append(request)
            refusals = next((some for end, some in self.refuses.items() if some and request.path.endswith(end)), None)
            return refusals.pop(0)() if refusals else answer(request)

        return handle

    def _begin(self, request: web.Request) -> web.Response:
        assert request.headers["Prefer"] == "respond-async"
        assert request.headers["Accept"] == "application/fhir+json"
        job = f"j{self.begun}"
        self._jobs[job] = self.rounds
        self.begun += 1
        return web.Response(status=202, headers={"Content-Location": self.job_at or f"{self.root}/jobs/{job}"})

    def _tell(self, request: web.Request) -> web.Response:
        job = request.match_info["job"]
        if job not in self._jobs:
            return web.json_response({"resourceType": "OperationOutcome", "issue": [{"code": "not-found"}]}, status=404)
        self._jobs[job] -= 1
        if self._jobs[job] >= 0:
            return web.Response(
                status=202, headers={"X-Progress": "50% done, Okafor is next", "Retry-After": self.waits}
            )
        manifest = {
            "transactionTime": (BEGAN + dt.timedelta(days=self.begun)).isoformat(),
            "request": f"{self.base}/$export",
            "output": self._listed(self.files),
            "deleted": self._listed(self.deleted),
            "error": self._listed(self.errors),
            **({} if self.needs_token is None else {"requiresAccessToken": self.needs_token}),
        }
        return web.json_response({**manifest, **self.changes})

    def _listed(self, files: Mapping[str, Any]) -> list[dict[str, str]]:
        return [{"type": "Patient", "url": f"{self.elsewhere or self.root}/files/{name}?signed=1"} for name in files]

    def _remove(self, request: web.Request) -> web.Response:
        self.removed.append(request.match_info["job"])
        self._jobs.pop(request.match_info["job"], None)
        return web.Response(status=202)

    def _file(self, request: web.Request) -> web.Response:
        resources = {**self.files, **self.deleted, **self.errors}[request.match_info["file"]]
        return web.Response(text="".join(f"{json.dumps(resource)}\n" for resource in resources))
