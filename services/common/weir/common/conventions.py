"""The one table of telemetry names: OpenTelemetry GenAI semantic conventions v1.41.0 and Weir's own."""

from typing import Final

# RPC spans.
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"
SERVER_ADDRESS: Final = "server.address"
ERROR_TYPE: Final = "error.type"

# GenAI attributes.
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
MAX_TOKENS: Final = "gen_ai.request.max_tokens"
TEMPERATURE: Final = "gen_ai.request.temperature"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
CACHED_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TOKEN_TYPE: Final = "gen_ai.token.type"

# GenAI metrics, all histograms.
CLIENT_TOKEN_USAGE: Final = "gen_ai.client.token.usage"
CLIENT_DURATION: Final = "gen_ai.client.operation.duration"
CLIENT_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
CLIENT_PER_CHUNK: Final = "gen_ai.client.operation.time_per_output_chunk"
SERVER_DURATION: Final = "gen_ai.server.request.duration"
SERVER_FIRST_TOKEN: Final = "gen_ai.server.time_to_first_token"
SERVER_PER_TOKEN: Final = "gen_ai.server.time_per_output_token"
RPC_SERVER_DURATION: Final = "rpc.server.call.duration"

# Weir's own attributes.
REQUEST_ID: Final = "weir.request.id"
TENANT: Final = "weir.tenant"
TIER: Final = "weir.tier"
MODEL: Final = "weir.model"
DECISION_ID: Final = "weir.decision.id"
COMPLEXITY: Final = "weir.complexity"
COMPLEXITY_THRESHOLD: Final = "weir.complexity_threshold"
CONFIDENCE: Final = "weir.confidence"
REASONS: Final = "weir.reasons"
EXCLUSIONS: Final = "weir.exclusions"
COST_USD: Final = "weir.cost.usd"
FRONTIER_COST_USD: Final = "weir.frontier_cost.usd"
STAND_IN: Final = "weir.stand_in"
RATE_SCOPE: Final = "weir.rate_limit.scope"
REPLAY: Final = "weir.replay"
FROM_TIER: Final = "weir.handoff.from"
TO_TIER: Final = "weir.handoff.to"
ROUNDS: Final = "weir.verify.rounds"
DRAFTED: Final = "weir.verify.drafted_tokens"
ACCEPTED: Final = "weir.verify.accepted_tokens"
PASSES: Final = "weir.verify.passes"
LEVEL: Final = "weir.verify.level"
TOKENS_BY_SOURCE: Final = "weir.verify.tokens_by_source"  # of draft, verifier, frontier
JUDGED_BY_POSITION: Final = "weir.verify.judged_by_position"
ACCEPTED_BY_POSITION: Final = "weir.verify.accepted_by_position"
DRAFT_METHOD: Final = "weir.draft.method"
DRAFT_POSITION: Final = "weir.draft.position"
TOKEN_SOURCE: Final = "weir.token.source"
PART: Final = "weir.verify.part"
REASON: Final = "weir.reason"
OUTCOME: Final = "weir.outcome"  # of an attempt: stop, length, cancelled, or an error code
TOKEN_CLASS: Final = "weir.token.class"
REASONING_TOKENS: Final = "weir.usage.reasoning_tokens"
HEDGE: Final = "weir.hedge"  # sent, won
CAUSE: Final = "weir.circuit.cause"
CLASSIFIER_REVISION: Final = "weir.classifier.revision"

# A span event with up to 64 rounds of an answer, and its attributes, one entry a round.
ROUNDS_EVENT: Final = "verify.rounds"
ROUND_METHODS: Final = "weir.rounds.method"
ROUND_DRAFTED: Final = "weir.rounds.drafted"
ROUND_ACCEPTED: Final = "weir.rounds.accepted"
ROUND_PRODUCED: Final = "weir.rounds.produced"
ROUND_DRAFT_US: Final = "weir.rounds.draft_us"
ROUND_VERIFY_US: Final = "weir.rounds.verify_us"
ROUND_WAIT_US: Final = "weir.rounds.wait_us"

# Weir's own metrics.
IN_FLIGHT: Final = "weir.rpc.in_flight"
ENGINE_RUNNING: Final = "weir.engine.running"
ENGINE_WAITING: Final = "weir.engine.waiting"
ENGINE_KV_USED: Final = "weir.engine.kv_cache_used"
ENGINE_SESSIONS: Final = "weir.engine.sessions"
ENGINE_RESTARTS: Final = "weir.engine.restarts"
FRONTIER_ATTEMPTS: Final = "weir.frontier.attempts"
FRONTIER_COST: Final = "weir.frontier.cost"
FRONTIER_RATE_LIMIT: Final = "weir.frontier.rate_limit"
FRONTIER_RATE_LEFT: Final = "weir.frontier.rate_limit.remaining"
FRONTIER_TOKENS: Final = "weir.frontier.tokens"
FRONTIER_RETRIES: Final = "weir.frontier.retries"
FRONTIER_FALLBACKS: Final = "weir.frontier.fallbacks"
FRONTIER_SWITCHES: Final = "weir.frontier.switches"
FRONTIER_HEDGES: Final = "weir.frontier.hedges"
FRONTIER_HEDGE_COST: Final = "weir.frontier.hedge.cost"
FRONTIER_CIRCUIT: Final = "weir.frontier.circuit.state"
FRONTIER_CIRCUIT_OPENED: Final = "weir.frontier.circuit.opened"
VERIFY_ROUNDS: Final = "weir.verify.round.count"
VERIFY_DRAFTED: Final = "weir.verify.drafted"
VERIFY_ACCEPTED: Final = "weir.verify.accepted"
VERIFY_SHARE: Final = "weir.verify.acceptance_rate"
VERIFY_DRAFT_LENGTH: Final = "weir.verify.draft_length"
VERIFY_JUDGED_AT: Final = "weir.verify.position.judged"
VERIFY_ACCEPTED_AT: Final = "weir.verify.position.accepted"
VERIFY_PASSES: Final = "weir.verify.pass.count"
VERIFY_TOKENS: Final = "weir.verify.tokens"
VERIFY_SAVED: Final = "weir.verify.tokens_saved"
VERIFY_PART_DURATION: Final = "weir.verify.part.duration"
VERIFY_ESCALATIONS: Final = "weir.verify.escalations"
DRAFT_TOKENS: Final = "weir.draft.tokens"
DRAFT_DURATION: Final = "weir.draft.chunk.duration"
DRAFT_VOIDED: Final = "weir.draft.voided"
CONSTRAINT_VIOLATIONS: Final = "weir.constraint.violations"

# Bucket bounds, in seconds, that the conventions recommend for latencies.
LATENCY_BUCKETS_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96,
)  # fmt: skip
TOKEN_BUCKETS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)

# RPCs by which services, and the spend page, keep asking how things are: of little interest to people.
HOUSEKEEPING: Final = (
    "weir.v1.FrontierProxyService/GetSpend",
    "weir.v1.FrontierProxyService/ListModels",
    "weir.v1.SlmWorkerService/GetModelInfo",
    "weir.v1.SlmWorkerService/WatchLoad",
)
