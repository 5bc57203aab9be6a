import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.rapport.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CaseScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CASE_SCOPE_UNSPECIFIED: _ClassVar[CaseScope]
    CASE_SCOPE_CUSTOMER: _ClassVar[CaseScope]
    CASE_SCOPE_HOUSEHOLD: _ClassVar[CaseScope]
    CASE_SCOPE_PRODUCT: _ClassVar[CaseScope]

class CaseState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CASE_STATE_UNSPECIFIED: _ClassVar[CaseState]
    CASE_STATE_ALL: _ClassVar[CaseState]
    CASE_STATE_OVERDUE: _ClassVar[CaseState]
CASE_SCOPE_UNSPECIFIED: CaseScope
CASE_SCOPE_CUSTOMER: CaseScope
CASE_SCOPE_HOUSEHOLD: CaseScope
CASE_SCOPE_PRODUCT: CaseScope
CASE_STATE_UNSPECIFIED: CaseState
CASE_STATE_ALL: CaseState
CASE_STATE_OVERDUE: CaseState

class UpsertProfileRequest(_message.Message):
    __slots__ = ("identifiers", "attributes", "source", "at", "clear")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    attributes: _containers.MessageMap[str, _values_pb2.Value]
    source: str
    at: _timestamp_pb2.Timestamp
    clear: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., attributes: _Optional[_Mapping[str, _values_pb2.Value]] = ..., source: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., clear: _Optional[_Iterable[str]] = ...) -> None: ...

class UpsertProfileResponse(_message.Message):
    __slots__ = ("customer", "created", "household")
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    HOUSEHOLD_FIELD_NUMBER: _ClassVar[int]
    customer: int
    created: bool
    household: int
    def __init__(self, customer: _Optional[int] = ..., created: _Optional[bool] = ..., household: _Optional[int] = ...) -> None: ...

class GetProfileRequest(_message.Message):
    __slots__ = ("identifiers", "contacts", "events", "provenance")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    CONTACTS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    contacts: int
    events: int
    provenance: bool
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., contacts: _Optional[int] = ..., events: _Optional[int] = ..., provenance: _Optional[bool] = ...) -> None: ...

