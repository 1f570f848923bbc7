"""Backends: what turns a program into attention. Each is found by its entry point, see `base`."""
