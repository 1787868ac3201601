"""Generated from provider.proto by `make proto`; do not edit."""
