"""This module measures how fast FHIR resources and care summaries are read, checked and mapped; it prints JSON.

``python bench/reading_fhir.py [--rounds 2000]``: a Patient of US Core's size, a Bundle of everything that is mapped,
and a C-CDA with every kind of section; microseconds of CPU for each, beside a bare ``orjson.loads`` of the Patient.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import orjson

from broker.canonical.codec import encode
from broker.fhir.check import check, read_resource
from broker.wire.strict_json import read_json
from tests.cda_documents import SECTIONS, summary
from tests.fhir_resources import KINDS, bundle, resource
from transforms.map_cda import map_cda, read_cda
from transforms.map_fhir import map_bundle, map_fhir


def spent(step: Callable[[], Any], rounds: int) -> float:
    """Return the CPU time of a step in microseconds: of its best fifth, since other programs use the machine too."""
    step()
    parts = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(max(rounds // 5, 1)):
            step()
        parts.append((time.process_time() - began) / max(rounds // 5, 1))
    return round(min(parts) * 1e6, 1)


def measure(rounds: int = 2000) -> dict[str, Any]:
    """Read, check and map again and again; return what each costs."""
    patient = orjson.dumps(resource("Patient"))
    everything = orjson.dumps(bundle("collection", *(resource(kind) for kind in KINDS)))
    document = summary(*SECTIONS)
    value, whole, root = read_json(patient), read_json(everything), read_cda(document)
    few = max(rounds // 20, 5)
    return {
        "patient": {
            "bytes": len(patient),
            "orjson_us": spent(lambda: orjson.loads(patient), rounds),
            "read_us": spent(lambda: read_json(patient), rounds),
            "check_us": spent(lambda: check(value), rounds),
            "map_us": spent(lambda: map_fhir(value), rounds),
            "bytes_to_canonical_us": spent(lambda: map_fhir(read_resource(patient)), rounds),
            "bytes_to_canonical_json_us": spent(lambda: encode(map_fhir(read_resource(patient))), rounds),
        },
        "bundle": {
            "bytes": len(everything),
            "entries": len(KINDS),
            "read_us": spent(lambda: read_json(everything), few),
            "check_us": spent(lambda: check(whole), few),
            "map_us": spent(lambda: map_bundle(whole), few),
        },
        "cda": {
            "bytes": len(document),
            "read_us": spent(lambda: read_cda(document), few),
            "map_us": spent(lambda: map_cda(root), few),
        },
    }


def main() -> None:
    """Read the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    print(json.dumps(measure(parser.parse_args().rounds), indent=2))


if __name__ == "__main__":
    main()
