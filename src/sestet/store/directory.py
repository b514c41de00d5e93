"""The organisation, its workspaces and keys, as the store keeps them. Every change raises the generation that running
servers watch, in the same transaction."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from sestet.gate.directory import (
    Allowance,
    Directory,
    Key,
    KeyStatus,
    Period,
    RateKind,
    Scope,
    Workspace,
)
from sestet.store.database import Database
from sestet.store.tables import api_keys, organization, rate_limits, spend_limits, workspaces

ORGANIZATION: Final = ""  # as the workspace of a limit


class NameTaken(ValueError):
    """There is a workspace of that name already."""


class Directories:
    """Reads and changes the directory. Every method blocks, for as long as the database takes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def generation(self) -> int:
        with self._database.plainly(), self._database.reading() as connection:
            return int(connection.execute(select(organization.c.generation)).scalar_one())

    def read(self) -> Directory:
        """All of it, as of one moment."""
        with self._database.plainly(), self._database.reading() as connection:
            own = connection.execute(select(organization)).one()
            allowances = _allowances(connection)
            return Directory(
                generation=own.generation,
                organization_id=own.id,
                organization_name=own.name,
                allowance=allowances.get(ORGANIZATION, Allowance()),
                workspaces={
                    row.id: _workspace(row, allowances.get(row.id, Allowance()))
                    for row in connection.execute(select(workspaces).order_by(workspaces.c.created_at, workspaces.c.id))
                },
                keys=tuple(
                    _key(row)
                    for row in connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))
                ),
            )

    def add_key(self, key: Key) -> None:
        with self._changing() as connection:
            connection.execute(insert(api_keys).values(**_key_row(key)))

    def replace_key(self, key_id: str, expires_at: int, by: Key) -> None:
        """Adds a key, and lets another one live until then."""
        with self._changing() as connection:
            connection.execute(insert(api_keys).values(**_key_row(by)))
            connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(expires_at=expires_at))

    def change_key(self, key_id: str, changes: Mapping[str, str]) -> None:
        """`changes` are columns among name and status. An archived key stays as it is."""
        assert changes.keys() <= {"name", "status"}, "nothing else of a key may change"
        with self._changing() as connection:
            alive = (api_keys.c.id == key_id) & (api_keys.c.status != "archived")
            connection.execute(update(api_keys).where(alive).values(**changes))

    def add_workspace(self, workspace: Workspace) -> None:
        """`NameTaken` if it is."""
        with self._changing() as connection:
            connection.execute(
                insert(workspaces).values(
                    id=workspace.id,
                    name=workspace.name,
                    created_at=workspace.created_at,
                    display_color=workspace.display_color,
                    tags=json.dumps(dict(workspace.tags)),
                    concurrency=workspace.concurrency,
                    priority_input_tokens_per_minute=workspace.priority_input_tokens,
                    priority_output_tokens_per_minute=workspace.priority_output_tokens,
                )
            )

    def change_workspace(self, workspace_id: str, changes: Mapping[str, Any]) -> None:
        """`changes` are columns of a workspace, `tags` among them as a mapping."""
        assert changes.keys() <= _WORKSPACE_COLUMNS, "nothing else of a workspace may change"
        values = {name: json.dumps(value) if name == "tags" else value for name, value in changes.items()}
        with self._changing() as connection:
            connection.execute(update(workspaces).where(workspaces.c.id == workspace_id).values(**values))

    def archive_workspace(self, workspace_id: str, now: int) -> None:
        """And its keys with it."""
        with self._changing() as connection:
            connection.execute(update(workspaces).where(workspaces.c.id == workspace_id).values(archived_at=now))
            connection.execute(
                update(api_keys).where(api_keys.c.workspace_id == workspace_id).values(status="archived")
            )

    def set_rates(self, workspace_id: str | None, model_class: str, values: Mapping[RateKind, int | None]) -> None:
        """None takes a limit away; without a workspace they are the organisation's."""
        place = workspace_id or ORGANIZATION
        with self._changing() as connection:
            for kind, value in values.items():
                connection.execute(
                    delete(rate_limits).where(
                        rate_limits.c.workspace_id == place,
                        rate_limits.c.model_class == model_class,
                        rate_limits.c.kind == kind,
                    )
                )
                if value is not None:
                    connection.execute(
                        insert(rate_limits).values(workspace_id=place, model_class=model_class, kind=kind, value=value)
                    )

    def set_spend(self, identifier: str, workspace_id: str | None, period: Period, amount: int | None, now: int) -> str:
        """In micro-dollars; None takes the limit away. The limit's id, which is `identifier` if it is new."""
        here = spend_limits.c.workspace_id.is_not_distinct_from(workspace_id) & (spend_limits.c.period == period)
        with self._changing() as connection:
            known = connection.execute(select(spend_limits.c.id).where(here)).scalar_one_or_none()
            if amount is None:
                connection.execute(delete(spend_limits).where(here))
            elif known is not None:
                connection.execute(update(spend_limits).where(here).values(amount=amount, updated_at=now))
            else:
                connection.execute(
                    insert(spend_limits).values(
                        id=identifier,
                        workspace_id=workspace_id,
                        period=period,
                        amount=amount,
                        created_at=now,
                        updated_at=now,
                    )
                )
            return known or identifier

    def spend_limits(self) -> list[Row[Any]]:
        """`id, workspace_id, period, amount, created_at, updated_at` of each, oldest first."""
        with self._database.plainly(), self._database.reading() as connection:
            rows = connection.execute(select(spend_limits).order_by(spend_limits.c.created_at, spend_limits.c.id))
            return list(rows.all())

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        with self._database.plainly():
            try:
                with self._database.writing() as connection:
                    connection.execute(update(organization).values(generation=organization.c.generation + 1))
                    yield connection
            except IntegrityError as error:
                if "name" in str(error.orig):
                    raise NameTaken from None
                raise