class Consent(_message.Message):
    __slots__ = ("purpose", "channel", "granted", "source", "at")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    purpose: str
    channel: str
    granted: bool
    source: str
    at: _timestamp_pb2.Timestamp
    def __init__(self, purpose: _Optional[str] = ..., channel: _Optional[str] = ..., granted: _Optional[bool] = ..., source: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Case(_message.Message):
    __slots__ = ("kind", "key_hash", "opened", "closed", "key", "scope", "product", "owner", "due")
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_HASH_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    DUE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    key_hash: int
    opened: _timestamp_pb2.Timestamp
    closed: _timestamp_pb2.Timestamp
    key: str
    scope: CaseScope
    product: str
    owner: str
    due: _timestamp_pb2.Timestamp
    def __init__(self, kind: _Optional[str] = ..., key_hash: _Optional[int] = ..., opened: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., closed: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., key: _Optional[str] = ..., scope: _Optional[_Union[CaseScope, str]] = ..., product: _Optional[str] = ..., owner: _Optional[str] = ..., due: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Contact(_message.Message):
    __slots__ = ("at", "offer", "outcome", "channel", "instance", "value_minor")
    AT_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    VALUE_MINOR_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    offer: str
    outcome: str
    channel: str
    instance: int
    value_minor: int
    def __init__(self, at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., offer: _Optional[str] = ..., outcome: _Optional[str] = ..., channel: _Optional[str] = ..., instance: _Optional[int] = ..., value_minor: _Optional[int] = ...) -> None: ...

class KeptEvent(_message.Message):
    __slots__ = ("type", "at", "fields")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    TYPE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    type: str
    at: _timestamp_pb2.Timestamp
    fields: _containers.MessageMap[str, _values_pb2.Value]
    def __init__(self, type: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., fields: _Optional[_Mapping[str, _values_pb2.Value]] = ...) -> None: ...

class Household(_message.Message):
    __slots__ = ("household", "role", "since", "members", "attributes", "identifiers")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    HOUSEHOLD_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    household: int
    role: str
    since: _timestamp_pb2.Timestamp
    members: int
    attributes: _containers.MessageMap[str, _values_pb2.Value]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    def __init__(self, household: _Optional[int] = ..., role: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., members: _Optional[int] = ..., attributes: _Optional[_Mapping[str, _values_pb2.Value]] = ..., identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ...) -> None: ...

class GetProfileResponse(_message.Message):
    __slots__ = ("customer", "updated", "identifiers", "attributes", "consents", "cases", "contacts", "events", "household", "provenance", "contacts_kept", "events_kept")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CONSENTS_FIELD_NUMBER: _ClassVar[int]
    CASES_FIELD_NUMBER: _ClassVar[int]
    CONTACTS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    HOUSEHOLD_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CONTACTS_KEPT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_KEPT_FIELD_NUMBER: _ClassVar[int]
    customer: int
    updated: _timestamp_pb2.Timestamp
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    attributes: _containers.MessageMap[str, _values_pb2.Value]
    consents: _containers.RepeatedCompositeFieldContainer[Consent]
    cases: _containers.RepeatedCompositeFieldContainer[Case]
    contacts: _containers.RepeatedCompositeFieldContainer[Contact]
    events: _containers.RepeatedCompositeFieldContainer[KeptEvent]
    household: Household
    provenance: _containers.RepeatedCompositeFieldContainer[Provenance]
    contacts_kept: int
    events_kept: int
    def __init__(self, customer: _Optional[int] = ..., updated: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., attributes: _Optional[_Mapping[str, _values_pb2.Value]] = ..., consents: _Optional[_Iterable[_Union[Consent, _Mapping]]] = ..., cases: _Optional[_Iterable[_Union[Case, _Mapping]]] = ..., contacts: _Optional[_Iterable[_Union[Contact, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[KeptEvent, _Mapping]]] = ..., household: _Optional[_Union[Household, _Mapping]] = ..., provenance: _Optional[_Iterable[_Union[Provenance, _Mapping]]] = ..., contacts_kept: _Optional[int] = ..., events_kept: _Optional[int] = ...) -> None: ...

class GetProvenanceRequest(_message.Message):
    __slots__ = ("identifiers", "attributes")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    attributes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., attributes: _Optional[_Iterable[str]] = ...) -> None: ...

class OriginValue(_message.Message):
    __slots__ = ("source", "at", "value", "previous_at", "previous")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_AT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    source: str
    at: _timestamp_pb2.Timestamp
    value: _values_pb2.Value
    previous_at: _timestamp_pb2.Timestamp
    previous: _values_pb2.Value
    def __init__(self, source: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ..., previous_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., previous: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("attribute", "rule", "value", "origins")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ORIGINS_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    rule: str
    value: _values_pb2.Value
    origins: _containers.RepeatedCompositeFieldContainer[OriginValue]
    def __init__(self, attribute: _Optional[str] = ..., rule: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ..., origins: _Optional[_Iterable[_Union[OriginValue, _Mapping]]] = ...) -> None: ...

class GetProvenanceResponse(_message.Message):
    __slots__ = ("attributes",)
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    attributes: _containers.RepeatedCompositeFieldContainer[Provenance]
    def __init__(self, attributes: _Optional[_Iterable[_Union[Provenance, _Mapping]]] = ...) -> None: ...

class SetConsentRequest(_message.Message):
    __slots__ = ("identifiers", "purpose", "channel", "granted", "source", "at")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    purpose: str
    channel: str
    granted: bool
    source: str
    at: _timestamp_pb2.Timestamp
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., purpose: _Optional[str] = ..., channel: _Optional[str] = ..., granted: _Optional[bool] = ..., source: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SetConsentResponse(_message.Message):
    __slots__ = ("warning", "superseded")
    WARNING_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    warning: str
    superseded: bool
    def __init__(self, warning: _Optional[str] = ..., superseded: _Optional[bool] = ...) -> None: ...

class OpenCaseRequest(_message.Message):
    __slots__ = ("identifiers", "kind", "key", "at", "scope", "product", "owner", "due")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    DUE_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    kind: str
    key: str
    at: _timestamp_pb2.Timestamp
    scope: CaseScope
    product: str
    owner: str
    due: _timestamp_pb2.Timestamp
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., kind: _Optional[str] = ..., key: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., scope: _Optional[_Union[CaseScope, str]] = ..., product: _Optional[str] = ..., owner: _Optional[str] = ..., due: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class OpenCaseResponse(_message.Message):
    __slots__ = ("warning", "closed")
    WARNING_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    warning: str
    closed: bool
    def __init__(self, warning: _Optional[str] = ..., closed: _Optional[bool] = ...) -> None: ...

class CloseCaseRequest(_message.Message):
    __slots__ = ("identifiers", "kind", "key", "at")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    kind: str
    key: str
    at: _timestamp_pb2.Timestamp
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., kind: _Optional[str] = ..., key: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CloseCaseResponse(_message.Message):
    __slots__ = ("warning",)
    WARNING_FIELD_NUMBER: _ClassVar[int]
    warning: str
    def __init__(self, warning: _Optional[str] = ...) -> None: ...

class AssignCaseRequest(_message.Message):
    __slots__ = ("identifiers", "kind", "key", "owner", "due", "at")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    DUE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    kind: str
    key: str
    owner: str
    due: _timestamp_pb2.Timestamp
    at: _timestamp_pb2.Timestamp
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., kind: _Optional[str] = ..., key: _Optional[str] = ..., owner: _Optional[str] = ..., due: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class AssignCaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListCasesRequest(_message.Message):
    __slots__ = ("identifiers", "state")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    state: CaseState
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., state: _Optional[_Union[CaseState, str]] = ...) -> None: ...

class ListCasesResponse(_message.Message):
    __slots__ = ("cases",)
    CASES_FIELD_NUMBER: _ClassVar[int]
    cases: _containers.RepeatedCompositeFieldContainer[Case]
    def __init__(self, cases: _Optional[_Iterable[_Union[Case, _Mapping]]] = ...) -> None: ...

class ListOverdueCasesRequest(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: int
    def __init__(self, after: _Optional[int] = ...) -> None: ...

class OverdueCase(_message.Message):
    __slots__ = ("customer", "identifiers", "case", "household")
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    CASE_FIELD_NUMBER: _ClassVar[int]
    HOUSEHOLD_FIELD_NUMBER: _ClassVar[int]
    customer: int
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    case: Case
    household: int
    def __init__(self, customer: _Optional[int] = ..., identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., case: _Optional[_Union[Case, _Mapping]] = ..., household: _Optional[int] = ...) -> None: ...

class ListOverdueCasesResponse(_message.Message):
    __slots__ = ("cases", "next")
    CASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    cases: _containers.RepeatedCompositeFieldContainer[OverdueCase]
    next: int
    def __init__(self, cases: _Optional[_Iterable[_Union[OverdueCase, _Mapping]]] = ..., next: _Optional[int] = ...) -> None: ...

class JoinIdentifiersRequest(_message.Message):
    __slots__ = ("identifiers", "at")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    at: _timestamp_pb2.Timestamp
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class JoinIdentifiersResponse(_message.Message):
    __slots__ = ("customer", "merged", "merge")
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    MERGED_FIELD_NUMBER: _ClassVar[int]
    MERGE_FIELD_NUMBER: _ClassVar[int]
    customer: int
    merged: int
    merge: int
    def __init__(self, customer: _Optional[int] = ..., merged: _Optional[int] = ..., merge: _Optional[int] = ...) -> None: ...

class ListMergesRequest(_message.Message):
    __slots__ = ("identifiers",)
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ...) -> None: ...

class Absorbed(_message.Message):
    __slots__ = ("customer", "identifiers")
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    customer: int
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    def __init__(self, customer: _Optional[int] = ..., identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ...) -> None: ...

class Merge(_message.Message):
    __slots__ = ("merge", "at", "survivor", "absorbed", "customers", "since", "until")
    MERGE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SURVIVOR_FIELD_NUMBER: _ClassVar[int]
    ABSORBED_FIELD_NUMBER: _ClassVar[int]
    CUSTOMERS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    merge: int
    at: _timestamp_pb2.Timestamp
    survivor: int
    absorbed: _containers.RepeatedScalarFieldContainer[int]
    customers: _containers.RepeatedCompositeFieldContainer[Absorbed]
    since: int
    until: _timestamp_pb2.Timestamp
    def __init__(self, merge: _Optional[int] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., survivor: _Optional[int] = ..., absorbed: _Optional[_Iterable[int]] = ..., customers: _Optional[_Iterable[_Union[Absorbed, _Mapping]]] = ..., since: _Optional[int] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListMergesResponse(_message.Message):
    __slots__ = ("merges",)
    MERGES_FIELD_NUMBER: _ClassVar[int]
    merges: _containers.RepeatedCompositeFieldContainer[Merge]
    def __init__(self, merges: _Optional[_Iterable[_Union[Merge, _Mapping]]] = ...) -> None: ...

class UnmergeRequest(_message.Message):
    __slots__ = ("identifiers", "merge")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    MERGE_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    merge: int
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., merge: _Optional[int] = ...) -> None: ...

class UnmergeResponse(_message.Message):
    __slots__ = ("customer", "restored", "reapplied", "dropped")
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    REAPPLIED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    customer: int
    restored: _containers.RepeatedScalarFieldContainer[int]
    reapplied: int
    dropped: int
    def __init__(self, customer: _Optional[int] = ..., restored: _Optional[_Iterable[int]] = ..., reapplied: _Optional[int] = ..., dropped: _Optional[int] = ...) -> None: ...

class EraseProfileRequest(_message.Message):
    __slots__ = ("identifiers", "request")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    request: str
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., request: _Optional[str] = ...) -> None: ...

class EraseProfileResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetMembershipRequest(_message.Message):
    __slots__ = ("identifiers", "household", "role", "at")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    HOUSEHOLD_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    household: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    role: str
    at: _timestamp_pb2.Timestamp
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., household: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., role: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SetMembershipResponse(_message.Message):
    __slots__ = ("customer", "household", "created", "household_created", "left", "superseded")
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    HOUSEHOLD_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    HOUSEHOLD_CREATED_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    customer: int
    household: int
    created: bool
    household_created: bool
    left: int
    superseded: bool
    def __init__(self, customer: _Optional[int] = ..., household: _Optional[int] = ..., created: _Optional[bool] = ..., household_created: _Optional[bool] = ..., left: _Optional[int] = ..., superseded: _Optional[bool] = ...) -> None: ...

class LeaveHouseholdRequest(_message.Message):
    __slots__ = ("identifiers", "at")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    at: _timestamp_pb2.Timestamp
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class LeaveHouseholdResponse(_message.Message):
    __slots__ = ("household", "superseded")
    HOUSEHOLD_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    household: int
    superseded: bool
    def __init__(self, household: _Optional[int] = ..., superseded: _Optional[bool] = ...) -> None: ...

class GetHouseholdRequest(_message.Message):
    __slots__ = ("identifiers",)
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ...) -> None: ...

class GetHouseholdResponse(_message.Message):
    __slots__ = ("household",)
    HOUSEHOLD_FIELD_NUMBER: _ClassVar[int]
    household: Household
    def __init__(self, household: _Optional[_Union[Household, _Mapping]] = ...) -> None: ...
