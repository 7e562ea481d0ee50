# ruff: noqa: E501 - one answer of a table is one line
"""What vendors answer when something is wrong becomes what the engine does next: again, later, never, or nobody knows."""

from dataclasses import dataclass
from typing import Any, Final

import pytest

from broker.delivery import Delivered, Outcome, Rejected, Retry, Unknown
from tests.contract.scripted_server import Behaviour, reply
from tests.contract.systems import KEY, VendorServer, render, said, send, spec
from tests.contract.test_system_requests import FACTS


@dataclass(frozen=True)
class Means:
    """What an answer means: the kind of outcome, words of its reason, how long to wait, and the place at fault."""

    kind: type[Outcome]
    words: str = ""
    after: float | None = None
    place: str = ""


def sf(code: str, *fields: str) -> list[dict[str, Any]]:
    return [{"errorCode": code, "message": "O'Hara is wrong", "fields": list(fields)}]


def d365(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": "O'Hara is wrong"}}


def zoho(code: str) -> dict[str, Any]:
    return {"data": [{"status": "error", "code": code, "details": {"api_name": "Last_Name"}, "message": "O'Hara"}]}


HUBSPOT_LIMIT: Final = {"status": "error", "message": "You have reached your limit.", "errorType": "RATE_LIMIT"}
ANSWERS: Final[list[tuple[str, Behaviour, Means]]] = [
    # Salesforce
    ("salesforce upsert_patient", said(400, sf("REQUIRED_FIELD_MISSING", "LastName")), Means(Rejected, "REQUIRED_FIELD_MISSING", place="LastName")),
    ("salesforce upsert_patient", said(400, sf("UNABLE_TO_LOCK_ROW")), Means(Retry, "UNABLE_TO_LOCK_ROW")),
    ("salesforce upsert_patient", said(403, sf("REQUEST_LIMIT_EXCEEDED")), Means(Retry, "used up", after=900.0)),
    ("salesforce upsert_patient", said(403, sf("INSUFFICIENT_ACCESS")), Means(Rejected, "INSUFFICIENT_ACCESS")),
    ("salesforce upsert_patient", said(401, sf("INVALID_SESSION_ID")), Means(Rejected, "mend systems.salesforce.auth")),
    ("salesforce upsert_patient", said(503, sf("SERVER_UNAVAILABLE")), Means(Retry, "SERVER_UNAVAILABLE")),
    ("salesforce upsert_patient", said(500, sf("UNKNOWN_EXCEPTION")), Means(Unknown, "UNKNOWN_EXCEPTION")),
    ("salesforce upsert_patient", said(300, ["/services/data/v67.0/sobjects/Account/1"]), Means(Rejected, "several records")),
    ("salesforce upsert_patient", said(200, {"success": False, "errors": []}), Means(Rejected, "not done")),
    ("salesforce upsert_patient_with_task", said(200, {"compositeResponse": [
        {"httpStatusCode": 400, "body": sf("PROCESSING_HALTED")}, {"httpStatusCode": 400, "body": sf("STRING_TOO_LONG")}]}), Means(Rejected, "STRING_TOO_LONG")),
    ("salesforce upsert_patients", said(200, [{"success": False, "errors": [{"statusCode": "UNABLE_TO_LOCK_ROW", "message": "x", "fields": []}]}]), Means(Retry, "UNABLE_TO_LOCK_ROW")),
    ("salesforce upsert_patients", said(200, [{"success": False, "errors": [{"statusCode": "DUPLICATE_VALUE", "message": "x", "fields": ["MRN__c"]}]}]), Means(Rejected, "DUPLICATE_VALUE", place="MRN__c")),
    ("salesforce upsert_patients", said(200, []), Means(Unknown, "does not tell")),
    # Dynamics 365
    ("dynamics-365 upsert_patient", said(429, d365("0x80072322"), Retry_After="17"), Means(Retry, "0x80072322", after=17.0)),
    ("dynamics-365 upsert_patient", said(500, d365("0x80044151")), Means(Retry, "0x80044151")),
    ("dynamics-365 upsert_patient", said(500, d365("0x80040265")), Means(Rejected, "plug-in")),
    ("dynamics-365 upsert_patient", said(403, d365("0x80040220")), Means(Rejected, "privilege")),
    ("dynamics-365 upsert_patient", said(400, d365("0x80060891")), Means(Rejected, "0x80060891")),
    ("dynamics-365 upsert_patient", said(412, d365("0x80040237")), Means(Rejected, "0x80040237")),
    ("dynamics-365 upsert_patient", said(503, d365("0x80044150")), Means(Retry)),
    ("dynamics-365 upsert_patient", said(504), Means(Unknown)),
    # Oracle Health Insurance
    ("oracle-health-insurance upsert_patient", said(422, {"resultMessages": {"result": "F", "resultMessage": [{"code": "GEN-DYLO-001", "elementId": "dateOfBirth", "value": "x"}]}}), Means(Rejected, "GEN-DYLO-001", place="dateOfBirth")),
    ("oracle-health-insurance upsert_patient", said(503), Means(Retry)),
    # Zoho: success is told by row, whatever the status
    ("zoho-crm upsert_patients", said(200, zoho("MANDATORY_NOT_FOUND")), Means(Rejected, "MANDATORY_NOT_FOUND", place="Last_Name")),
    ("zoho-crm upsert_patients", said(207, zoho("RECORD_LOCKED")), Means(Retry, "locked", after=60.0)),
    ("zoho-crm upsert_patients", said(202, zoho("INTERNAL_ERROR")), Means(Unknown, "INTERNAL_ERROR")),
    ("zoho-crm upsert_patients", said(401, {"code": "INVALID_TOKEN", "status": "error"}), Means(Rejected, "mend systems.zoho-crm.auth")),
    ("zoho-crm upsert_patients", said(429, {"code": "TOO_MANY_REQUESTS", "status": "error"}), Means(Retry, "TOO_MANY_REQUESTS", after=60.0)),
    ("zoho-crm upsert_patients", said(400, {"code": "INVALID_MODULE", "status": "error"}), Means(Rejected, "INVALID_MODULE")),
    ("zoho-crm create_task", said(200, zoho("MANDATORY_NOT_FOUND")), Means(Rejected, "MANDATORY_NOT_FOUND")),
    # Freshworks: an overload comes as 400
    ("freshworks upsert_patient", said(400, {"errors": {"code": 400, "message": ["UCR contact fetch failure :: 429"]}}), Means(Retry, "overloaded", after=60.0)),
    ("freshworks upsert_patient", said(400, {"errors": {"code": 400, "message": ["Email is not unique"]}}), Means(Rejected, "code 400")),
    ("freshworks upsert_patient", said(401, {"login": "failed", "message": "Invalid token"}), Means(Rejected, "mend systems.freshworks.auth")),
    ("freshworks upsert_patient", said(429, None, X_RateLimit_Reset="12"), Means(Retry, after=12.0)),
    # HubSpot
    ("hubspot upsert_patients", said(207, {"status": "COMPLETE", "results": [], "numErrors": 1, "errors": [{"category": "VALIDATION_ERROR", "message": "x", "context": {"ids": ["MERCY|0012"]}}]}), Means(Rejected, "VALIDATION_ERROR")),
    ("hubspot upsert_patients", said(207, {"status": "COMPLETE", "results": [], "errors": [{"category": "VALIDATION_ERROR", "message": "x", "context": {"objectWriteTraceId": [KEY]}}]}), Means(Rejected, "VALIDATION_ERROR")),
    ("hubspot upsert_patients", said(200, {"status": "COMPLETE", "results": []}), Means(Unknown, "does not tell")),
    ("hubspot upsert_patients", said(429, HUBSPOT_LIMIT | {"policyName": "TEN_SECONDLY_ROLLING"}, X_HubSpot_RateLimit_Interval_Milliseconds="10000"), Means(Retry, "TEN_SECONDLY_ROLLING", after=10.0)),
    ("hubspot upsert_patients", said(429, HUBSPOT_LIMIT | {"policyName": "DAILY"}), Means(Retry, "DAILY", after=3600.0)),
    ("hubspot upsert_patients", said(423, {"status": "error", "category": "LOCKED"}), Means(Retry, "locked", after=2.0)),
    ("hubspot upsert_patients", said(477, {"status": "error"}, Retry_After="86400"), Means(Retry, after=86_400.0)),
    ("hubspot upsert_patients", said(403, {"status": "error", "category": "MISSING_SCOPES"}), Means(Rejected, "MISSING_SCOPES")),
    ("hubspot upsert_patients", said(522), Means(Unknown)),
    ("hubspot create_task", said(409, {"status": "error", "category": "CONFLICT"}), Means(Rejected, "CONFLICT")),
    # Zendesk
    ("zendesk upsert_patient", said(422, {"error": "RecordInvalid", "description": "x", "details": {}}), Means(Rejected, "RecordInvalid")),
    ("zendesk upsert_patient", said(409, {"error": "DatabaseConflict"}), Means(Retry, "DatabaseConflict", after=1.0)),
    ("zendesk upsert_patient", said(429, None, Retry_After="93"), Means(Retry, after=93.0)),
    ("zendesk upsert_patient", said(429, None, ratelimit_reset="41"), Means(Retry, after=41.0)),
    ("zendesk update_ticket", said(400, {"error": "IdempotentRequestError"}), Means(Rejected, "another content")),
    # ServiceNow: 201 may be a failure
    ("servicenow upsert_patient", said(201, {"result": [{"status": "error", "error_message": "O'Hara"}]}), Means(Rejected, "code error")),
    ("servicenow upsert_patient", said(201, {"result": [{"status": "inserted"}, {"status": "skipped"}]}), Means(Rejected, "code inserted")),
    ("servicenow upsert_patient", reply(200, b"<html>Your instance is hibernating</html>", Content_Type="text/html"), Means(Unknown, "something else than the JSON")),
    ("servicenow upsert_patient", said(401, {"error": {"message": "User Not Authenticated", "detail": "x"}, "status": "failure"}), Means(Rejected, "mend systems.servicenow.auth")),
    # Kustomer, Creatio, Stripe, Teams
    ("kustomer create_conversation", said(422, {"errors": [{"status": 422, "code": "invalid", "title": "x", "source": {"pointer": "data/attributes/name"}}]}), Means(Rejected, "invalid", place="data/attributes/name")),
    ("kustomer create_conversation", said(500), Means(Unknown)),
    ("stripe find_invoice", said(404, {"error": {"type": "invalid_request_error", "code": "resource_missing", "param": "invoice"}}), Means(Rejected, "resource_missing", place="invoice")),
    ("stripe find_invoice", said(409, {"error": {"code": "lock_timeout"}}), Means(Retry, "lock_timeout", after=1.0)),
    ("stripe find_invoice", said(200, {"object": "invoice_deleted"}), Means(Rejected, "not done")),
    ("microsoft-teams create_meeting", said(403, {"error": {"code": "Forbidden", "message": "No application access policy found for this app"}}), Means(Rejected, "Forbidden")),
    ("microsoft-teams create_meeting", said(429, {"error": {"code": "TooManyRequests"}}, Retry_After="10"), Means(Retry, after=10.0)),
    # Calls and push
    ("twilio-voice call", said(201, {"sid": "CA1", "status": "failed"}), Means(Rejected, "not done")),
    ("twilio-voice call", said(400, {"code": 21211, "message": "O'Hara"}), Means(Rejected, "cannot be called")),
    ("twilio-voice call", said(429, {"code": 20429}), Means(Retry, "too many", after=1.0)),
    ("firebase-push send", said(404, {"error": {"status": "NOT_FOUND", "details": [{"errorCode": "UNREGISTERED"}]}}), Means(Rejected, "no longer there")),
    ("firebase-push send", said(429, {"error": {"status": "RESOURCE_EXHAUSTED", "details": [{"errorCode": "QUOTA_EXCEEDED"}]}}), Means(Retry, "too many", after=60.0)),
    ("firebase-push send", said(500, {"error": {"status": "INTERNAL"}}), Means(Unknown, "INTERNAL")),
    # athenaOne: 200 may be a failure
    ("athenaone add_document", said(200, {"success": False, "errormessage": "O'Hara"}), Means(Rejected, "not done")),
    ("athenaone add_document", said(200, {"clinicaldocumentid": "1"}), Means(Rejected, "not done")),
    ("athenaone upsert_patient", said(200, {"success": False, "errormessage": "O'Hara"}), Means(Rejected, "not done")),
    ("athenaone book_appointment", said(200, {"error": "O'Hara", "detailedmessage": "x"}), Means(Rejected, "not done")),
    ("athenaone add_document", reply(403, b'{"error": "Developer Over Qps"}', Content_Type="application/json"), Means(Retry, "too many requests", after=1.0)),
    ("athenaone add_document", reply(404, b"no such thing", Content_Type="text/plain"), Means(Rejected)),
    ("athenaone add_document", said(500, {"error": "x"}), Means(Unknown)),
    # Webhooks
    ("webhook send", reply(410), Means(Rejected, "does not want")),
    ("webhook send", reply(502), Means(Unknown)),
    ("slack-alerts send", reply(404, b"no_service"), Means(Rejected)),
    ("email-alerts send", said(200, {}), Means(Unknown)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "answer", "means"), ANSWERS, ids=[f"{n} {i}" for i, (n, _, _) in enumerate(ANSWERS)])
async def test_answer_means(name: str, answer: Behaviour, means: Means) -> None:
    preset, operation = name.split()
    declared = spec(preset, operation, FACTS[name].values)
    server = VendorServer(answers=lambda _: answer)
    await server.start()
    (outcome,) = await send(declared, server, [render(declared)])
    await server.stop()
    assert type(outcome) is means.kind, outcome
    assert not isinstance(outcome, Delivered)
    assert means.words in outcome.reason, outcome.reason
    if isinstance(outcome, Retry):
        assert outcome.after == (means.after if means.after is None else pytest.approx(means.after, abs=2))
    if isinstance(outcome, Rejected):
        assert outcome.location == means.place
    assert not [word for word in ("O'Hara", "0012", "s3cret") if word in repr(outcome)]
