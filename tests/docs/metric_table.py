"""This module writes the table of metrics in the reference: ``python -m tests.docs.metric_table`` prints it."""

from collections.abc import Iterator

from console.metrics import Metrics


def table() -> str:
    """Return every metric with its kind, its labels and what it counts."""
    return "\n".join(["| metric | kind | labels | what it says |", "|---|---|---|---|", *sorted(_rows())]) + "\n"


def _rows() -> Iterator[str]:
    for collector in Metrics().registry._collector_to_names:  # labels are said nowhere else until there is a value
        for family in collector.describe() if hasattr(collector, "describe") else collector.collect():
            labels: tuple[str, ...] = getattr(collector, "_labelnames", ()) or getattr(family, "_labelnames", ())
            name = family.name + ("_total" if family.type == "counter" else "")
            shown = ", ".join(f"`{label}`" for label in labels)
            yield f"| `{name}` | {family.type} | {shown} | {family.documentation} |"


if __name__ == "__main__":
    print(table(), end="")  # noqa: T201 - that is what it is for
