"""This module writes the WSDL 1.1 of a service: what a sender's tools make their client from."""

from collections.abc import Iterator
from typing import Final

from broker.wire.write_xml import escaped
from listeners.soap_service import PAYLOAD, FaultKind, OperationSpec, ServiceSpec

_BINDINGS: Final = {
    "1.1": ("Soap11", "http://schemas.xmlsoap.org/wsdl/soap/"),
    "1.2": ("Soap12", "http://schemas.xmlsoap.org/wsdl/soap12/"),
}
_HTTP: Final = "http://schemas.xmlsoap.org/soap/http"
_OPTIONAL: Final = ' minOccurs="0"'
_TREE: Final = (  # any XML
    '<xsd:complexType mixed="true">'
    '<xsd:sequence><xsd:any minOccurs="0" maxOccurs="unbounded" processContents="lax"/></xsd:sequence>'
    '<xsd:anyAttribute processContents="lax"/></xsd:complexType>'
)


def action_of(service: ServiceSpec, name: str) -> str:
    """Return the action of an operation, for WS-Addressing; that of its answer has Response behind it."""
    return service.operations[name].action or f"{service.namespace}:{name}"


def write_wsdl(service: ServiceSpec, address: str) -> bytes:
    """Return the WSDL of a service that is called at an address."""
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<definitions name="{service.name}" targetNamespace="{service.namespace}"',
        f'    xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:tns="{service.namespace}"',
        '    xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:wsam="http://www.w3.org/2007/05/addressing/metadata"',
        *(f'    xmlns:{prefix.lower()}="{uri}"' for prefix, uri in _BINDINGS.values()),
        ">",
        "<types>",
        f'<xsd:schema targetNamespace="{service.namespace}" elementFormDefault="qualified">',
        *_elements(service),
        "</xsd:schema>",
        "</types>",
        *_messages(service),
        *_port_type(service),
        *(line for version in service.versions for line in _binding(service, version)),
        f'<service name="{service.name}">',
        *(_port(service, version, address) for version in service.versions),
        "</service>",
        "</definitions>",
        "",
    ]
    return "\n".join(parts).encode()


def _elements(service: ServiceSpec) -> Iterator[str]:
    for name, operation in service.operations.items():
        parts = [*_request(operation)]
        holds = _sequence(parts) if parts or operation.message != PAYLOAD else _TREE
        yield _element(operation.element or name, holds)
    answers: dict[str, str] = {}  # several operations may have the same
    for name, operation in service.operations.items():
        response = operation.answered
        fields = [f'<xsd:element name="{field}" type="xsd:string" nillable="true"/>' for field in response.fields]
        answers[service.answer_element(name)] = _TREE if response.xml is not None else _sequence(fields)
    for element, holds in answers.items():
        yield _element(element, holds)
    for fault in service.faults.values():
        kinds = (("Code", "integer"), ("Reason", "string"), ("Detail", "string"))
        parts = [f'<xsd:element name="{part}" type="xsd:{kind}"/>' for part, kind in kinds]
        yield _element(fault.element, _sequence(parts))


def _element(name: str, holds: str) -> str:
    return f'<xsd:element name="{name}">{holds}</xsd:element>'


def _sequence(parts: list[str]) -> str:
    return f"<xsd:complexType><xsd:sequence>{''.join(parts)}</xsd:sequence></xsd:complexType>"


def _request(operation: OperationSpec) -> Iterator[str]:
    """Yield the elements of a request, each of the type that is known of it: text, bytes, or any XML."""
    texts = {*operation.texts()}
    for name, needed in operation.parts():
        head = f'<xsd:element name="{name}" nillable="true"{"" if needed else _OPTIONAL}'
        is_tree = operation.content in {"xml", "json"} and operation.message in {name, PAYLOAD} and name not in texts
        if is_tree or any(path.startswith(f"{name}/") for path in operation.paths()):
            yield f"{head}>{_TREE}</xsd:element>"
        else:
            is_bytes = operation.message == name and operation.content == "base64"
            yield f'{head} type="xsd:{"base64Binary" if is_bytes else "string"}"/>'


def _messages(service: ServiceSpec) -> Iterator[str]:
    for name, operation in service.operations.items():
        yield _message(f"{name}Request", "parameters", operation.element or name)
        yield _message(f"{name}Response", "parameters", service.answer_element(name))
    for fault in service.faults.values():
        yield _message(f"{fault.element}Message", "fault", fault.element)


def _message(name: str, part: str, element: str) -> str:
    return f'<message name="{name}"><part name="{part}" element="tns:{element}"/></message>'


def _faults(service: ServiceSpec, operation: OperationSpec) -> Iterator[str]:
    """Yield the elements of the faults that an operation may be answered with."""
    of_none: set[FaultKind] = {"operation", "other"}
    for kind, fault in service.faults.items():
        if operation.message is not None or kind in of_none:
            yield fault.element


def _port_type(service: ServiceSpec) -> Iterator[str]:
    yield f'<portType name="{service.name}PortType">'
    for name, operation in service.operations.items():
        action = escaped(action_of(service, name))
        yield f'<operation name="{name}">'
        yield f'<input message="tns:{name}Request" wsam:Action="{action}"/>'
        yield f'<output message="tns:{name}Response" wsam:Action="{action}Response"/>'
        for element in _faults(service, operation):
            yield f'<fault name="{element}" message="tns:{element}Message"/>'
        yield "</operation>"
    yield "</portType>"


def _binding(service: ServiceSpec, version: str) -> Iterator[str]:
    prefix, _ = _BINDINGS[version]
    soap = prefix.lower()
    yield f'<binding name="{service.name}{prefix}Binding" type="tns:{service.name}PortType">'
    yield f'<{soap}:binding style="document" transport="{_HTTP}"/>'
    for name, operation in service.operations.items():
        yield f'<operation name="{name}">'
        yield f'<{soap}:operation soapAction="{escaped(operation.action or "")}" style="document"/>'
        yield f'<input><{soap}:body use="literal"/></input>'
        yield f'<output><{soap}:body use="literal"/></output>'
        for element in _faults(service, operation):
            yield f'<fault name="{element}"><{soap}:fault name="{element}" use="literal"/></fault>'
        yield "</operation>"
    yield "</binding>"


def _port(service: ServiceSpec, version: str, address: str) -> str:
    prefix, _ = _BINDINGS[version]
    return (
        f'<port name="{service.name}{prefix}" binding="tns:{service.name}{prefix}Binding">'
        f'<{prefix.lower()}:address location="{escaped(address)}"/></port>'
    )
