"""A job's life, one file per stage. Stages never call stages: each leaves a row that the next one loads."""
