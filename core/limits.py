"""Every limit in one place, each with its reason. Relations between limits are asserted at the end.

A limit guards memory, time or a field's width in a binary layout; the comment says which. A request or a
program past a limit is refused with `core.errors.TooLarge` (or a `Problem` with file and line), never cut.
"""

from __future__ import annotations

from typing import Final

# --- names ----------------------------------------------------------------------------------------------------

# Names of offers, attributes, channels...: identifiers people type. 64 is longer than any seen in the field.
NAME_LENGTH: Final = 64

# The smallest 64 bit number means a missing value in stored records, whole numbers and amounts alike.
NO_AMOUNT: Final = -(1 << 63)

# --- requests -------------------------------------------------------------------------------------------------

# An identifier as sent and as stored; LMDB keys end at 511 bytes and the namespace takes 2.
IDENTIFIER_BYTES: Final = 256
# A request names one person; more identifiers than this is a bug in the caller.
IDENTIFIERS_PER_REQUEST: Final = 16
# A page has a few dozen placements at most.
PLACEMENTS_PER_REQUEST: Final = 64
# Slots per placement; a listing page shows under a hundred items.
SLOTS_PER_PLACEMENT: Final = 100
# Facts of the moment; Adobe allows 30 context attributes, carts need a few more.
FACTS_PER_REQUEST: Final = 128
# A string fact or attribute; longer texts are documents, not profile data. The record's heap addresses 16 bits.
STRING_BYTES: Final = 1024
# An outcome's or an event's key, and a case's: an order number, a message id. As the contract says.
KEY_BYTES: Final = 256
# Members of a set attribute or fact.
SET_MEMBERS: Final = 256
# Events sent along with a decision.
EVENTS_PER_REQUEST: Final = 64
# Fields of one event.
EVENT_FIELDS: Final = 32
# Reasons of one FULL explanation (placements x offers): each becomes a message, and 100,000 take about a second.
REASONS_PER_REQUEST: Final = 200_000
# Full explanations that wait for the one thread that makes them: a burst of four connections' calls, which a small program makes
# in a second. For the largest, at a second each, it is the deadline that ends the wait.
EXPLANATIONS_WAITING: Final = 1024
# DecideMany: bounded so that one call cannot hold a handler thread for long (100 x ~20 us = 2 ms).
DECISIONS_PER_CALL: Final = 100
# One gRPC message. The largest legal DecideMany is far below it.
MESSAGE_BYTES: Final = 1 << 20

# --- programs -------------------------------------------------------------------------------------------------

# Offers in one program; bitmaps are sized by it. Ten times the largest catalogue measured.
OFFERS: Final = 1_000_000
# Attributes a store may ever declare; slot numbers are 16 bit, and the fixed part of a record must stay small.
ATTRIBUTES: Final = 4096
# Labels of one enum attribute; codes are 16 bit, 0 means missing.
ENUM_LABELS: Final = 65_535
# One expression's text. Adobe allows 15 KB a rule; people cannot read half of this.
EXPRESSION_BYTES: Final = 4096
# Bands of one program: each is a number of every customer while edges are made. Parts of one: percentiles are the finest in use.
BANDS: Final = 64
BAND_PARTS: Final = 100
# Nesting of an expression: recursion in the checker and the machine's stack depth follow it.
EXPRESSION_DEPTH: Final = 64
# Static cost of an expression in machine steps; bounds the time one rule can take (~5 ns a step).
EXPRESSION_COST: Final = 10_000
# One treatment field's text before rendering.
CONTENT_BYTES: Final = 16_384
# A rendered answer for one offer.
RENDERED_BYTES: Final = 65_536
# A program's source files together.
PROGRAM_BYTES: Final = 512 << 20
# Versions of a program whose images are kept, beside that of the active one: one of a large program has tens of MiB, and older
# ones are compiled from their sources, which all stay.
PROGRAM_IMAGES: Final = 8
# Compiled tables kept beside a checked program. Larger ones are compiled again at a restart.
KEPT_TABLES_BYTES: Final = 256 << 20

# --- the hub --------------------------------------------------------------------------------------------------

