"""The coordinator's borders: HTTP for renters and artifacts, gRPC for providers' nodes."""
