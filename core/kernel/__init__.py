"""The kernel: one decision, a file a stage, without the GIL and, once its workspace has grown, without allocating.

`deciding` runs the stages in this order:

resolve       who it is and what is read of him: attributes, aggregating (filters), household
filter        eligibility, by the index and then by `machine`, which evaluates expressions
contact       caps and suppressions from the history
prune, score  pruning, scoring
arbitrate     arbitration
price         pricing
render        rendering; instance_token signs what an outcome needs
explain       explaining asks every offer again, when asked to

What they read is a `plan`, bound to a store; what they work in is a `workspace` with its `arena` and `values`. Two doors
lead in: `exchange` for Python's values, `desk` for bytes (desk_state, request_bytes, answer_bytes, wire, names).
`segmenting` asks conditions and numbers of all customers.
"""
