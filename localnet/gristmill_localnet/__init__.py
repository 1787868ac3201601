"""The whole market on one machine: EVM node, coordinator, providers. For demos, tests, examples and benchmarks."""
