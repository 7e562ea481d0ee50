# ruff: noqa: E501 - one request of a table is one line
"""Each operation of each preset asks for what the vendor documents, and understands success when it is told so.

`FACTS` holds what vendors' pages say: method, path, body, and an answer. What `handoff list presets` calls tested by
``facts`` or ``memory`` is here; what it calls tested by ``schema`` is in `tests.functional.test_vendor_schemas`.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from broker.delivery import Delivered
from tests.contract.scripted_server import Behaviour, reply
from tests.contract.systems import KEY, PRESETS, VendorServer, render, said, send, spec

MRN: Final = "MERCY|0012"


@dataclass(frozen=True)
class Fact:
    """What an operation sends with these values, and what it gets."""

    values: dict[str, Any]
    method: str
    path: str
    body: Any
    answer: Behaviour
    reference: str = ""
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    search: tuple[str, Behaviour] | None = None  # the path that is looked at before, and what it finds


SF_ADDRESS: Final = {
    "PersonMailingStreet": "12 Main St, Apt 3",
    "PersonMailingCity": "Springfield",
    "PersonMailingState": "IL",
    "PersonMailingPostalCode": "62701",
}
SF_FIELDS: Final = {
    "LastName": "O'Hara",
    "FirstName": "Ngozi",
    "PersonBirthdate": "1962-09-10",
    "PersonMobilePhone": "+12025550123",
    "PersonEmail": "ngozi@example.org",
    **SF_ADDRESS,
}
SF_DONE: Final = said(201, {"id": "001", "success": True, "errors": [], "created": True})
D_FIELDS: Final = {
    "lastname": "O'Hara",
    "firstname": "Ngozi",
    "birthdate": "1962-09-10",
    "mobilephone": "+12025550123",
    "emailaddress1": "ngozi@example.org",
    "address1_line1": "12 Main St, Apt 3",
    "address1_city": "Springfield",
    "address1_stateorprovince": "IL",
    "address1_postalcode": "62701",
}
D_CONTACT: Final = "/contacts(new_mrn='MERCY%7C0012')"
D_ID: Final = "https://mercy.api.crm.dynamics.com/api/data/v9.2/contacts(7)"
D_DONE: Final = reply(204, OData_EntityId=D_ID)
D_HEADERS: Final = {"odata-version": "4.0", "odata-maxversion": "4.0", "content-type": "application/json"}
Z_FIELDS: Final = {
    "MRN": MRN,
    "Last_Name": "O'Hara",
    "First_Name": "Ngozi",
    "Date_of_Birth": "1962-09-10",
    "Mobile": "+12025550123",
    "Email": "ngozi@example.org",
    "Mailing_Street": "12 Main St, Apt 3",
    "Mailing_City": "Springfield",
    "Mailing_State": "IL",
    "Mailing_Zip": "62701",
}
Z_DONE: Final = said(
    200,
    {
        "data": [
            {
                "status": "success",
                "code": "SUCCESS",
                "action": "insert",
                "duplicate_field": None,
                "details": {"id": "55"},
                "message": "record added",
            }
        ]
    },
)
H_DONE: Final = said(
    200, {"status": "COMPLETE", "results": [{"id": "9", "new": True, "properties": {}, "objectWriteTraceId": KEY}]}
)
H_FIELDS: Final = {
    "lastname": "O'Hara",
    "firstname": "Ngozi",
    "date_of_birth": "1962-09-10",
    "mobilephone": "+12025550123",
    "email": "ngozi@example.org",
    "address": "12 Main St, Apt 3",
    "city": "Springfield",
    "state": "IL",
    "zip": "62701",
}
SN_CREATED: Final = said(201, {"result": {"sys_id": "ab12"}})
SN_QUERY: Final = {"sysparm_exclude_reference_link": "true"}

FACTS: Final[dict[str, Fact]] = {
    "json post": Fact({"body": {"who": "{{ patient.given }}", "n": 1}}, "POST", "", {"who": "Ngozi", "n": 1}, reply(200)),
    # Salesforce
    "salesforce upsert_patient": Fact({}, "PATCH", f"sobjects/Account/MRN__c/{MRN}", SF_FIELDS, SF_DONE, "001", headers={"authorization": "Bearer s3cret"}),
    "salesforce upsert_patients": Fact(
        {}, "PATCH", "composite/sobjects/Account/MRN__c",
        {"allOrNone": False, "records": [{"attributes": {"type": "Account"}, "MRN__c": MRN, **SF_FIELDS}]},
        said(200, [{"id": "001", "success": True, "created": False, "errors": []}]), "001",
    ),
    "salesforce upsert_patient_with_task": Fact(
        {"subject": "Call back"}, "POST", "composite",
        {"allOrNone": True, "compositeRequest": [
            {"method": "PATCH", "url": "/services/data/v67.0/sobjects/Account/MRN__c/MERCY%7C0012", "referenceId": "patient", "body": SF_FIELDS},
            {"method": "PATCH", "url": f"/services/data/v67.0/sobjects/Task/Event_Id__c/{KEY}", "referenceId": "task", "body": {"WhatId": "@{patient.id}", "Subject": "Call back", "Status": "Not Started"}},
        ]},
        said(200, {"compositeResponse": [{"body": {"id": "001", "success": True}, "httpStatusCode": 201, "referenceId": "patient"}, {"body": {"id": "00T"}, "httpStatusCode": 201, "referenceId": "task"}]}), "001",
    ),
    "salesforce upsert_record": Fact({"object": "Contact", "key_field": "Ext__c", "fields": {"LastName": "x"}}, "PATCH", f"sobjects/Contact/Ext__c/{KEY}", {"LastName": "x"}, SF_DONE, "001"),
    "salesforce create_case": Fact({"subject": "Help"}, "PATCH", f"sobjects/Case/Event_Id__c/{KEY}", {"Subject": "Help", "Origin": "Handoff"}, SF_DONE, "001"),
    "salesforce create_task": Fact({"subject": "Call", "due": "2026-02-01"}, "PATCH", f"sobjects/Task/Event_Id__c/{KEY}", {"Subject": "Call", "Status": "Not Started", "ActivityDate": "2026-02-01", "What": {"MRN__c": MRN}}, SF_DONE, "001"),
    "salesforce log_activity": Fact({}, "PATCH", f"sobjects/Task/Event_Id__c/{KEY}", {"Subject": "patient.registered", "Status": "Completed", "What": {"MRN__c": MRN}}, reply(204)),
    "salesforce track_event": Fact(
        {"event_object": "Patient_Event__e"}, "POST", "sobjects/Patient_Event__e", {"Event_Id__c": KEY, "Kind__c": "patient.registered"},
        said(201, {"id": "e01", "success": True, "errors": [{"statusCode": "OPERATION_ENQUEUED", "message": "1-2", "fields": []}]}), "e01",
    ),
    # Dynamics 365
    "dynamics-365 upsert_patient": Fact({}, "PATCH", f"contacts(new_mrn='{MRN}')", D_FIELDS, D_DONE, D_ID, headers=D_HEADERS),
    "dynamics-365 upsert_record": Fact({"table": "accounts", "key_field": "n", "key": "O'Hara", "fields": {"name": "x"}}, "PATCH", "accounts(n='O''Hara')", {"name": "x"}, D_DONE, D_ID),
    "dynamics-365 create_case": Fact({"subject": "Help"}, "PATCH", f"incidents(new_handoffkey='{KEY}')", {"title": "Help", "customerid_contact@odata.bind": D_CONTACT}, D_DONE, D_ID),
    "dynamics-365 create_task": Fact({"subject": "Call"}, "PATCH", f"tasks(new_handoffkey='{KEY}')", {"subject": "Call", "regardingobjectid_contact@odata.bind": D_CONTACT}, D_DONE, D_ID),
    "dynamics-365 log_activity": Fact({}, "PATCH", f"phonecalls(new_handoffkey='{KEY}')", {"subject": "patient.registered", "regardingobjectid_contact@odata.bind": D_CONTACT}, D_DONE, D_ID),
    "dynamics-365 update_appointment": Fact(
        {}, "PATCH", "appointments(new_handoffkey='A1')",
        {"subject": "Check-up", "scheduledstart": "2026-01-09T10:00:00Z", "scheduledend": "2026-01-09T10:30:00Z", "regardingobjectid_contact@odata.bind": D_CONTACT}, D_DONE, D_ID,
    ),
    # Oracle Health Insurance
    "oracle-health-insurance upsert_patient": Fact({}, "PUT", "persons", {"code": "0012", "name": "O'Hara", "firstName": "Ngozi", "dateOfBirth": "1962-09-10"}, said(201, {"id": 5}, Location="/persons/5"), "5", headers={"excludecoveredservices": "true"}),
    "oracle-health-insurance update_record": Fact({"resource": "persons", "key": "12/3", "fields": {"name": "x"}}, "PATCH", "generic/persons/key/12/3", {"name": "x"}, said(200, {"id": 5}), "5"),
    # Zoho
    "zoho-crm upsert_patients": Fact({}, "POST", "Contacts/upsert", {"data": [Z_FIELDS], "duplicate_check_fields": ["MRN"], "trigger": []}, Z_DONE, "55"),
    "zoho-crm upsert_records": Fact({"module": "Leads", "fields": {"Last_Name": "x"}, "check_fields": ["Email"]}, "POST", "Leads/upsert", {"data": [{"Last_Name": "x"}], "duplicate_check_fields": ["Email"], "trigger": []}, Z_DONE, "55"),
    "zoho-crm create_task": Fact({"subject": "Call"}, "POST", "Tasks", {"data": [{"Subject": "Call"}], "trigger": []}, Z_DONE, "55"),
    "zoho-crm create_case": Fact({"subject": "Help"}, "POST", "Cases", {"data": [{"Subject": "Help", "Status": "New", "Case_Origin": "Web"}], "trigger": []}, Z_DONE, "55"),
    # Freshworks
    "freshworks upsert_patient": Fact(
        {}, "POST", "contacts/upsert",
        {"unique_identifier": {"external_id": MRN}, "contact": {"last_name": "O'Hara", "first_name": "Ngozi", "mobile_number": "+12025550123", "emails": "ngozi@example.org", "address": "12 Main St, Apt 3", "city": "Springfield", "state": "IL", "zipcode": "62701"}},
        said(200, {"contact": {"id": 4}}), "4",
    ),
    "freshworks create_task": Fact({"subject": "Call", "due": "2026-02-01", "contact": 4}, "POST", "tasks", {"task": {"title": "Call", "due_date": "2026-02-01", "targetable_type": "Contact", "targetable_id": 4}}, said(201, {"task": {"id": 8}}), "8"),
    "freshworks log_activity": Fact({"contact": 4}, "POST", "notes", {"note": {"description": "patient.registered", "targetable_type": "Contact", "targetable_id": 4}}, said(201, {"note": {"id": 8}}), "8"),
    "freshworks create_appointment": Fact({}, "POST", "appointments", {"appointment": {"title": "Appointment", "from_date": "2026-01-09T10:00:00Z", "end_date": "2026-01-09T10:30:00Z"}}, said(201, {"appointment": {"id": 8}}), "8"),
    # HubSpot
    "hubspot upsert_patients": Fact({}, "POST", "crm/v3/objects/contacts/batch/upsert", {"inputs": [{"id": MRN, "idProperty": "mrn", "objectWriteTraceId": KEY, "properties": H_FIELDS}]}, H_DONE, "9"),
    "hubspot upsert_records": Fact({"object": "2-77", "key_field": "n", "fields": {"a": "b"}}, "POST", "crm/v3/objects/2-77/batch/upsert", {"inputs": [{"id": KEY, "idProperty": "n", "objectWriteTraceId": KEY, "properties": {"a": "b"}}]}, H_DONE, "9"),
    "hubspot create_ticket": Fact({"subject": "Help"}, "POST", "crm/v3/objects/tickets/batch/upsert", {"inputs": [{"id": KEY, "idProperty": "handoff_key", "objectWriteTraceId": KEY, "properties": {"subject": "Help", "hs_pipeline_stage": "1"}}]}, H_DONE, "9"),
    "hubspot create_task": Fact({"subject": "Call"}, "POST", "crm/v3/objects/tasks", {"properties": {"hs_timestamp": "2026-01-02T03:04:05Z", "hs_task_subject": "Call"}}, said(201, {"id": "3"}), "3"),
    "hubspot log_activity": Fact(
        {"contact": "9"}, "POST", "crm/v3/objects/notes",
        {"properties": {"hs_timestamp": "2026-01-02T03:04:05Z", "hs_note_body": "patient.registered"}, "associations": [{"to": {"id": "9"}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}]}]},
        said(201, {"id": "3"}), "3",
    ),
    # Zendesk
    "zendesk upsert_patient": Fact({}, "POST", "users/create_or_update.json", {"user": {"external_id": MRN, "name": "Ngozi O'Hara", "email": "ngozi@example.org", "phone": "+12025550123", "skip_verify_email": True}}, said(201, {"user": {"id": 6}}), "6"),
    "zendesk create_ticket": Fact(
        {"subject": "Help", "text": "Please call", "more": {"tags": ["a"]}}, "POST", "tickets.json",
        {"ticket": {"external_id": KEY, "subject": "Help", "comment": {"body": "Please call", "public": False}, "requester": {"name": "Ngozi O'Hara", "email": "ngozi@example.org"}, "tags": ["a"]}},
        said(201, {"ticket": {"id": 35}}), "35", headers={"idempotency-key": KEY}, search=("tickets.json", said(200, {"tickets": [], "count": 0})),
    ),
    "zendesk update_ticket": Fact({"ticket": 35, "fields": {"status": "solved"}}, "PUT", "tickets/35.json", {"ticket": {"status": "solved"}}, said(200, {"ticket": {"id": 35}}), "35"),
    # ServiceNow
    "servicenow upsert_patient": Fact(
        {}, "POST", "now/import/u_handoff_patient",
        {"u_mrn": MRN, "u_last_name": "O'Hara", "u_first_name": "Ngozi", "u_birth_date": "1962-09-10", "u_mobile": "+12025550123", "u_email": "ngozi@example.org"},
        said(201, {"import_set": "ISET1", "staging_table": "u", "result": [{"transform_map": "m", "table": "customer_contact", "status": "inserted", "sys_id": "ab12"}]}), "ab12",
    ),
    "servicenow create_case": Fact({"subject": "Help"}, "POST", "now/table/sn_customerservice_case", {"correlation_id": KEY, "short_description": "Help"}, SN_CREATED, "ab12", query=SN_QUERY, search=("now/table/sn_customerservice_case", said(200, {"result": []}))),
    "servicenow create_task": Fact({"subject": "Call"}, "POST", "now/table/sn_customerservice_task", {"correlation_id": KEY, "short_description": "Call"}, SN_CREATED, "ab12", query=SN_QUERY, search=("now/table/sn_customerservice_task", said(200, {"result": []}))),
    "servicenow upsert_record": Fact(
        {"table": "csm_consumer", "key_field": "u_mrn", "fields": {"last_name": "x"}}, "PATCH", "now/table/csm_consumer/ab12", {"u_mrn": "0012", "last_name": "x"}, said(200, {"result": {"sys_id": "ab12"}}), "ab12",
        search=("now/table/csm_consumer", said(200, {"result": [{"sys_id": "ab12"}]})),
    ),
    # Kustomer
    "kustomer upsert_patient": Fact(
        {}, "PUT", "customers/5f1", {"externalId": MRN, "lastName": "O'Hara", "firstName": "Ngozi", "birthdayAt": "1962-09-10", "emails": [{"email": "ngozi@example.org", "type": "home"}], "phones": [{"phone": "+12025550123", "type": "mobile"}]},
        said(200, {"data": {"type": "customer", "id": "5f1"}}), "5f1", search=(f"customers/externalId={MRN}", said(200, {"data": {"type": "customer", "id": "5f1"}})),
    ),
    "kustomer log_activity": Fact({"conversation": "c1"}, "POST", "conversations/c1/notes", {"body": "patient.registered"}, said(201, {"data": {"id": "n1"}}), "n1"),
    "kustomer create_conversation": Fact({"customer": "5f1", "subject": "Help"}, "POST", "conversations", {"customer": "5f1", "name": "Help"}, said(201, {"data": {"id": "c1"}}), "c1"),
    "kustomer track_event": Fact({"customer": "5f1", "klass": "visit"}, "POST", "customers/5f1/klasses/visit", {"externalId": KEY, "title": "patient.registered", "custom": {}}, said(201, {"data": {"id": "k1"}}), "k1"),
    # Creatio
    "creatio upsert_patient": Fact(
        {}, "PATCH", "Contact(7f-1)", {"UsrMrn": MRN, "Surname": "O'Hara", "GivenName": "Ngozi", "BirthDate": "1962-09-10", "MobilePhone": "+12025550123", "Email": "ngozi@example.org"},
        reply(204), search=("Contact", said(200, {"value": [{"Id": "7f-1"}]})),
    ),
    "creatio create_case": Fact({"subject": "Help"}, "POST", "Case", {"UsrHandoffKey": KEY, "Subject": "Help"}, said(201, {"Id": "8"}), "8", search=("Case", said(200, {"value": []}))),
    "creatio create_task": Fact({"subject": "Call"}, "POST", "Activity", {"UsrHandoffKey": KEY, "Title": "Call"}, said(201, {"Id": "8"}), "8", search=("Activity", said(200, {"value": []}))),
    # Stripe
    "stripe find_invoices": Fact({"customer": "cus_1", "status": "open"}, "GET", "invoices", None, said(200, {"object": "list", "data": [{"id": "in_1"}]}), "in_1", query={"customer": "cus_1", "status": "open", "limit": "10"}),
    "stripe find_invoice": Fact({"invoice": "in_1"}, "GET", "invoices/in_1", None, said(200, {"object": "invoice", "id": "in_1"}), "in_1"),
    "stripe find_payments": Fact({"customer": "cus_1"}, "GET", "payment_intents", None, said(200, {"object": "list", "data": []}), query={"customer": "cus_1", "limit": "10"}),
    "stripe find_payment": Fact({"payment": "pi_1"}, "GET", "payment_intents/pi_1", None, said(200, {"object": "payment_intent", "id": "pi_1"}), "pi_1"),
    # Microsoft Teams
    "microsoft-teams create_meeting": Fact(
        {"organizer": "u@x"}, "POST", "users/u@x/onlineMeetings/createOrGet", {"externalId": "A1", "startDateTime": "2026-01-09T10:00:00Z", "endDateTime": "2026-01-09T10:30:00Z", "subject": "Visit"}, said(201, {"id": "M1"}), "M1",
    ),
    "microsoft-teams create_event": Fact(
        {"organizer": "u@x"}, "POST", "users/u@x/events",
        {"subject": "Visit", "start": {"dateTime": "2026-01-09T10:00:00Z", "timeZone": "UTC"}, "end": {"dateTime": "2026-01-09T10:30:00Z", "timeZone": "UTC"}, "isOnlineMeeting": True, "onlineMeetingProvider": "teamsForBusiness", "transactionId": KEY},
        said(201, {"id": "E1"}), "E1",
    ),
    # Webhooks and alerts
    "webhook send": Fact({"data": {"mrn": "{{ patient.mrn.value }}"}}, "POST", "", {"type": "patient.registered", "timestamp": "2026-01-02T03:04:05Z", "data": {"mrn": "0012"}}, reply(200), headers={"webhook-id": KEY}),
    "slack-alerts send": Fact({"text": "It is down"}, "POST", "", {"text": "It is down"}, reply(200, b"ok")),
    "teams-alerts send": Fact(
        {"text": "It is down"}, "POST", "",
        {"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": {"type": "AdaptiveCard", "version": "1.4", "body": [{"type": "TextBlock", "text": "It is down", "wrap": True}]}}]}, reply(202),
    ),
    "email-alerts send": Fact(
        {"sender": "a@x", "to": "b@x", "subject": "Down", "text": "It is down"}, "POST", "users/a@x/sendMail",
        {"message": {"subject": "Down", "body": {"contentType": "Text", "content": "It is down"}, "toRecipients": [{"emailAddress": {"address": "b@x"}}]}, "saveToSentItems": False}, reply(202),
    ),
    # Calls and push
    "twilio-voice call": Fact(
        {"caller": "+12025550100", "text": "Room <4> & bring your card"}, "POST", "Calls.json",
        {"To": "+12025550123", "From": "+12025550100", "Twiml": '<Response><Say language="en-US">Room &lt;4&gt; &amp; bring your card</Say></Response>'},
        said(201, {"sid": "CA1", "status": "queued"}), "CA1",
    ),
    "firebase-push send": Fact(
        {"device": "d:1", "title": "Mercy", "text": "You have a message", "data": {"kind": "{{ event.kind }}"}}, "POST", "messages:send",
        {"message": {"token": "d:1", "notification": {"title": "Mercy", "body": "You have a message"}, "data": {"kind": "patient.registered"}}},
        said(200, {"name": "projects/p/messages/1"}), "projects/p/messages/1",
    ),
    # athenaOne takes forms
    "athenaone upsert_patient": Fact(
        {"department": "1"}, "POST", "patients",
        {"departmentid": "1", "lastname": "O'Hara", "firstname": "Ngozi", "dob": "09/10/1962", "mobilephone": "+12025550123", "email": "ngozi@example.org", "address1": "12 Main St", "city": "Springfield", "state": "IL", "zip": "62701"},
        said(200, [{"patientid": "7"}]), "7",
    ),
    "athenaone update_patient": Fact({"chart": "7", "fields": {"mobilephone": "{{ patient.mobile }}"}}, "PUT", "patients/7", {"mobilephone": "+12025550123"}, said(200, [{"patientid": "7"}]), "7"),
    "athenaone add_document": Fact(
        {"chart": "7", "department": "1", "text": "Seen today", "more": {"documenttypeid": "341716"}}, "POST", "patients/7/documents/clinicaldocument",
        {"departmentid": "1", "documentsubclass": "CLINICALDOCUMENT", "documentdata": "Seen today", "autoclose": "false", "documenttypeid": "341716"}, said(200, {"success": True, "clinicaldocumentid": "88"}), "88",
    ),
    "athenaone add_lab_result": Fact(
        {"chart": "7", "department": "1", "analytes": '[{"analytename": "HbA1c"}]', "day": "01/02/2026"}, "POST", "patients/7/documents/labresult",
        {"departmentid": "1", "analytes": '[{"analytename": "HbA1c"}]', "observationdate": "01/02/2026"}, said(200, {"success": True, "labresultid": "89"}), "89",
    ),
    "athenaone add_case": Fact({"chart": "7", "department": "1", "text": "Call back"}, "POST", "patients/7/documents/patientcase", {"departmentid": "1", "internalnote": "Call back"}, said(200, {"success": "true", "patientcaseid": "90"}), "90"),
    "athenaone add_problem": Fact({"chart": "7", "department": "1", "snomed": "44054006"}, "POST", "chart/7/problems", {"departmentid": "1", "snomedcode": "44054006"}, said(200, {"success": True, "problemid": "91"}), "91"),
    "athenaone add_vitals": Fact({"chart": "7", "department": "1", "vitals": "[[]]"}, "POST", "chart/7/vitals", {"departmentid": "1", "vitals": "[[]]"}, said(200, {"success": True})),
    "athenaone add_medication": Fact({"chart": "7", "department": "1", "fields": {"medicationid": "311371"}}, "POST", "chart/7/medications", {"departmentid": "1", "medicationid": "311371"}, said(200, {"success": True, "medicationentryid": "92"}), "92"),
    "athenaone book_appointment": Fact({"chart": "7", "appointment_id": "5", "more": {"reasonid": "2"}}, "PUT", "appointments/5", {"patientid": "7", "reasonid": "2"}, said(200, [{"appointmentid": "5"}]), "5"),
    "athenaone cancel_appointment": Fact({"chart": "7", "appointment_id": "5"}, "PUT", "appointments/5/cancel", {"patientid": "7"}, said(200, {"appointmentid": "5"}), "5"),
}  # fmt: skip
BATCHED_OTHERWISE: Final = {
    "dynamics-365 upsert_patients",
    "salesforce load_patients",
}  # in tests.contract.test_system_rows: no JSON


def test_every_operation_that_is_said_to_be_tested_by_facts_is_in_the_table() -> None:
    told = {
        f"{name} {operation}"
        for name, preset in PRESETS.items()
        for operation, each in preset.operations.items()
        if each.tested in {"facts", "memory"}
    }
    assert told == set(FACTS) | BATCHED_OTHERWISE


@pytest.mark.parametrize("name", list(FACTS))
async def test_operation_asks_for_what_the_vendor_documents(name: str) -> None:
    preset, operation = name.split()
    fact = FACTS[name]
    declared = spec(preset, operation, fact.values)
    server = VendorServer(
        answers=lambda asked: fact.answer if not fact.search or asked.method != "GET" else fact.search[1]
    )
    await server.start()
    (outcome,) = await send(declared, server, [render(declared)])
    await server.stop()
    *searches, asked = server.asked
    assert (asked.method, asked.path, asked.query) == (fact.method, fact.path, fact.query)
    assert (asked.body if asked.raw else None) == fact.body
    assert fact.headers.items() <= asked.headers.items()
    assert [(each.method, each.path) for each in searches] == ([("GET", fact.search[0])] if fact.search else [])
    assert isinstance(outcome, Delivered), outcome
    assert outcome.reference == fact.reference


@pytest.mark.parametrize("name", list(FACTS))
def test_request_is_the_same_each_time_it_is_rendered(name: str) -> None:
    preset, operation = name.split()
    declared = spec(preset, operation, FACTS[name].values)
    assert render(declared) == render(declared)
