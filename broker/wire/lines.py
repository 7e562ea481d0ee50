r"""This module says where segments begin, and what becomes of the lines that begin none.

A segment begins with its name: a capital, two capitals or digits, and then the field separator. A name alone on its
line counts where HL7 knows it, or where it begins with Z; reports have headings such as ``HPI``. Every other line is
wrapped text: it belongs to the segment before it, behind a newline. ADD continues the segment before it as well, and
as the standard says without anything in between (HL7 v2.5.1, 2.10.2). MSH is one line; what follows it and begins no
segment stands in a segment of its own, without a name.
"""

import re
from functools import lru_cache
from typing import Final

# Every segment of HL7 2.1 to 2.9, without ADD.
_KNOWN: Final = """
    ABS ACC ADJ AFF AIG AIL AIP AIS AL1 APR ARQ ARV AUT BHS BLC BLG BPO BPX BTS BTX BUI CDM CDO CER CM0 CM1 CM2 CNS
    CON CSP CSR CSS CTD CTI CTR DB1 DEV DG1 DMI DON DPS DRG DSC DSP DST ECD ECR EDU EQL EQP EQU ERQ ERR EVN FAC FHS
    FT1 FTS GOL GP1 GP2 GSC GSP GSR GT1 IAM IAR IIM ILT IN1 IN2 IN3 INV IPC IPR ISD ITM IVC IVT LAN LCC LCH LDP LOC
    LRL MCP MFA MFE MFI MRG MSA MSH NAM NCK NDS NK1 NPU NSC NST NTE OBR OBX ODS ODT OH1 OH2 OH3 OH4 OM1 OM2 OM3 OM4
    OM5 OM6 OM7 OMC ORC ORG ORO OVR PAC PCE PCR PD1 PDA PDC PEO PES PID PKG PM1 PMT PR1 PRA PRB PRC PRD PRT PSG PSH
    PSL PSS PTH PV1 PV2 PYE QAK QID QPD QRD QRF QRI RCP RDF RDT REL RF1 RFI RGS RMI ROL RQ1 RQD RX1 RXA RXC RXD RXE
    RXG RXO RXR RXV SAC SCD SCH SCP SDD SFT SGH SGT SHP SID SLT SPM SPR STF STZ TCC TCD TQ1 TQ2 TXA UAC UB1 UB2 URD
    URS VAR VND VTQ
"""
SEGMENTS: Final = frozenset(_KNOWN.split())
_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_CONTINUES: Final = "ADD"
_BLANK: Final = "\r\t \0\x1c\x1a"
_PATTERN: Final = r"{end}(?=(?!ADD(?:{sep}|{end}|\Z))[A-Z][A-Z0-9]{{2}}{sep}|(?:Z[A-Z0-9]{{2}}|{names})(?:{end}|\Z))"


@lru_cache(maxsize=256)
def beginnings(separator: str) -> re.Pattern[str]:
    """Return the pattern of a line end (CR) that a segment follows; ``separator`` is the field separator."""
    return re.compile(_PATTERN.format(end=r"\r", sep=re.escape(separator), names="|".join(sorted(SEGMENTS))))


@lru_cache(maxsize=256)
def beginnings_in_bytes(separator: bytes) -> re.Pattern[bytes]:
    """Return the same as `beginnings` for bytes as they came, with whichever line ends."""
    pattern = _PATTERN.format(end=r"[\r\n]", sep=re.escape(separator.decode()), names="|".join(sorted(SEGMENTS)))
    return re.compile(pattern.encode())


@lru_cache(maxsize=256)
def _small(separator: str) -> re.Pattern[str]:
    return re.compile(rf"\r(?![A-Z][A-Z0-9]{{2}})([A-Za-z][A-Za-z0-9]{{2}}){re.escape(separator)}")


def small_names(text: str, separator: str) -> dict[str, int]:
    """Return the names of segments that begin lines in small letters, each with the number of its first line."""
    found: dict[str, int] = {}
    for match in _small(separator).finditer(text):
        name = match[1].upper()
        if name in SEGMENTS and name not in found:
            found[name] = text.count("\r", 0, match.end()) + 1
    return found


def is_name(name: str) -> bool:
    """Tell whether a line that begins with this, and a separator behind it, begins a segment."""
    return name in SEGMENTS or (name != _CONTINUES and _NAME.fullmatch(name) is not None)


def unwrap(text: str, separator: str) -> str:
    """Return a segment in one line of fields: CR between its lines, ADD resolved, blank lines at its end left out."""
    rest = text.find("\r", len(text.rstrip(_BLANK)))
    if rest >= 0:
        text = text[:rest]
    if f"\r{_CONTINUES}" in text:
        text = text.replace(f"\r{_CONTINUES}{separator}", "").removesuffix(f"\r{_CONTINUES}")
    return text.replace("\r", "\n")


def split(text: str, separator: str) -> list[tuple[str, str]]:
    """Return name and text of every segment of a message whose line ends are CR; its MSH is the first."""
    lines = text.split("\r")
    if not lines[-1]:
        lines.pop()
    # Where every line begins a segment there is nothing to unwrap; that is the usual case, at a fifth of the cost.
    found = [(line[:3], line) for line in lines if line[3:4] == separator and is_name(line[:3])]
    return found if len(found) == len(lines) else _split_wrapped(text, separator)


def _split_wrapped(text: str, separator: str) -> list[tuple[str, str]]:
    first, *rest = beginnings(separator).split(text)
    header, end, below = first.partition("\r")
    found = [(header[:3], header)]
    if end and (below := unwrap(below, separator).strip(_BLANK + "\n")):
        found.append((_CONTINUES if below.startswith(_CONTINUES + separator) else "", below))
    found += [(line[:3], unwrap(line, separator) if "\r" in line else line) for line in rest]
    return found
