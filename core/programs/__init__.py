"""From a program's sources to tables: YAML is read with its places, checked, and compiled for the kernel to bind.

document, reading, collecting, quantity   YAML with every problem's file, line and column
source                                    all files of a program: schema_source, offer_source, aggregate_source, policy, template
checker, definitions, program             what was read, checked by the types of its expressions: a `Program`
plan, tables, model_binding               the `Tables` that the kernel binds
image, kept_tables                        both kept as bytes, so that a restart neither parses nor compiles
"""
