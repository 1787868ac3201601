"""A job's life, one file per stage: intake, matching, dispatch, metering, audit, settlement. Stages never call stages."""
