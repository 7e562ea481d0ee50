"""This module is `handoff list`: the parts that channels can use, and the presets of systems with their operations."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from console.cli.client import print_json
from console.cli.look import as_json
from console.cli.main import Options
from console.cli.show import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.spec import Spec

KINDS: Final = ("presets", "destinations", "listeners", "steps", "formats")


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS))
@as_json
@click.option("--markdown", is_flag=True, help="Print the reference page (presets only).")
@click.pass_obj
def list_parts(options: Options, /, kind: str, *, as_json: bool, markdown: bool) -> None:
    """Show what there is of a KIND: presets of systems, destinations, listeners, steps or formats."""
    if markdown:
        click.echo(_page(options.settings().channels, kind), nl=False)
        return
    found = _presets(options.settings().channels) if kind == "presets" else _parts(kind)
    if as_json:
        print_json({kind: found})
    elif kind == "presets":
        rows = [
            (each["preset"], name, about["once"], about["tested"], about["summary"])
            for each in found
            for name, about in each["operations"].items()
        ]
        click.echo(table(("preset", "operation", "once", "tested", "what it does"), rows))
    else:
        click.echo(
            table(
                (kind.removesuffix("s"), "module", "what it is"),
                [(each["name"], each["module"], each["summary"]) for each in found],
            )
        )


def _page(channels: Path, kind: str) -> str:
    if kind != "presets":
        raise click.BadParameter("only presets have a page", param_hint="--markdown")
    from config.preset_pages import systems_page  # noqa: PLC0415 - costs much, used here only
    from config.presets import every_preset  # noqa: PLC0415 - likewise

    return systems_page(every_preset(channels))


def _parts(kind: str) -> list[dict[str, Any]]:
    from config import catalog  # noqa: PLC0415 - costs much, used here only

    parts: Mapping[str, type[Spec]] = getattr(catalog, kind.upper())
    return [
        {
            "name": name,
            "module": spec.__module__,
            "summary": " ".join((spec.__doc__ or "").split()),
            "options": {field.alias or key: _option(field) for key, field in spec.model_fields.items()},
        }
        | ({"presets": presets()} if (presets := _PRESETS.get((kind, name))) else {})
        for name, spec in parts.items()
    ]


def _webhooks() -> list[dict[str, Any]]:
    """Return the presets of webhooks: who may call, what is signed, and how that was tested."""
    from listeners.signatures import load_preset, presets  # noqa: PLC0415 - likewise

    return [
        {
            "preset": name,
            "title": known.title,
            "source": known.source,
            "callers": known.callers,
            "signature": known.signature.kind if known.signature is not None else None,
            "tested": known.tested,
            "key": known.key,
            "key_decides": known.key_decides,
            "note": known.note,
        }
        for name, known in ((name, load_preset(name)) for name in presets())
    ]


def _services() -> list[dict[str, Any]]:
    """Return the presets of SOAP services: their operations, and in which of them a message comes."""
    from listeners.soap_service import load_service, services  # noqa: PLC0415 - likewise

    return [
        {
            "preset": name,
            "title": known.title,
            "source": known.source,
            "namespace": known.namespace,
            "versions": known.versions,
            "operations": {each: about.message for each, about in known.operations.items()},
            "note": known.note,
        }
        for name, known in ((name, load_service(name)) for name in services())
    ]


_PRESETS: Final = {("listeners", "webhook"): _webhooks, ("listeners", "soap"): _services}


def _option(field: Any) -> dict[str, Any]:
    from pydantic_core import to_jsonable_python  # noqa: PLC0415 - likewise

    about = {"required": field.is_required(), "description": field.description}
    if not field.is_required() and field.default_factory is None:
        about["default"] = to_jsonable_python(field.default, by_alias=True)
    return about


def _presets(channels: Path) -> list[dict[str, Any]]:
    """Return every preset, a site's own too, with its operations and how each was tested."""
    from config.presets import every_preset  # noqa: PLC0415 - likewise

    return [
        {
            "preset": name,
            "name": preset.name,
            "summary": preset.about,
            "auth": list(preset.auth),
            "variables": {
                key: {"description": each.about, "default": each.default} for key, each in preset.variables.items()
            },
            "operations": {
                key: {
                    "summary": each.about,
                    "method": each.method,
                    "path": each.path,
                    "rows": each.batch.size if each.batch else 1,
                    "once": each.once,
                    "tested": each.tested,
                    "values": {
                        value: {"description": about.about, "required": about.is_needed}
                        for value, about in each.values.items()
                    },
                }
                for key, each in preset.operations.items()
            },
            "unsupported": preset.unsupported,
        }
        for name, preset in every_preset(channels).items()
    ]
