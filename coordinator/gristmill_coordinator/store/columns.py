"""Columns as all our tables have them, and the metadata that all tables are in."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, MetaData, String

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def key(name: str) -> Column[Any]:
    return Column(name, String, primary_key=True)


def text(name: str, default: str | None = None) -> Column[Any]:
    return Column(name, String, nullable=False, default=default)


def maybe_text(name: str) -> Column[Any]:
    return Column(name, String)


def integer(name: str, default: int | None = None) -> Column[Any]:
    return Column(name, BigInteger, nullable=False, default=default)


def maybe_integer(name: str) -> Column[Any]:
    return Column(name, BigInteger)


def number(name: str) -> Column[Any]:
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


def time(name: str, default: float | None = 0.0) -> Column[Any]:
    return Column(name, Float(53), nullable=False, default=default)


def flag(name: str) -> Column[Any]:
    return Column(name, Boolean, nullable=False, default=False)


def json(name: str) -> Column[Any]:
    return Column(name, JSON(none_as_null=True), nullable=False)


def maybe_json(name: str) -> Column[Any]:
    return Column(name, JSON(none_as_null=True))


def claim() -> tuple[Column[Any], Column[Any]]:
    return Column("lock_token", String), time("due_s")
