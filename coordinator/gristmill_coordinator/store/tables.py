"""The tables. Times are unix seconds (float), money is micro-USD, JSON columns hold what pydantic dumps."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, UniqueConstraint

metadata = MetaData()


