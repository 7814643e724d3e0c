"""The answers of `/v1/responses`, which are remembered by id.

Owns their JSON and events. May not live here: the other text endpoints (`shapes`).
"""

from __future__ import annotations

from typing import Any

from enginehouse.sim.asks import Work
from enginehouse.sim.shapes import Counted, Shape, dump, event
from enginehouse.sim.state import Sim


class Responses(Shape):
    """`/v1/responses`."""

    def __init__(self, sim: Sim, work: Work) -> None:
        self.id = sim.new_id("resp_")
        self.item = sim.new_id("msg_")
        super().__init__(sim, work)
        self._number = 0

    def _place(self) -> dict[str, Any]:
        return {"item_id": self.item, "output_index": 0, "content_index": 0}

    def frame(self) -> bytes:
        kind = "response.output_text.delta"
        return event({"type": kind, **self._place(), "delta": "@@", "logprobs": [], "sequence_number": -1}, kind)

    def delta(self, word: bytes) -> bytes:
        self._number += 1
        return super().delta(word).replace(b'"sequence_number":-1', b'"sequence_number":%d' % self._number)

    def _event(self, kind: str, **fields: object) -> bytes:
        self._number += 1
        return event({"type": kind, **fields, "sequence_number": self._number}, kind)

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.item, "type": "message", "role": "assistant", "status": status, "content": content}

    def _response(self, status: str, output: list[dict[str, Any]], counted: Counted | None) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "model": self.work.model,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None,
            "metadata": {"engine": self.sim.name},
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": counted and counted.openai_responses(),
        }

    def opening(self, counted: Counted) -> list[bytes]:
        running = self._response("in_progress", [], None)
        return [
            self._event("response.created", response=running),
            self._event("response.in_progress", response=running),
            self._event("response.output_item.added", output_index=0, item=self._message("in_progress", [])),
            self._event("response.content_part.added", **self._place(), part=self._part("")),
        ]

    def closing(self, text: str, counted: Counted) -> list[bytes]:
        final = self._final(text, counted)
        return [
            self._event("response.output_text.done", **self._place(), text=text, logprobs=[]),
            self._event("response.content_part.done", **self._place(), part=self._part(text)),
            self._event("response.output_item.done", output_index=0, item=final["output"][0]),
            self._event(f"response.{final['status']}", response=final),
        ]

    def whole(self, text: str, counted: Counted) -> bytes:
        return dump(self._final(text, counted))

    def _final(self, text: str, counted: Counted) -> dict[str, Any]:
        status = "incomplete" if counted.reason == "length" else "completed"
        final = self._response(status, [self._message(status, [self._part(text)])], counted)
        self.sim.remember(self.id, dump(final))
        return final