# Address space reserved for the store: sparse, never resized online (py-lmdb #269, #475). 1 TiB of 128 TiB.
MAP_BYTES: Final = 1 << 40
# What the journal beside the store keeps, by age and by size.
JOURNAL_SECONDS: Final = 7 * 86_400
JOURNAL_BYTES: Final = 16 << 30
# Characters from which on an identifier in an erasure's request tells of a customer; shorter ones stand in many a number.
REQUEST_TELLS: Final = 5
# How long a join can be undone, how many later messages are kept for that, and how many bytes of a survivor's joins with them:
# past any the oldest is final.
UNDO_US: Final = 30 * 86_400_000_000
MERGE_MESSAGES: Final = 4096
MERGE_BYTES: Final = 8 << 20
# Messages that an undo applies between two copies of what it has changed: one that is refused costs those since the last.
UNDO_PASSED: Final = 64
# Survivors whose joins one message of the sweep makes final: each may have 4,096 messages, whose removal takes a few ms.
UNDO_ENDED: Final = 64
# Reader slots; the default 126 runs out with many handler threads and tools, 1024 cost one sparse page.
READERS: Final = 1024
# A customer's record: profile, identifiers, consents, cases. Offsets in it are 16 bit for the heap.
RECORD_BYTES: Final = 65_536
# Identifiers one customer may hold.
IDENTIFIERS_PER_CUSTOMER: Final = 256
# Cases one customer may have: open ones past it are refused, closed ones go, the first opened first.
CASES_PER_CUSTOMER: Final = 256
# Customers with cases looked at for one list of overdue ones: a tenth of a second.
CASES_WALKED: Final = 10_000
# Overdue cases after which a page of them ends: a customer may have 256.
CASES_SHOWN: Final = 1000
# Members of one household. A list as long is checked with every decision that asks for the size; a business account with
# more has branches.
HOUSEHOLD_MEMBERS: Final = 64
# Contacts kept for a customer; the oldest go first. 4096 x 40 bytes is 160 KiB, and a cap window rarely holds 100.
CONTACTS_PER_CUSTOMER: Final = 4096
# Events kept for a customer; the oldest go first. The busiest of 4,372 real wholesalers has 7,983 invoice lines.
EVENTS_PER_CUSTOMER: Final = 32_768
# Aggregates that a program may declare: each is a slot of every frame, and they share one walk over the events.
AGGREGATES: Final = 256
# Terms of an aggregate's filter, joined by &&: more are a segment, not a kind of event.
FILTER_TERMS: Final = 16
# Windows of aggregates: a shorter one is a fact of the moment, the longest is two years, one of them a leap year.
WINDOW_LEAST_US: Final = 60 * 1_000_000
WINDOW_MOST_US: Final = 731 * 86_400 * 1_000_000
# One event as stored, its texts with it: 32 fields, a few of them sentences.
EVENT_BYTES: Final = 8192
# A customer's event list: rewritten whole with every event and checked whole at every read (about 25 GB/s from the cache). So
# much is 32,768 events of 64 bytes; one more takes 0.5 ms within a commit and 2.7 ms alone, with its syncs (8 MiB: 3 and 9 ms).
EVENT_LIST_BYTES: Final = 2 << 20
# Sources (billing, web...) a store may know: named by configuration and imports, so a small number; stored in 16 bits.
SOURCES: Final = 4096
# As many of them may be named by calls; the others are kept for programs, which could not be loaded without.
SOURCES_FREE: Final = 3072
# How far a caller's clock may run ahead of ours: what it dates ahead happened now; a later date is refused. A consent, once
# dated, only yields to a later one, so a wrong date in the future could never be withdrawn.
AHEAD_US: Final = 5 * 60 * 1_000_000
# How long after an instance's expiry a report of what happened before it is still taken. Partners settle by the month and
# auditors by the year, so a year and a month; without an end, a token from an old log could rewrite a history for ever.
LATE_US: Final = 400 * 86_400 * 1_000_000
# Bytes of values put by one transaction, past which nothing more joins it: LMDB holds their pages until the commit, and of a
# thousand writes, or a feed's 8,192 rows, each may rewrite a full history.
COMMIT_BYTES: Final = 64 << 20
# Mutations in one transaction: past a few hundred the commit is no longer what costs (measured: 16 us a put at 200).
MUTATIONS_PER_COMMIT: Final = 1024
# Mutations waiting for the committer; beyond it callers are told to come back.
MUTATIONS_QUEUED: Final = 65_536

# Customers that the sweep visits a second: at a microsecond each a twentieth of a processor, a million in twenty seconds.
SWEEP_PER_SECOND: Final = 50_000
# Customers of one of its steps: a millisecond, for which a snapshot is held.
SWEEP_STEP: Final = 1024
# Its rest between two walks for edges, at least; and after how long time alone is reason for another.
SWEEP_REST_US: Final = 10 * 1_000_000
SWEEP_MOVED_US: Final = 3600 * 1_000_000
# Scores of one program, and customers of one run of their model. A score written counts as so many customers visited, so
# that the sweep writes at most 2,500 a second, a twentieth of what the store takes.
SCORES: Final = 16
SCORED_AT_ONCE: Final = 256
SCORE_WRITTEN: Final = 20
# Changes of a watched segment that wait for who watches it; past it the watch ends, for its reader does not keep up.
WATCH_CHANGES: Final = 65_536
# --- feeds ----------------------------------------------------------------------------------------------------

# Feeds and imports at a time: each has two threads, and a bounded number of bytes on their way.
INGEST_STREAMS: Final = 16
# Rows of one block of an import into a running server, and bytes of its message: 4,096 rows of 40 long texts.
IMPORT_ROWS: Final = 4096
IMPORT_BYTES: Final = 64 << 20
# Items of one message of a feed; 1 MiB ends it sooner.
INGEST_ITEMS: Final = 4096
# Events that become one mutation, of which commits beside online writes take one: each may rewrite a list of its own, which for
# an ordinary one takes 40 us with its part of the syncs. Two of 64 made a report beside a feed wait 12.7 ms (median) instead of
# 2.6, and gave the feed 24,000 events/s instead of 19,000; a feed alone is as fast.
INGEST_BATCH: Final = 16
# What a feed may have sent that is not durable yet: three of the largest commits, so that the disk never waits for the network.
INGEST_ITEMS_ON_THEIR_WAY: Final = 24_576
INGEST_BYTES_ON_THEIR_WAY: Final = 8 << 20

