"""What every part agrees on: money, ids, jobs, signatures, digests and the node stream. Imports no other part."""
