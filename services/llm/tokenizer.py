"""A tokenizer of the `tokenizers` library, read from tokenizer.json."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers

from services.runtime.errors import LoadFailed


class JsonTokenizer:
    """Tokens of a model whose tokenizer is in one tokenizer.json."""

    def __init__(self, path: Path) -> None:
        """Raises LoadFailed if `path` is no tokenizer."""
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more special
            raise LoadFailed(f"{path.name}: {error}") from error

    @property
    def special(self) -> Iterable[str]:
        return [token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special]

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def id(self, token: str) -> int:
        """Raises LoadFailed for a token that the model does not have."""
        if (found := self._tokenizer.token_to_id(token)) is None:
            raise LoadFailed(f"the tokenizer has no token {token!r}")
        return int(found)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokens' own names, as a vocabulary lists them."""
        return [str(self._tokenizer.id_to_token(id)) for id in ids]
