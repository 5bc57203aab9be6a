"""The hub: one version of the truth about every customer, in memory-mapped LMDB.

`store.Store` is the door for Python. A change is a message of `mutations`: `committer` drains them into one transaction,
`apply` hands each to the handler that `handlers` bound for it, `journal` is durable before LMDB commits, and only then is
anything acknowledged. Reads by the kernel go through `snapshot` and the readers of the layouts, all without the GIL.

In the order of a change:

what comes in      mutations, imports (rows), ingest (feeds), accepting (from another process)
its way            store, committer, apply, handlers; values, identifiers and causes check
a handler a noun   upserting and sources, outcomes, happenings and retention, matters and case_details, households,
                   joining and merges, erasing and naming, bulk and row_by_row (imports, in shapes), programs_kept
what lies there    catalog (names to numbers), record, contacts and contact_rows, events, membership, owned, saved
where it lies      environment (opening makes it, walking visits all of it) with its databases, a transaction, a snapshot;
                   each value's seal, pages of the file, lmdb, buffer
and stays          journal, redo, replaying; copying, keeping (backup, restore, compaction), checking, preloading, watching
looked at          customer_profile
"""