_WORKSPACE_COLUMNS: Final = frozenset(
    {
        "name",
        "display_color",
        "tags",
        "concurrency",
        "priority_input_tokens_per_minute",
        "priority_output_tokens_per_minute",
    }
)


def _allowances(connection: Connection) -> dict[str, Allowance]:
    rates: dict[str, dict[str, dict[RateKind, int]]] = {}
    for row in connection.execute(select(rate_limits)):
        rates.setdefault(row.workspace_id, {}).setdefault(row.model_class, {})[cast(RateKind, row.kind)] = row.value
    spend: dict[str, dict[Period, int]] = {}
    for row in connection.execute(select(spend_limits)):
        spend.setdefault(row.workspace_id or ORGANIZATION, {})[cast(Period, row.period)] = row.amount
    return {place: Allowance(rates.get(place, {}), spend.get(place, {})) for place in rates.keys() | spend.keys()}


def _workspace(row: Row[Any], allowance: Allowance) -> Workspace:
    return Workspace(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        allowance=allowance,
        concurrency=row.concurrency,
        priority_input_tokens=row.priority_input_tokens_per_minute,
        priority_output_tokens=row.priority_output_tokens_per_minute,
        archived_at=row.archived_at,
        display_color=row.display_color,
        tags=json.loads(row.tags),
    )


def _key_row(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "digest": key.digest.hex(),
        "hint": key.hint,
        "workspace_id": key.workspace_id,
        "scopes": " ".join(sorted(key.scopes)),
        "models": None if key.models is None else json.dumps(sorted(key.models)),
        "status": key.status,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
    }


def _key(row: Row[Any]) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        digest=bytes.fromhex(row.digest),
        hint=row.hint,
        workspace_id=row.workspace_id,
        scopes=frozenset(cast(list[Scope], row.scopes.split())),
        models=None if row.models is None else frozenset(json.loads(row.models)),
        status=cast(KeyStatus, row.status),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
    )
