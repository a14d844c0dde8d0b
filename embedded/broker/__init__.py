"""The broker as a process: its command line (`python -m embedded.broker`) and its connections.

Before: a command line. After: `handlers`, which answer each request.
"""
