"""Ask an OpenAI-compatible server: many questions at once, patiently, and trusting it with nothing but the question.

A try that times out, is cut off, or meets 408, 425, 429 or 5xx is made again, later and later, as long as the server
asks for in Retry-After; a server that stays down is a TransientError. Any other refusal is the settings' fault. No
redirect is followed, because the key would go along; answers are read up to a limit; no proxy or password file of the
environment is used. The key is sent in the header only, and blotted out where a server repeats it. Where others are
answered and one question is refused with 400, 413 or 422, its picture is meant: the answer is empty, which is no grade.
"""

import asyncio
import base64
import email.utils
import io
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import PIL.Image

from filters._vlm_questions import MAX_TOKENS, SEED, SYSTEM, Note, Question, no_note
from storage.errors import SettingsError, TransientError
from storage.records import Image

MAX_BYTES = 1 << 20  # of an answer; 32 tokens need a few hundred
RETRIED = frozenset({408, 425, 429})
OF_THE_PICTURE = frozenset({400, 413, 422})  # where the server answers others


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a question is asked, and the seconds between: first, doubled each time, never more than longest."""

    tries: int = 6
    first: float = 1.0
    longest: float = 60.0

    def delay(self, tried: int, wanted: float | None) -> float:
        """Return the seconds to wait after `tried` tries; wanted: what the server asked for."""
        own = self.first * 2.0 ** (tried - 1)
        return min(self.longest, max(own, wanted or 0.0))


class _Failed(Exception):  # noqa: N818  (it carries a failed try to the place that decides about another)
    def __init__(self, what: str, wanted: float | None = None) -> None:
        self.what, self.wanted = what, wanted


class _Refused(Exception):  # noqa: N818  (it may be the picture's fault or that of the settings)
    pass


class Server:
    """An `Ask` that speaks to the server at `url`."""

    def __init__(
        self,
        *,
        url: str,
        model: str,
        key: str = "",
        concurrency: int = 16,
        timeout: float = 120.0,
        patience: Patience | None = None,
    ) -> None:
        self._url = f"{checked(url)}/chat/completions"
        self._model, self._key, self._concurrency, self._timeout = model, key, concurrency, timeout
        self._patience = patience or Patience()
        self._answers = False  # whether it ever answered a question
        self._trust = ssl.create_default_context() if url.startswith("https") else True  # 20 ms: once

    def __call__(self, questions: Sequence[Question], note: Note = no_note) -> list[str]:
        """Return one text for each question, in order; see `filters._vlm_questions.Ask`."""
        return asyncio.run(self._all(questions, note))

    async def _all(self, questions: Sequence[Question], note: Note) -> list[str]:
        limits = httpx.Limits(max_connections=self._concurrency)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        room = asyncio.Semaphore(self._concurrency)
        async with httpx.AsyncClient(
            verify=self._trust,
            trust_env=False,
            limits=limits,
            headers=headers,
            timeout=self._timeout,
            follow_redirects=False,
        ) as client:

            async def one(number: int, question: Question) -> str | _Refused:
                try:
                    async with room:
                        answer = await self._patiently(client, question)
                except _Refused as refusal:
                    return refusal
                self._answers = True
                note(number, answer)
                return answer

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(number, item)) for number, item in enumerate(questions)]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from failures
        return [self._told(number, task.result(), note) for number, task in enumerate(tasks)]

    def _told(self, number: int, answer: str | _Refused, note: Note) -> str:
        if isinstance(answer, str):
            return answer
        if not self._answers:
            raise SettingsError(str(answer)) from answer
        note(number, "")
        return ""

    async def _patiently(self, client: httpx.AsyncClient, question: Question) -> str:
        body = json.dumps(request(self._model, question)).encode()
        for tried in range(1, self._patience.tries + 1):
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._try(client, body)
            except TimeoutError:
                failure = _Failed(f"did not answer within {self._timeout:g} s")
            except httpx.HTTPError as error:
                failure = _Failed(f"cannot be reached or broke off ({type(error).__name__})")
            except _Failed as error:
                failure = error
            if tried < self._patience.tries:
                await asyncio.sleep(self._patience.delay(tried, failure.wanted))
        raise TransientError(f"{self._url} {failure.what}, {self._patience.tries} times; start it or set another url")

    async def _try(self, client: httpx.AsyncClient, body: bytes) -> str:
        sent = {"Content-Type": "application/json"}
        async with client.stream("POST", self._url, content=body, headers=sent) as response:
            data = await _read(response)
        status = response.status_code
        if response.is_redirect:
            place = urlsplit(response.headers.get("Location", ""))
            raise SettingsError(
                f"{self._url} sends us on to {place.hostname or 'another path'}, which is not followed; "
                "set url to where the server really is"
            )
        if status in RETRIED or status >= 500:
            raise _Failed(f"answered {status}", _retry_after(response.headers))
        if status != 200:
            refusal = f"{self._url} refused the question with {status}: {self._words(data)}"
            raise _Refused(refusal) if status in OF_THE_PICTURE else SettingsError(refusal)
        return answer_in(data)

    def _words(self, data: bytes) -> str:
        text = " ".join(data[:1000].decode(errors="replace").split())
        return (text.replace(self._key, "***") if self._key else text)[:200] or "it says no more"


def checked(url: str) -> str:
    """Return `url` without its last slash; raises SettingsError unless it is http(s), a host and a path, no more."""
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        named = False
    if not named:
        raise SettingsError(f"url must be that of a server, such as http://127.0.0.1:8000/v1, got {url[:80]!r}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError("url must hold a host and a path only; a key goes into the variable that api_key_env names")
    return url.rstrip("/")


def request(model: str, question: Question) -> dict[str, Any]:
    """Return the body of a chat completion: greedy, short, with the pictures as PNG before the prompt."""
    pictures = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in question.images]
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": [*pictures, {"type": "text", "text": question.prompt}]},
        ],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
        "seed": SEED,
        "stream": False,
    }


def answer_in(data: bytes) -> str:
    """Return the text of a chat completion; empty when the model said nothing.

    Raises a failure that is tried again when `data` is no whole completion: it may have been cut off.
    """
    try:
        content = json.loads(data)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise _Failed("answered with what is no whole chat completion") from error
    return content if isinstance(content, str) else ""


async def _read(response: httpx.Response) -> bytes:
    data = b""
    async for part in response.aiter_bytes():
        data += part
        if len(data) > MAX_BYTES:
            raise _Failed(f"answered with more than {MAX_BYTES} bytes")
    return data


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that Retry-After asks for, which may be a number or a date (RFC 9110 section 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _data_url(image: Image) -> str:
    stream = io.BytesIO()
    PIL.Image.fromarray(image).save(stream, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
