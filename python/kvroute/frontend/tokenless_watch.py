"""Whether a model's texts and chats are routed without their tokens, and so by load alone."""

from __future__ import annotations

import logging

from kvroute.frontend.cache_watch import LEAST, PairWindow

logger = logging.getLogger("kvroute.frontend")


class TokenlessWatch:
    """Warns once where of the last 32 to 64 texts and chats more than half had no tokens, and
    again only after less than a quarter had none."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._window = PairWindow()
        self._warned = False

    def note(self, known: bool) -> None:
        """Takes a text or chat whose tokens were asked for."""
        window = self._window
        window.add(1, not known)
        if len(window) < LEAST:
            return
        if not self._warned and 2 * window.second > window.first:
            self._warned = True
            logger.warning(
                "model %s: of the last %d texts and chats %d could not be tokenized and went where "
                "the load was least, whatever the caches hold. Look at: --tokenizer; the engines' "
                "/tokenize, which is asked otherwise (SGLang and TensorRT-LLM may have none); "
                "--tokenize-timeout-seconds; --log-level debug, which tells each failure",
                self._model,
                window.first,
                window.second,
            )
        elif self._warned and 4 * window.second < window.first:
            self._warned = False
            logger.info("model %s: texts and chats are tokenized again", self._model)
