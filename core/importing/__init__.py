"""From a file's bytes to mutations of the hub, in a process that may be another than the store's.

mapping           which column becomes what: read from YAML, every problem with its place
files             what a file is by its content, unpacked, and as UTF-8
table, parquet    rows split into spans of cells, or taken over from Arrow's columns
column            cells become values: numerals, times and localtime read them, words knows labels and what means missing
importer          all of it, block by block; good rows leave as mutations, bad ones with line and reason
rehearsal         what an import would do, and nothing written
"""
