"""The rules of a tokenizer that comes as a SentencePiece model (tokenizer.model), in tokenizers' form.

They are checked against the SentencePiece library itself, which is what such a model was trained with.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import SentencePieceProcessor
from sentencepiece import sentencepiece_model_pb2 as proto
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

SPACE = "▁"
Piece = proto.ModelProto.SentencePiece


def convert_sentencepiece(path: Path, settings: Mapping[str, Any], texts: Sequence[str]) -> Tokenizer:
    """Return the rules of a byte-pair SentencePiece model.

    `settings`, of tokenizer_config.json, say whether a beginning (by default yes) and an end (by default no)
    are put around texts. ValueError where any of `texts` has other ids than SentencePiece gives it.
    """
    try:
        model = proto.ModelProto.FromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"{path.name} is no SentencePiece model: {error}") from error
    pieces = [piece.piece for piece in model.pieces]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    unknown = next(piece.piece for piece in model.pieces if piece.type == Piece.UNKNOWN)
    tokenizer = Tokenizer(
        models.BPE(vocab, _merges(model, vocab), unk_token=unknown, byte_fallback=True, fuse_unk=True)
    )
    prefix = model.normalizer_spec.add_dummy_prefix
    steps = [normalizers.Replace(" ", SPACE)]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), *steps] if prefix else steps)
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    tokenizer.add_special_tokens(
        [
            AddedToken(piece.piece, special=True, normalized=False)
            for piece in model.pieces
            if piece.type in (Piece.UNKNOWN, Piece.CONTROL)
        ]
    )
    tokenizer.add_tokens(
        [
            AddedToken(piece.piece, normalized=False)
            for piece in model.pieces
            if piece.type == Piece.USER_DEFINED and SPACE not in piece.piece
        ]
    )
    library = SentencePieceProcessor(model_proto=model.SerializeToString())
    for text in texts:
        if tokenizer.encode(text).ids != library.encode(text):
            raise ValueError(f"{path.name} has rules beyond byte pairs: {text!r} is read otherwise")
    start = [library.bos_id()] if settings.get("add_bos_token", True) and library.bos_id() >= 0 else []
    end = [library.eos_id()] if settings.get("add_eos_token", False) and library.eos_id() >= 0 else []
    around = [(pieces[number], number) for number in (*start, *end)]
    if around:
        single = [*(pieces[number] for number in start), "$A", *(pieces[number] for number in end)]
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=around)
    return tokenizer


def _merges(model: Any, vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    """Every pair that makes a piece, the pieces with the highest score first."""
    kinds = (Piece.NORMAL, Piece.USER_DEFINED)
    scored = sorted((p for p in model.pieces if p.type in kinds), key=lambda piece: -piece.score)
    known = {piece.piece for piece in scored}
    return [
        (piece.piece[:cut], piece.piece[cut:])
        for piece in scored
        for cut in sorted(
            (
                cut
                for cut in range(1, len(piece.piece))
                if piece.piece[:cut] in known and piece.piece[cut:] in known
            ),
            key=partial(_ranks, vocab, piece.piece),
        )
    ]


def _ranks(vocab: Mapping[str, int], piece: str, cut: int) -> tuple[int, int]:
    """Ids of both parts of a piece that is cut behind `cut` letters."""
    return vocab[piece[:cut]], vocab[piece[cut:]]
