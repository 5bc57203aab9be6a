"""The hub: one version of the truth about every customer, in memory-mapped LMDB.

`store.Store` is the door for Python. Reads by the kernel go through `environment.Snapshot` and the readers of `record`,
`contacts` and `events`, all without the GIL. Every change is a message of `mutations`, applied by `apply` inside one
transaction that `committer` makes durable before it is acknowledged.
"""
