"""Why an import rejects a row: each cause has a number that compiled code gives, a name to count by, and words for a person.

Rows are rejected where they are split, where a cell becomes a value, and where the store refuses what a row says; whoever
finds the fault, it is told by the same list. A number is never given another meaning: a server and an import of another
release tell each other causes by it.
"""

# By number: a stable name for counting, and the reason as the rejects file gives it; {count} is the cause's number.
CAUSES = {
    RAGGED: ("ROW_LENGTH", "the row has {count} cells, the header has another number"),
    UNCLOSED: ("QUOTE_OPEN", "a quoted cell runs on for more than 65536 bytes or to the end: is a quote never closed?"),
    LONG_ROW: ("ROW_TOO_LONG", "the row is longer than 1048576 bytes"),
    AFTER_QUOTE: ("TEXT_AFTER_QUOTE", "text follows a cell's closing quote"),
    NUL_BYTE: ("NUL_BYTE", "the cell holds a NUL byte"),
    NOT_UTF8: ("NOT_UTF8", "the cell is not UTF-8: is the mapping's encoding right?"),
    NOT_A_NUMBER: ("NOT_A_NUMBER", "not a number: does the mapping say its marks and what stands around it?"),
    NOT_WHOLE: ("NOT_WHOLE", "not a whole number, and the mapping does not say round: true"),
    TOO_PRECISE: ("TOO_PRECISE", "more decimals than the currency has, and the mapping does not say round: true"),
    OUT_OF_RANGE: ("OUT_OF_RANGE", "too large to be stored: whole numbers and amounts in minor units end at 64 bits"),
    NOT_A_BOOL: ("NOT_A_BOOL", "neither true nor false"),
    NOT_A_LABEL: ("NOT_A_LABEL", "not one of the attribute's labels"),
    NOT_A_TIME: (
        "NOT_A_TIME",
        "neither a date as 2026-11-27 nor a time as 2026-11-27 09:30:00, and the mapping declares no other format: '%d.%m.%Y'"),
    NO_SUCH_DATE: ("NO_SUCH_DATE", "no such date or time of day"),
    NO_SUCH_HOUR: ("NO_SUCH_LOCAL_TIME", "a local time that the clocks of the zone skipped"),
    LONG_TEXT: ("TEXT_TOO_LONG", "{count} bytes are more than a text may have"),
    MANY_MEMBERS: ("TOO_MANY_MEMBERS", "more members than a set may have"),
    REQUIRED: ("MISSING", "missing, and the mapping says required: true"),
    NO_IDENTIFIER: ("NO_IDENTIFIER", "no identifier: whose row it is cannot be told"),
    BAD_IDENTIFIER: ("BAD_IDENTIFIER", "not a valid identifier of its namespace"),
    NO_KEY: ("NO_KEY", "the columns of the key are all empty"),
    NOT_JSON: ("NOT_JSON", "not JSON"),
    NOT_OBJECT: ("NOT_AN_OBJECT", "JSON, but not an object"),
    NESTED: ("NOT_PLAIN", "an object or array where a plain value is expected"),
    NO_MEMORY: ("NO_MEMORY", "no memory for this row"),
    LARGE_RECORD: ("RECORD_TOO_LARGE", "the customer's record would be too large"),
    MANY_IDENTIFIERS: ("TOO_MANY_IDENTIFIERS", "the customer would have too many identifiers"),
    SECOND_OF_SINGLE: (
        "IDENTITY_CONFLICT",
        "the customer has another identifier of a namespace that is single: is this row of two persons, or has his changed?"),
    IN_FUTURE: ("IN_THE_FUTURE", "lies in the future: is the mapping's zone or format right?"),
    UNDATED: ("CONSENT_UNDATED", "a consent without its date: whether it is newer than another cannot be told"),
    DATED_AHEAD: ("CONSENT_AHEAD", "a consent dated in the future: nothing could withdraw it before"),
    MANY_CASES: ("TOO_MANY_CASES", "the customer would have too many open cases"),
    CASE_INVALID: (
        "CASE_INVALID",
        "key, product or owner is too long or has characters that it may not have, or its kind is never about a product"),
    BEFORE_OPENING: (
        "BEFORE_OPENING", "before the case was opened: are the columns and formats of opened, closed and due right?"),
    FULL_HOUSEHOLD: (
        "HOUSEHOLD_FULL", "the household has as many members as it may: does its identifier name more than one household?"),
    PAST_RETENTION: ("PAST_RETENTION", "older than events of its type are kept: see retention in the program's schema"),
    PAST_HISTORY: ("HISTORY_FULL", "older than everything that the customer's full history keeps"),
    SKIPPED: ("SKIPPED_WITHOUT_IDENTIFIER", "no identifier: skipped, as the mapping says"),
}

# The causes' numbers by their names.
CAUSE_NUMBERS = {name: number for number, (name, _) in CAUSES.items()}
