"""The brain's network as text; examples/networks/grapheme.nl is the same (a test compares them)."""

from __future__ import annotations

NETWORK = """\
// The brain of the GRAPHEME seed: reads an expression graph as tokens in prefix order, writes graphs up to the answer.

NETWORK grapheme
BEGIN
  LET vocab = 127;
  LET width = 128;
  LET layers = 4;
  LET heads = 4;
  LET hidden = 352;
  LAYER INPUT name=tokens shape=(SEQ) dtype=int32
  LAYER EMBEDDING name=embed vocab=vocab size=width
  REPEAT layers AS block
  BEGIN
    RESIDUAL
    BEGIN
      LAYER RMSNORM name=attention_norm eps=0.00001
      LAYER ATTENTION name=attention heads=heads rope=10000
    END
    RESIDUAL
    BEGIN
      LAYER RMSNORM name=ffn_norm eps=0.00001
      LAYER FFN name=ffn hidden=hidden
    END
  END
  LAYER RMSNORM name=norm eps=0.00001
  LAYER OUTPUT name=logits size=vocab bias=FALSE
  CONNECT tokens -> embed -> block -> norm -> logits
END
"""
