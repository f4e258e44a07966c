"""How a request ends that gets no result: a status, and one sentence that says why."""

import json


class Refusal(Exception):
    """A request that gets no result; ``sentence`` says why and what to do."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None):
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers or {}


def body(sentence: str) -> bytes:
    """The JSON of every error."""
    return json.dumps({'error': sentence}, ensure_ascii=False).encode()
