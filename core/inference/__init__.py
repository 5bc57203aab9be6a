"""ONNX models: found, described, tried in a child process, and run on threads of their own.

repository, package, description   what lies in a models folder, and what it says
validation, trial                  whether a file may run, found out where a crash harms nobody
registry                           what is live, and what takes its place
runner, pool, ort, tensor          the runs themselves
"""
