"""The data plane: gRPC over HTTP/2 from the bytes that arrive to the bytes that leave, in compiled code without the GIL.

``words`` reads and writes what gRPC says in headers; ``tls`` is OpenSSL; ``connection`` is one HTTP/2 connection over
libnghttp2; ``loop`` is one native thread with its epoll; ``plane`` starts, drains and ends them all, and hands to Python
what Python has to answer; ``handoff`` answers that.
"""
