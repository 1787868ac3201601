"""The rules, as pure functions: no clock, no I/O, no await."""
