"""This module puts the practice EHR on HTTP below ``/fhir``."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.sandbox.bundle import Bundles
from console.sandbox.ehr import PATCH_TYPE, Answer, Ehr, Refused, capability_statement, outcome

MEDIA_TYPE: Final = "application/fhir+json"
_JSON: Final = frozenset({MEDIA_TYPE, "application/json"})
_PATCH: Final = frozenset({PATCH_TYPE})
_CHANGES: Final = frozenset({"PUT", "PATCH"})

Handler = Callable[[Request], Awaitable[Response]]


def routes(ehr: Ehr, bundles: Bundles) -> list[Route]:
    """Return the routes of the practice EHR."""

    async def metadata(request: Request) -> Response:
        return document(200, capability_statement(_base(request)))

    async def of_type(request: Request) -> Response:
        kind, base = request.path_params["type"], _base(request)
        if request.method == "GET":
            return _respond(request, ehr.search(base, kind, request.url.query))
        body, given = await _resource(request), _given(request)
        if request.method == "PUT":
            return _respond(request, ehr.conditional_update(base, kind, request.url.query, body, **given))
        given.pop("if_match")
        exist = request.headers.get("if-none-exist", "")
        return _respond(request, ehr.create(base, kind, body, if_none_exist=exist, request_id=given["request_id"]))

    async def search(request: Request) -> Response:
        query = (await request.body()).decode("ascii", "replace")
        return _respond(request, ehr.search(_base(request), request.path_params["type"], query))

    async def one(request: Request) -> Response:
        kind, name, base = request.path_params["type"], request.path_params["id"], _base(request)
        if request.method in _CHANGES:
            change, taken = (ehr.update, _JSON) if request.method == "PUT" else (ehr.patch, _PATCH)
            return _respond(request, change(base, kind, name, await _resource(request, taken), **_given(request)))
        return _respond(request, ehr.read(base, kind, name, request.path_params.get("version", "")))

    return [
        *_bundle_routes(bundles),
        Route("/fhir/metadata", metadata, methods=["GET"]),
        Route("/fhir/{type}", of_type, methods=["GET", "POST", "PUT"]),
        Route("/fhir/{type}/_search", search, methods=["POST"]),
        Route("/fhir/{type}/{id}", one, methods=["GET", "PUT", "PATCH"]),
        Route("/fhir/{type}/{id}/_history/{version}", one, methods=["GET"]),
    ]


def _bundle_routes(bundles: Bundles) -> list[Route]:
    async def whole(request: Request) -> Response:
        body, request_id = await _resource(request), request.headers.get("x-request-id", "")
        return _respond(request, bundles.take(_base(request), body, request_id=request_id))

    return [Route(path, whole, methods=["POST"]) for path in ("/fhir", "/fhir/")]


def document(status: int, resource: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Return a FHIR resource as an HTTP answer."""
    return Response(orjson.dumps(resource), status, headers, MEDIA_TYPE)


def refusal(refused: Refused) -> Response:
    """Return an OperationOutcome as an HTTP answer."""
    return document(refused.status, outcome("error", refused.code, refused.text, refused.places))


def _respond(request: Request, answer: Answer) -> Response:
    prefer = request.headers.get("prefer", "").replace(" ", "")
    written = (
        request.method in {"POST", "PUT", "PATCH"} and answer.resource and answer.resource["resourceType"] != "Bundle"
    )
    if written and "return=minimal" in prefer:
        return Response(None, answer.status, answer.headers)
    if written and "return=OperationOutcome" in prefer:
        return document(answer.status, outcome("information", "informational", "done"), answer.headers)
    return document(answer.status, answer.resource or {}, answer.headers)


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/") + "/fhir"


def _given(request: Request) -> dict[str, str]:
    headers = request.headers
    return {"if_match": headers.get("if-match", ""), "request_id": headers.get("x-request-id", "")}


async def _resource(request: Request, taken: frozenset[str] = _JSON) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in taken:
        raise Refused(415, "not-supported", f"send {' or '.join(sorted(taken))}")
    return await request.body()
