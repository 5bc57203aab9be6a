"""Types of the clients and servers of protos/rapport/v1/values.proto. Written by protos.generate; do not edit."""
