"""Idempotency keys: the same request sent again with its key is answered once and billed once (RELIABILITY.md R07)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from sestet.contract.errors import ApiError, invalid
from sestet.services.messages import Keep
from sestet.store.answers import Answer, Answers, Claim
from sestet.store.database import StoreError
from sestet.turn.fold import Message

KEY_CHARACTERS_MAX: Final = 255


class Idempotency:
    def __init__(self, answers: Answers, now_us: Callable[[], int]) -> None:
        self._answers = answers
        self._now_us = now_us

    @asynccontextmanager
    async def claimed(self, claim: Claim, encode: Callable[[Message], bytes]) -> AsyncIterator[Answer | Keep]:
        """The answer that was kept, or how to keep it: then the body answers, and if it fails without having handed in
        an answer with its bill, whoever asks again is answered anew. 409 while another one answers, 400 if the key was
        used for something else."""
        if not claim.key or len(claim.key) > KEY_CHARACTERS_MAX:
            raise invalid(f"it takes 1 to {KEY_CHARACTERS_MAX} characters", "idempotency-key")
        try:
            answer = await asyncio.to_thread(self._answers.claim, claim, self._now_us())
        except StoreError:
            raise ApiError(
                "overloaded_error", "idempotency keys cannot be kept at the moment", retry_after_s=1.0
            ) from None
        match answer.outcome:
            case "running":
                raise ApiError(
                    "conflict_error", "a request with this idempotency-key is being answered", retry_after_s=1.0
                )
            case "different":
                raise invalid("this key was used for a different request", "idempotency-key")
            case "kept":
                yield answer
            case "claimed":
                keep = Keep(claim.key, encode)
                try:
                    yield keep
                except BaseException:
                    if not keep.handed_in:
                        # Shielded: a client that left must not leave its claim behind.
                        await asyncio.shield(asyncio.to_thread(self._release, claim))
                    raise

    def _release(self, claim: Claim) -> None:
        with suppress(StoreError):  # the next heartbeat tries again
            self._answers.release(claim)
