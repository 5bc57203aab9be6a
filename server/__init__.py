"""The process around the core: settings, gRPC services, health, command line. `server.app` puts it together."""

import os

# grpc's native library writes lines of its own to standard error for what it also raises; ours say it better. Set before
# grpc is first imported, and only where the operator has not chosen.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
