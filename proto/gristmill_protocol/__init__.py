"""What every part of Gristmill agrees on: money, ids, jobs, signatures, digests, the node stream. Imports no other part."""
