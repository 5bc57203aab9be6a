"""The gRPC services, a file each: convert in, call the core, convert out. `calls` is what all share, `streams` what feeds and
imports do; `items` and `blocks` are the messages of the two."""
