"""The broker as a process: its command line (`python -m embedded.broker`) and its connections."""
