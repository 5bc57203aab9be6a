"""Load tests over the wire, benchmarks in process, and what real data comes to; README.md says which file does what."""
