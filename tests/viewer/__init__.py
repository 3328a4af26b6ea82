"""The embedded backend: the command itself as a subprocess, with real senders."""
