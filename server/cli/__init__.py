"""The command line ``rapport``, a file a group of commands; `main` is the door, `client` speaks to a server, `exits` ends it."""
