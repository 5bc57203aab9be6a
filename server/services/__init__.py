"""The gRPC services, a file each: convert in, call the core, convert out. `calls` is what all of them share."""
