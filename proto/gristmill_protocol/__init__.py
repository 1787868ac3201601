"""What every part of Gristmill agrees on: money, ids, jobs, signatures, digests and the node stream. Imports no other part."""
