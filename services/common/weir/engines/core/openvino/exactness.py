"""Whether a compiled model's logits depend on nothing but the tokens: what lossless verification rests on."""

from __future__ import annotations

import numpy as np

from weir.engines.core.openvino.kv_pool import Sequence as KvSequence
from weir.engines.core.openvino.paged_model import Feed, Logits, PagedModel, reserve

# More than a block of the cache.
_TOKENS = 40
# How the same tokens are cut into passes; the last is the way of plain decoding.
_CUTS = ((_TOKENS,), (4,) * 10, (5, 7, 9, 16, 3), (2, 3) * 8, (32, *(1,) * 8))


def spread(model: PagedModel) -> float:
    """Return by how much logits differ at most between ways of feeding the same tokens; 0 is bit for bit.

    Once more they are fed beside another sequence that decodes one token a pass, as a drafter's would.
    """
    ids = [17 + 31 * index for index in range(_TOKENS)]
    whole = _fed(model, ids, _CUTS[0])
    others = [_fed(model, ids, cut) for cut in _CUTS[1:]] + [_fed(model, ids, _CUTS[2], company=True)]
    return max(float(np.abs(whole - other).max()) for other in others)


def _fed(model: PagedModel, ids: list[int], cut: tuple[int, ...], *, company: bool = False) -> Logits:
    sequence, beside = model.sequence(), model.sequence()
    found: list[Logits] = []
    at = 0
    for count in cut:
        feeds = [_feed(sequence, ids[at : at + count], exact=True)]
        if company:
            feeds.append(_feed(beside, ids[at : at + 1], exact=False))
        found.append(model.forward(feeds).logits[0].copy())
        at += count
    sequence.close()
    beside.close()
    return np.concatenate(found)


def _feed(sequence: KvSequence, ids: list[int], *, exact: bool) -> Feed:
    feed = Feed(sequence, ids, range(len(ids)), exact)
    reserve(feed)
    return feed
