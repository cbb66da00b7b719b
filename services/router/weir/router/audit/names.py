"""The names that logs have for things, most telling first, all in lower case without separators of words."""

from __future__ import annotations

from typing import Any

# Where an export keeps its rows.
LISTS = ("data", "rows", "logs", "requests", "observations", "traces", "items", "generations", "results")
# Where a row keeps what was sent and what came back.
REQUESTS = (
    "request", "requestbody", "body", "proxyserverrequest", "rawrequest", "kwargs", "input", "data", "json",
)  # fmt: skip
RESPONSES = ("response", "responsebody", "rawresponse", "output", "result", "body", "message")
PROMPTS = (
    "messages", "prompt", "turns", "conversation", "conversations", "contents", "input", "question", "query",
    "usermessage", "userprompt", "instruction", "request", "text", "content",
)  # fmt: skip
ANSWERS = (
    "response", "completion", "answer", "output", "outputtext", "generatedtext", "assistantmessage", "reply",
    "stronganswer", "choices", "candidates", "content",
)  # fmt: skip
MODELS = (
    "model", "modelname", "modelid", "requestmodel", "responsemodel", "modelgroup", "modelversion",
    "deployment", "engine",
)  # fmt: skip
USAGES = ("usage", "usagedetails", "usagemetadata", "tokenusage", "tokens")
INPUT_TOKENS = (
    "prompttokens", "inputtokens", "prompttokencount", "inputtokencount", "requesttokens",
)  # fmt: skip
OUTPUT_TOKENS = (
    "completiontokens", "outputtokens", "candidatestokencount", "outputtokencount", "responsetokens",
)  # fmt: skip
# Only within an account of usage: elsewhere they name texts.
BARE_INPUT = ("input", "prompt")
BARE_OUTPUT = ("output", "completion")
CACHED_TOKENS = ("cachedtokens", "cachedcontenttokencount", "inputcachedtokens")
# Reported beside the input tokens, not among them.
CACHE_READ_TOKENS = ("cachereadinputtokens",)
TOKEN_DETAILS = ("prompttokensdetails", "inputtokensdetails")
COSTS = (
    "cost", "costusd", "spend", "responsecost", "totalcost", "calculatedtotalcost", "totalcostusd", "usdcost",
)  # fmt: skip
COST_DETAILS = ("costdetails",)
CACHE_HITS = ("cachehit", "cached", "fromcache")
TIMES = (
    "createdat", "timestamp", "starttime", "requestcreatedat", "requesttime", "time", "datetime", "date",
    "ts", "created",
)  # fmt: skip
LIMITS = ("maxcompletiontokens", "maxtokens", "maxoutputtokens", "maxtokenstosample")
# Columns by which a table is known to hold prompts.
TABLE_PROMPTS = frozenset(
    {
        "prompt", "prompts", "messages", "input", "question", "query", "user_message", "user_prompt",
        "request", "request_body", "instruction", "text", "conversation",
    }
)  # fmt: skip

_KINDS = {list: "list", str: "string", bool: "truth value", int: "number", float: "number"}


def normal(name: str) -> str:
    """Return a key as it is compared: ``promptTokens`` and ``prompt_tokens`` are the same."""
    return name.replace("_", "").replace("-", "").replace(" ", "").replace(".", "").lower()


def kind_of(value: Any) -> str:
    """Name the kind of a JSON value."""
    return _KINDS.get(type(value), "null")
