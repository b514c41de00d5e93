"""Answers kept for idempotency keys: whoever claims a key first answers, everybody else gets that answer."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, select

from sestet.store.database import Database, StoreError
from sestet.store.tables import idempotency


@dataclass(frozen=True, slots=True)
class Claim:
    """`request_digest` tells whether it is the same request that comes again."""

    workspace_id: str
    key: str
    request_digest: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`claimed`: nobody has answered, and the claim is now this request's. `running`: another one has it.
    `different`: the key was used for another request. `kept`: here is the answer."""

    outcome: Literal["claimed", "running", "different", "kept"]
    status: int = 0
    body: bytes = b""


class Answers:
    """Every method blocks."""

    def __init__(self, database: Database, server_id: str) -> None:
        self._database = database
        self._server_id = server_id
        self._unreleased: set[Claim] = set()

    def claim(self, claim: Claim, now: int) -> Answer:
        added = None
        try:
            with self._database.plainly(), self._database.writing() as connection:
                statement = self._database.insert(idempotency).values(
                    workspace_id=claim.workspace_id,
                    key=claim.key,
                    request_digest=claim.request_digest,
                    request_id=claim.request_id,
                    server_id=self._server_id,
                    created_at=now,
                )
                added = connection.execute(statement.on_conflict_do_nothing().returning(idempotency.c.key)).first()
                if added is not None:
                    return Answer("claimed")
                known = connection.execute(
                    select(idempotency).where(
                        idempotency.c.workspace_id == claim.workspace_id, idempotency.c.key == claim.key
                    )
                ).one_or_none()
        except StoreError:
            if added is not None:  # it may be committed all the same
                self._unreleased.add(claim)
            raise
        if known is None:  # released at this very moment
            return Answer("running")
        if known.request_digest != claim.request_digest:
            return Answer("different")
        if known.body is None:
            return Answer("running")
        return Answer("kept", known.status, bytes(known.body))

    def release(self, claim: Claim) -> None:
        """For a request that came to no answer: whoever asks again is answered anew. What the database does not take is
        left to `release_again`."""
        self._unreleased.add(claim)
        with self._database.plainly(), self._database.writing() as connection:
            connection.execute(
                delete(idempotency).where(
                    idempotency.c.workspace_id == claim.workspace_id,
                    idempotency.c.key == claim.key,
                    idempotency.c.request_id == claim.request_id,
                    idempotency.c.body.is_(None),
                )
            )
        self._unreleased.discard(claim)

    def release_again(self) -> None:
        """Gives up what the database did not take, or took without saying so."""
        for claim in list(self._unreleased):
            self.release(claim)