# --- models ---------------------------------------------------------------------------------------------------

# One ONNX file. The largest tree ensembles used for propensities are some tens of MiB.
MODEL_BYTES: Final = 256 << 20
# Nodes in a model's graphs together.
MODEL_NODES: Final = 10_000
# Bytes of one tensor inside a model file.
MODEL_TENSOR_BYTES: Final = 128 << 20
# Inputs of one model; Pega allows 700 predictors.
MODEL_INPUTS: Final = 1024
# Rows of one batch: all offers that survive the filter.
MODEL_ROWS: Final = 65_536

# --- the data plane -------------------------------------------------------------------------------------------

# Header fields of one call, counted as RFC 9113 6.5.2 does: what gRPC servers take by default. Tokens fit easily.
METADATA_BYTES: Final = 8192
# Calls open at once on a connection. Clients queue what is beyond it; a rapid reset can open no more than these.
STREAMS_PER_CONNECTION: Final = 256
# Connections of one loop; an idle one costs about 14 KiB (nghttp2's buffers; measured), 37 with TLS: 280 or 740 MiB.
CONNECTIONS_PER_LOOP: Final = 20_000
# Calls that wait for Python, over all loops: bounds memory; how long they wait is bounded below.
CALLS_HANDED: Final = 8192
# Requests and answers that one loop holds, and what sockets have not taken of them: 256 MiB is 250,000 ordinary calls.
HELD_BYTES: Final = 256 << 20
# Calls open at once in one loop: each takes about a kilobyte beside its bytes.
CALLS_PER_LOOP: Final = 131_072
# Requests that one connection holds, half-sent ones too: a message of the largest size for each of a few.
REQUESTED_BYTES: Final = 4 << 20
# Answers that one connection does not take: then its new calls are refused. Forty answers of the largest kind in the field.
UNSENT_BYTES: Final = 4 << 20
# A decision that would wait this long in a queue that stands is refused: whoever asks for one within a millisecond gives up.
QUEUE_MS: Final = 5
# A queue that has not been empty for so long stands: more comes than is worked off. A shorter one is a burst, or a thread
# that the machine did not let run, and is worked off whole.
QUEUE_STANDS_MS: Final = 100
# A call without a deadline that waited this long for Python or for a worker is refused: better served by another server.
AWAY_MS: Final = 500
# From accept to the client's settings, TLS included. A slow mobile handshake takes three round trips of 300 ms.
HANDSHAKE_MS: Final = 10_000
# Answers wait and the peer takes none of them.
STALL_MS: Final = 20_000
# From a call's header fields until its request is whole, and until its answer is taken: drop by drop is an attack. Then it is
# reset. A tenth of this, and of the one before, while half of HELD_BYTES is held.
CALL_MS: Final = 60_000
# Nothing is heard from a connection: it is asked for a sign of life. gRPC's own default is two hours.
SILENCE_MS: Final = 7_200_000
# Frames that cost work and carry no call (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, DATA of a few bytes, what we must reset, key
# updates of TLS): a burst, and a second. An answer earns four more, and two for each large frame of it, for libraries send window
# updates and a ping for bandwidth with every few answers.
CONTROL_FRAMES: Final = 2000
CONTROL_FRAMES_PER_SECOND: Final = 100
# Streams a connection may reset: every open call timing out at once, twice, then a trickle; an answered call earns one.
RESETS: Final = 512
RESETS_PER_SECOND: Final = 20
# CONTINUATION frames of one header block: 8 KiB of fields fit into one frame of 16 KiB.
CONTINUATIONS: Final = 8

# --- relations ------------------------------------------------------------------------------------------------

assert IDENTIFIER_BYTES + 2 <= 511, "an identifier with its namespace must fit an LMDB key"
assert STRING_BYTES < 65_536, "a string's length is 16 bit in the record's heap"
assert ATTRIBUTES < 65_536, "attribute slots are 16 bit"
assert EVENT_BYTES * 64 <= EVENT_LIST_BYTES, "one request's events must fit the list they go to"
assert RESETS >= 2 * STREAMS_PER_CONNECTION
assert UNSENT_BYTES + REQUESTED_BYTES <= HELD_BYTES // 16, "one connection takes a small share of a loop's memory"
assert MESSAGE_BYTES <= REQUESTED_BYTES
assert SOURCES_FREE < SOURCES
assert INGEST_BATCH <= INGEST_ITEMS <= INGEST_ITEMS_ON_THEIR_WAY
assert EVENTS_PER_REQUEST <= EVENTS_PER_CUSTOMER
assert PLACEMENTS_PER_REQUEST * SLOTS_PER_PLACEMENT <= 65_536, "ranks in an answer are 16 bit"
