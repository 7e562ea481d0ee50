# ruff: noqa: E501 - one case of a table is one line
"""Every mistake in a channel file is told once, at its place, in an analyst's words."""

import re
from pathlib import Path
from typing import Final

import pytest
from pydantic_core._pydantic_core import list_all_errors

from config.findings import CODES
from tests.project import CHANNEL, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


# What is replaced in CHANNEL, by what, and what is then told.
CASES: Final = [
    # keys
    ("attempts: 3", "atempts: 3", '20:13-20 error[E104] unknown key "atempts" in deliver.text.retry (did you mean "attempts"? allowed: attempts, expire, first, max)'),
    ("steps:", "stepps:", '6:1-7 error[E104] unknown key "stepps" (did you mean "steps"? allowed: channel, deliver, description, format, index, labels, listen, order, steps)'),
    ("endpoint:", "endpont:", '3:10-17 error[E104] unknown key "endpont" in listen.mllp (did you mean "endpoint"?)'),
    ("  - filter:", "  - filtr:", '7:5-10 error[E104] unknown key "filtr" in steps.1 (did you mean "filter"? allowed: canonical, filter, script, set, validate)'),
    ("mllp:", "mlp:", '3:3-6 error[E104] unknown key "mlp" in listen (did you mean "mllp"?'),
    ("prm: {}", "prn: {}", '15:5-8 error[E104] unknown key "prn" in deliver.store (did you mean "prm"?'),
    ("prm: {}", "prm: {x: 1}", '15:11-12 error[E104] unknown key "x" in deliver.store.prm (it has no options: write {})'),
    ("{gateway: twilio, ", "{gateway: twilio, too: x, ", '19:28-31 error[E104] unknown key "too" in deliver.text.sms (did you mean "to"? allowed: concurrency, gateway, region, segments, text, timeout, to)'),
    ("channel: feed\n", "", '1:1-2 error[E105] the file needs the key "channel" (The channel\'s name; the file is called the same.)'),
    ("listen:\n  mllp: {endpoint: 127.0.0.1:2575}\n", "", '1:1-2 error[E105] the file needs the key "listen" (The way in: exactly one kind of listener.)'),
    ("{endpoint: 127.0.0.1:2575}", "{}", '3:3-7 error[E105] listen.mllp needs the key "endpoint" (Address and port to listen on, such as 127.0.0.1:2575; port 0 takes any.)'),
    ("gateway: twilio, ", "", '19:5-8 error[E105] deliver.text.sms needs the key "gateway" (Name of the gateway, as under `gateways:` in handoff.yaml.)'),
    ("      server: mercy-ehr\n", "", '22:5-9 error[E105] deliver.ehr.fhir needs the key "server" (Name of the server, as under `servers:` in handoff.yaml.)'),
    # types
    ("order: PID-3[5=MR].1", "order: 5", '4:8-9 error[E106] order needs text, found the number 5 (put it in quotes if it is text)'),
    ("order: PID-3[5=MR].1", "order: [PID-3]", "4:1-6 error[E106] order needs text, found a list (Messages with the same value stay in order; without it, the patient's record number.)"),
    ("channel: feed", "channel: feed\nlabels: {tier: 1}", '2:16-17 error[E106] labels.tier needs text, found the number 1 (put it in quotes if it is text)'),
    ("channel: feed", "channel: feed\nlabels: a", '2:9-10 error[E106] labels needs keys and values, found "a" (Free labels, such as facility and owner.)'),
    ("channel: feed", "channel: feed\ndescription: true", '2:14-18 error[E106] description needs text, found true (put it in quotes if it is text)'),
    ("channel: feed", "channel: 2.5", '1:10-13 error[E106] channel needs text, found the number 2.5 (put it in quotes if it is text)'),
    ("attempts: 3", "attempts: three", '20:23-28 error[E106] deliver.text.retry.attempts needs a whole number, found "three" (How often to try; 0 means without limit.)'),
    ("attempts: 3", 'attempts: "3"', '20:23-26 error[E106] deliver.text.retry.attempts needs a whole number, found "3" (How often to try; 0 means without limit.)'),
    ("attempts: 3", "attempts: 1.5", '20:23-26 error[E106] deliver.text.retry.attempts needs a whole number, found the number 1.5 (How often to try; 0 means without limit.)'),
    ("      server: mercy-ehr\n", "      server: mercy-ehr\n      validate: no\n", '24:17-19 error[E106] deliver.ehr.fhir.validate needs true or false, found "no" (write false)'),
    ("      server: mercy-ehr\n", "      server: mercy-ehr\n      validate: True\n", '24:17-21 error[E106] deliver.ehr.fhir.validate needs true or false, found "True" (write true)'),
    ("  - filter: MSH-9.1 == 'ADT'", "  - filter: 5", '7:13-14 error[E106] steps.1.filter needs text, found the number 5 (put it in quotes if it is text)'),
    ("  - filter: MSH-9.1 == 'ADT'", "  - filter: [a]", "7:5-11 error[E106] steps.1.filter needs text, found a list (What must be true, such as `MSH-9.2 in ['A01', 'A04']`.)"),
    ("  - filter: MSH-9.1 == 'ADT'", "  - canonical", '7:5-14 error[E106] steps.1 needs one kind of step, such as filter; found "canonical" (write canonical: {})'),
    ("  - filter: MSH-9.1 == 'ADT'", "  - 7", '7:5-6 error[E106] steps.1 needs one kind of step, such as filter; found the number 7 (allowed: validate, filter, set, canonical, script)'),
    ("    prm: {}", "    prm: x", '15:10-11 error[E106] deliver.store.prm needs keys and values, found "x" (it has no options: write {})'),
    ("  store:\n    prm: {}", "  store: prm", '14:10-13 error[E106] deliver.store needs keys and values, found "prm" (allowed: prm, sms, email, fhir'),
    ("listen:\n  mllp: {endpoint: 127.0.0.1:2575}", "listen: 2575", '2:9-13 error[E106] listen needs keys and values, found the number 2575 (The way in: exactly one kind of listener.)'),
    ("patient: {mobile: PID-13.1}", "patient: {mobile: 5}", '9:25-26 error[E106] steps.2.canonical.patient.mobile needs text, found the number 5 (put it in quotes if it is text)'),
    ("ward: PV1-3.1", "ward: 1", '11:13-14 error[E106] steps.3.set.ward needs text, found the number 1 (put it in quotes if it is text)'),
    # values
    ("channel: feed", "channel: Feed_1", '1:10-16 error[E107] channel needs lower-case letters, digits and single hyphens, such as mercy-adt; found "Feed_1"'),
    ("{mrn:", "{MRN:", '5:9-12 error[E107] index needs names of lower-case letters, digits and _, beginning with a letter; found "MRN"'),
    ("  ehr:", "  Ehr:", '21:3-6 error[E107] deliver needs names of lower-case letters, digits and single hyphens, such as mercy-adt; found "Ehr"'),
    ("127.0.0.1:2575", "2575", '3:20-24 error[E107] listen.mllp.endpoint needs host:port, such as 127.0.0.1:2575; found the number 2575'),
    ("127.0.0.1:2575", "127.0.0.1:99999", '3:20-35 error[E107] listen.mllp.endpoint needs host:port, such as 127.0.0.1:2575; found "127.0.0.1:99999"'),
    ("127.0.0.1:2575}", "127.0.0.1:2575, acknowledge: store}", '3:49-54 error[E107] listen.mllp.acknowledge needs one of stored, processed; found "store" (did you mean "stored"?)'),
    ("127.0.0.1:2575}", "127.0.0.1:2575, charset: utf9}", "3:45-49 error[E107] listen.mllp.charset: 'utf9' is not a character set (write MSH-18, or a name such as 8859/1 or UNICODE UTF-8)"),
    ("127.0.0.1:2575}", "127.0.0.1:2575, connections: 0}", '3:49-50 error[E107] listen.mllp.connections needs at least 1, found the number 0'),
    ("127.0.0.1:2575}", "127.0.0.1:2575, max_message: 16MB}", '3:49-53 error[E107] listen.mllp.max_message needs a number with a unit (B, KiB, MiB, GiB), such as 16MiB; found "16MB"'),
    ("first: 30s", "first: 30", '20:33-35 error[E107] deliver.text.retry.first needs a unit (ms, s, m, h, d), such as 5s; found the number 30'),
    ("first: 30s", "first: 30 sec", '20:33-39 error[E107] deliver.text.retry.first needs a number with a unit (ms, s, m, h, d), such as 5s; found "30 sec"'),
    ("expire: 2h", "expire: 0", '20:46-47 error[E107] deliver.text.retry.expire needs more than 0, found the number 0'),
    ("attempts: 3", "attempts: -1", '20:23-25 error[E107] deliver.text.retry.attempts needs at least 0, found the number -1'),
    ("first: 30s", "first: 30s, max: 10s", '20:5-10 error[E107] deliver.text.retry: `max` is shorter than `first` (make it at least as long)'),
    ("    when: patient.mobile", "    on_dead: stop", '18:14-18 error[E107] deliver.text.on_dead needs one of step_over, block; found "stop"'),
    ("    when: patient.mobile", "    unknown: holt", '18:14-18 error[E107] deliver.text.unknown needs one of retry, hold; found "holt" (did you mean "hold"?)'),
    ('"identifier={{ patient.mrn.value }}"', "identifier", '25:15-25 error[E107] deliver.ehr.fhir.search needs name=value, such as identifier={{ patient.mrn.system }}|{{ patient.mrn.value }}; found "identifier"'),
    ("{mobile: PID-13.1}", "{mobil: PID-13.1}", "9:17-22 error[E107] steps.2.canonical.patient: patient has no 'mobil' (did you mean mobile?)"),
    ("ward: PV1-3.1", "patient: PV1-3.1", "11:7-14 error[E107] steps.3.set: 'patient' has a meaning already (use another name)"),
    # kinds
    ("  - filter: MSH-9.1 == 'ADT'", "  - {}", '7:5-6 error[E110] steps.1 needs one kind of step (allowed: validate, filter, set, canonical, script)'),
    ("  - filter: MSH-9.1 == 'ADT'", "  - filter: MSH-9\n    set: {a: MSH-9}", '8:5-8 error[E110] steps.1 has filter and set; it can be only one kind of step'),
    ("    prm: {}", "    after: ehr", '14:3-8 error[E110] deliver.store needs one kind of destination (allowed: prm, sms, email, fhir'),
    ("    prm: {}", "    prm: {}\n    fhir: {server: mercy-ehr, resource: x}", '16:5-9 error[E110] deliver.store has prm and fhir; it can be only one kind of destination'),
    ("channel: feed", "channel: store", '1:10-15 error[E111] "store" has a meaning of its own in overrides (choose another name for the channel)'),
    # expressions
    ("MSH-9.1 == 'ADT'", "MSH-9.1 = 'ADT'", "7:21-22 error[E201]"),
    ("MSH-9.1 == 'ADT'", "'MSH-9.1 == ''ADT'' and zork'", "7:37-41 error[E201]"),
    ("MSH-9.1 == 'ADT'", '"MSH-9.1 == \\"ADT\\" and zork"', "7:37-41 error[E201]"),
    ("MSH-9.1 == 'ADT'", ">-\n      MSH-9.1 == 'ADT'\n      and zork", "9:11-15 error[E201]"),
    ("MSH-9.1 == 'ADT'", "|\n      MSH-9.1 == 'ADT' and\n        zork", "9:9-13 error[E201]"),
    ("MSH-9.1 == 'ADT'", "MSH-9.1 == 'ADT'\n      and zork", "8:11-15 error[E201]"),
    ("MSH-9.1 == 'ADT'", "MSH-9.1 | uper", "7:23-27 error[E201]"),
    ("{mobile: PID-13.1}", "{mobile: PID-13.1 | fone}", "9:36-40 error[E201]"),
    ("ward: PV1-3.1", "ward: PV1-3.1\n      wing: wrad", "12:13-17 error[E201]"),
    ("when: patient.mobile", "when: patient.mobil", "18:19-24 error[E201]"),
    ("order: PID-3[5=MR].1", "order: PID-3[5=MR.1", "4:"),
    ('"PID-3[5=MR].1"', '"patient.mrn.value"', "5:15-22 error[E201] index.mrn is read before the steps: there is no patient yet (write locations, such as PID-3[5=MR].1)"),
    # templates, files, scripts
    ('to: "{{ patient.mobile }}"', 'to: "{{ patient.mobil }}"', "19:44-49 error[E202]"),
    ('"identifier={{ patient.mrn.value }}"', '"identifier={{ patient.mrm.value }}"', "25:38-41 error[E202]"),
    ("templates/hello.txt.j2", "templates/helo.txt.j2", "19:62-83 error[E204] templates/helo.txt.j2 does not exist in"),
    ("templates/hello.txt.j2", "../hello.txt.j2", "19:62-77 error[E204] '../hello.txt.j2' is no path below the channels folder"),
    ("scripts/rules.py:house_rules", "scripts/rule.py:house_rules", "12:13-40 error[E204] scripts/rule.py does not exist in"),
    ("scripts/rules.py:house_rules", "scripts/rules.py:house_rule", '12:13-40 error[E205] scripts/rules.py has no function house_rule (did you mean "house_rules"? allowed: house_rules)'),
    ("scripts/rules.py:house_rules", "scripts/rules.py", '12:13-29 error[E205] "scripts/rules.py" names no function (write scripts/<file>.py:<function>)'),
    # locations
    ("ward: PV1-3.1", "ward: PV1-99.1", "11:13-21 warning[E203] PV1-99 does not exist in HL7 2.5.1 (PV1 has 52 fields)"),
    ("MSH-9.1 == 'ADT'", "MSH-9.1 == 'PID-55' or PID-55 is none", "7:36-42 warning[E203] PID-55 does not exist in HL7 2.5.1 (PID has 39 fields)"),
    ("when: patient.mobile", "when: PID-3.99", "18:11-19 warning[E203] PID-3.99 does not exist in HL7 2.5.1 (PID-3 (CX) has 10 components)"),
    # names of others
    ("gateway: twilio", "gateway: twillio", '19:20-27 error[E301] deliver.text.sms.gateway names "twillio", which is no gateway of handoff.yaml (did you mean "twilio"? allowed: twilio)'),
    ("server: mercy-ehr", "server: mercy", '23:15-20 error[E301] deliver.ehr.fhir.server names "mercy", which is no server of handoff.yaml'),
    ("after: store", "after: stor", '17:12-16 error[E302] deliver.text.after names "stor", which is no destination of this channel (did you mean "store"? allowed: ehr, store)'),
    ("after: store", "after: text", "17:12-16 error[E303] destinations wait for each other: text → text (remove one `after`)"),
    ("    prm: {}", "    prm: {}\n    after: text", "16:12-16 error[E303] destinations wait for each other: store → text → store (remove one `after`)"),
    ("after: store", "fallback: stor", '17:15-19 error[E302] deliver.text.fallback names "stor", which is no destination of this channel (did you mean "store"? allowed: ehr, store)'),
    ("after: store", "fallback: text", "17:15-19 error[E303] destinations fall back on each other: text → text (remove one `fallback`)"),
    ("after: store", "after: store\n    fallback: store", '17:12-17 error[E310] "store" is a fallback and may never get the message: it cannot wait, nor be waited for (remove this `after`, or the `fallback`)'),
    ("after: store", "rate: 10 a second", "17:11-22 error[E107] deliver.text.rate"),
    ("after: store", "rate: {limit: 10/s, burst: 6}", "17:5-9 error[E107] deliver.text.rate: burst 6 leaves no steady pace of 10/s (make it at most half of the limit)"),
    ("after: store", "breaker: {first: 2m, longest: 1m}", "17:5-12 error[E107] deliver.text.breaker: `longest` is shorter than `first` (make it at least as long)"),
    ("127.0.0.1:2575", "127.0.0.1:8080", "3:20-34 error[E304] listen.mllp.endpoint: the console listens on 127.0.0.1:8080 already (choose another port)"),
    ("127.0.0.1:2575", "0.0.0.0:2575", "3:3-7 error[E107] listen.mllp: 0.0.0.0:2575 lets other machines in without TLS: add `tls`, or say in `unprotected` why it is safe"),
    ("127.0.0.1:2575", "0.0.0.0:8090, unprotected: a VPN", "3:20-32 error[E304] listen.mllp.endpoint: the sandbox listens on 127.0.0.1:8090 already (choose another port)"),
    ("channel: feed", "channel: other", '1:10-15 warning[E306] the channel is called "other" and its file feed.yaml (call it other.yaml)'),
    # YAML
    ("  store:\n", "  store: {}\n  store:\n", '15:3-8 error[E102] "store" is there twice in deliver (the first is in line 14)'),
    ("retry: {", "retry: &slow {", "20:12-17 error[E103] &slow is an anchor (write the value where it is used)"),
    ("channel: feed", "channel: !name feed", "1:10-15 error[E108] !name is a tag (leave the tag out; quotes make text of a value)"),
    ("{mrn: \"PID-3[5=MR].1\"}", "{mrn: PID-3[5=MR].1}", "5:8-9 error[E101] the mapping that begins here does not end as it should"),
    ("channel: feed", "channel: feed\nlabels: {api_token: abc123}", "2:21-27 error[E401] labels.api_token holds a secret itself"),
]  # fmt: skip


PYDANTIC: Final = {re.split(r"[{`'\"]", error["message_template_python"])[0].strip() for error in list_all_errors()}


@pytest.mark.parametrize(("old", "new", "expected"), CASES, ids=[re.sub(r"\W+", "-", case[1])[:40] for case in CASES])
def test_a_mistake_is_told_once_at_its_place_in_plain_words(
    project: Project, old: str, new: str, expected: str
) -> None:
    assert old in CHANNEL
    project.channel(CHANNEL.replace(old, new, 1))
    told = project.told()
    assert any(line.startswith(f"feed.yaml:{expected}") for line in told), "\n".join(told)
    if "E102" not in expected:  # whatever stands under a key that is there twice is another matter
        assert len(told) == 1, "\n".join(told)
    for found in project.check().findings:
        assert found.code in CODES
        assert not [phrase for phrase in PYDANTIC if len(phrase) > 12 and phrase in found.text + found.hint]
