"""This module writes the page about EHRs from their profiles: ``python -m tests.docs.ehr_page``."""

from pathlib import Path
from typing import Final

from dispatch.ehr_profile import INTERACTIONS, EhrProfile, find_profile, profile_names

PAGE: Final = Path(__file__).parents[2] / "docs/reference/ehr.md"
_HEAD: Final = """\
# EHRs

What each EHR takes over FHIR R4. A server in `handoff.yaml` names its `profile:`, and `handoff check` refuses a write
that the profile does not have, with the place and what works instead. [Write back](../howto/write-back.md) says how to
write, [authenticate](../howto/authenticate.md) how to get in.

What a site's own server takes may differ. Save what it says of itself, and name the file: then
`capabilities: epic-mercy.json` overrules the tables here.

```sh
curl -H 'Accept: application/fhir+json' https://ehr.example.org/R4/metadata > epic-mercy.json
```

This page is written from `dispatch/ehr/*.yaml`, and those are compared with the vendors' CapabilityStatements.
"""


def page() -> str:
    """Return the page as it has to be."""
    names = sorted(profile_names(), key=lambda name: (name == "generic", name))
    parts = [_HEAD, _overview(names), *(_chapter(name) for name in names if name != "generic")]
    return "\n".join(parts)


def _overview(names: list[str]) -> str:
    rows = ["| profile | system | writes | Bundles | versions |", "|---|---|---|---|---|"]
    for name in names:
        profile = find_profile(name)
        count = "everything may be tried" if "*" in profile.writes else _types(len(profile.writes))
        bundles = ", ".join(profile.bundles) or "none"
        rows.append(f"| `{name}` | {profile.system} | {count} | {bundles} | {profile.versions} |")
    return "\n".join(rows) + "\n"


def _types(count: int) -> str:
    return {0: "nothing", 1: "1 type"}.get(count, f"{count} types")


def _chapter(name: str) -> str:
    profile = find_profile(name)
    read = f", read {profile.captured}" if profile.captured else ""
    lines = [f"## {profile.system}", "", f"`profile: {name}`. Known from: {profile.source}{read}.", ""]
    lines += _ways(profile) + _writes(profile) + _errors(profile) + _instead(profile)
    lines += [f"- {note}" for note in profile.notes] + ([""] if profile.notes else [])
    return "\n".join(lines)


def _ways(profile: EhrProfile) -> list[str]:
    ways = ", ".join(f"`{way}`" for way in profile.auth)
    at_a_time = f" At most {profile.concurrency} requests are under way at a time." if profile.concurrency else ""
    return [f"Authentication: {ways}.{at_a_time}", ""]


def _writes(profile: EhrProfile) -> list[str]:
    if not profile.writes:
        return ["It takes no writes over FHIR.", ""]
    rows = [f"| resource | {' | '.join(INTERACTIONS)} | found by |", "|---|---|---|---|---|"]
    for kind in sorted(profile.writes):
        marks = ["yes" if interaction in profile.writes[kind] else "" for interaction in INTERACTIONS]
        found = ", ".join(f"`{parameter}`" for parameter in profile.searches.get(kind, [])) or "`_id`"
        rows.append(f"| {kind} | {' | '.join(marks)} | {found} |")
    return [*rows, ""]


def _errors(profile: EhrProfile) -> list[str]:
    if not profile.errors:
        return []
    rows = ["| its code | means | outcome |", "|---|---|---|"]
    rows += [f"| {code} | {error.means} | {error.outcome} |" for code, error in sorted(profile.errors.items())]
    return [*rows, ""]


def _instead(profile: EhrProfile) -> list[str]:
    rows = ["| where it takes no | works instead |", "|---|---|"]
    rows += [f"| {'other writes' if kind == '*' else kind} | {other} |" for kind, other in profile.instead.items()]
    return [*rows, ""]


if __name__ == "__main__":
    PAGE.write_text(page())
