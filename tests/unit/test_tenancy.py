"""What tenants may do and how much: configuration, rights, limits over a sliding minute."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from weir.common.config.tenancy import Tenancy
from weir.common.context import CallInfo
from weir.common.errors import ErrorCode, WeirError
from weir.common.errors.grpc import to_status
from weir.common.interceptors import Rpc
from weir.common.tenancy import limits as limits_module
from weir.common.tenancy.guard import TenantGuard
from weir.common.tenancy.limits import RateLimits
from weir.common.tenancy.rights import Rights, visible_tenant
from weir.common.tenancy.window import PERIOD_S, SlidingWindow

JWT = {"issuer": "https://issuer.example", "audience": "weir"}


class Clock:
    """Stands until it is set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def rights(**tenants: object) -> Rights:
    return Rights(Tenancy.model_validate({"tenants": tenants}))


@pytest.mark.parametrize(
    "config",
    [
        {"required": True},
        {"tenants": {"*": {}}},
        {"tenants": {"müller": {}}},
        {"tenants": {"x" * 129: {}}},
        {"tenants": {"": {"api_keys": [{"env": "KEY"}]}}},
        {"default": {"api_keys": [{"env": "KEY"}]}},
        {"tenants": {"acme": {"api_keys": [{"env": "KEY", "file": "key"}]}}},
        {"tenants": {"acme": {"api_keys": [{"sha256": "no hash"}]}}},
        {"tenants": {"acme": {"requests_per_minute": 0}}},
        {"jwt": JWT},
        {"jwt": {**JWT, "jwks_url": "https://issuer.example/keys", "jwks_file": "keys"}},
        {"jwt": {**JWT, "jwks_url": "http://issuer.example/keys"}},
        {"jwt": {**JWT, "jwks_url": "file:///etc/keys"}},
        {"jwt": {**JWT, "jwks_file": "keys", "algorithms": ["HS256"]}},
        {"jwt": {**JWT, "jwks_file": "keys", "algorithms": ["none"]}},
        {"jwt": {**JWT, "jwks_file": "keys", "algorithms": []}},
    ],
)
def test_a_configuration_that_lets_the_wrong_in_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Tenancy.model_validate(config)


def test_only_keys_and_tokens_make_calls_authenticate() -> None:
    assert not Tenancy.model_validate({"tenants": {"acme": {"models": ["a"]}}}).authenticates
    assert Tenancy.model_validate({"tenants": {"acme": {"api_keys": [{"env": "K"}]}}}).authenticates
    assert Tenancy.model_validate({"jwt": {**JWT, "jwks_url": "http://127.0.0.1:1/keys"}}).authenticates


def test_a_tenant_without_an_entry_has_the_defaults() -> None:
    config = {"tenants": {"acme": {"models": ["a"]}}, "default": {"models": ["b"], "residency": "redacted"}}
    found = Rights(Tenancy.model_validate(config))
    assert found.allowed_models("acme") == frozenset("a")
    assert found.allowed_models("other") == frozenset("b")
    assert found.residency("acme") is None
    assert found.residency("") == "redacted"
    assert rights(acme={}).allowed_models("acme") is None


def test_a_tenant_sees_its_own_spending_alone() -> None:
    call = CallInfo(tenant="acme")
    assert visible_tenant(call, "") == "acme"
    assert visible_tenant(call, "acme") == "acme"
    with pytest.raises(WeirError) as caught:
        visible_tenant(call, "rival")
    assert caught.value.code is ErrorCode.TENANT_FORBIDDEN
    assert "rival" not in caught.value.hint
    with pytest.raises(WeirError):
        visible_tenant(CallInfo(), "acme")


def test_an_operator_sees_everybodys_spending() -> None:
    call = CallInfo(tenant="ops", operator=True)
    assert visible_tenant(call, "") is None
    assert visible_tenant(call, "rival") == "rival"


async def test_a_tenant_that_nobody_proved_is_not_believed_where_credentials_are_configured() -> None:
    for config, believed in (({}, "acme"), ({"tenants": {"acme": {"api_keys": [{"env": "KEY"}]}}}, "")):
        guard = TenantGuard(
            Tenancy.model_validate(config), {"KEY": "0123456789abcdef"}, methods=["Forward"], counted=[]
        )
        call = CallInfo(tenant="acme", method="/weir.v1.FrontierProxyService/ListModels")
        await guard(Rpc(call, {}, ""))
        assert call.tenant == believed


def test_what_a_call_shows_of_itself_holds_no_credentials() -> None:
    assert "secret" not in repr(CallInfo(credentials=(("x-api-key", "secret"),)))


def test_requests_past_the_limit_are_refused_with_the_time_to_wait() -> None:
    clock = Clock()
    limits = RateLimits(rights(acme={"requests_per_minute": 2}), clock)
    limits.admit("acme")
    clock.now += 30
    limits.admit("acme")
    with pytest.raises(WeirError) as caught:
        limits.admit("acme")
    assert caught.value.code is ErrorCode.TENANT_RATE
    assert caught.value.retry_after_s == 31
    assert [d.type_url.rpartition(".")[2] for d in to_status(caught.value).details] == [
        "ErrorInfo",
        "RetryInfo",
        "QuotaFailure",
    ]
    clock.now += caught.value.retry_after_s
    limits.admit("acme")


def test_tenants_do_not_count_for_each_other() -> None:
    limits = RateLimits(rights(acme={"requests_per_minute": 1}, other={"requests_per_minute": 1}), Clock())
    limits.admit("acme")
    limits.admit("other")
    limits.admit("free of limits")
    with pytest.raises(WeirError):
        limits.admit("acme")


def test_tokens_count_by_estimate_first_and_as_used_after() -> None:
    limits = RateLimits(rights(acme={"tokens_per_minute": 100}), Clock())
    with limits.tokens("acme", 60):
        with pytest.raises(WeirError) as caught, limits.tokens("acme", 60):
            pass
        with limits.tokens("acme", 40) as use:
            use.settle(10)
        with limits.tokens("acme", 30):
            pass
    assert caught.value.code is ErrorCode.TENANT_RATE


def test_text_counts_where_an_answer_is_broken_off() -> None:
    limits = RateLimits(rights(acme={"tokens_per_minute": 100}), Clock())
    with pytest.raises(RuntimeError), limits.tokens("acme", 10) as use:
        use.wrote("x" * 320)
        raise RuntimeError
    with pytest.raises(WeirError), limits.tokens("acme", 11):
        pass
    with limits.tokens("acme", 10):
        pass


def test_an_answer_longer_than_the_limit_holds_the_next_off_for_a_minute() -> None:
    clock = Clock()
    limits = RateLimits(rights(acme={"tokens_per_minute": 100}), clock)
    with limits.tokens("acme", 10) as use:
        use.settle(5_000)
    with pytest.raises(WeirError) as caught, limits.tokens("acme", 1):
        pass
    clock.now += caught.value.retry_after_s or 0
    with limits.tokens("acme", 100):
        pass


def test_a_prompt_that_never_fits_is_no_matter_of_waiting() -> None:
    limits = RateLimits(rights(acme={"tokens_per_minute": 100}), Clock())
    with pytest.raises(WeirError) as caught, limits.tokens("acme", 101):
        pass
    assert caught.value.code is ErrorCode.TENANT_FORBIDDEN


def test_strangers_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "MAX_WINDOWS", 10)
    clock = Clock()
    limits = RateLimits(Rights(Tenancy.model_validate({"default": {"requests_per_minute": 1}})), clock)
    for number in range(1_000):
        clock.now += 10
        limits.admit(f"stranger {number}")
    assert len(limits._windows) <= 20


@given(
    limit=st.integers(1, 20),
    steps=st.lists(st.tuples(st.floats(0, 40, allow_subnormal=False), st.integers(1, 8)), max_size=40),
)
def test_no_minute_holds_more_than_the_limit(limit: int, steps: list[tuple[float, int]]) -> None:
    window, now, taken = SlidingWindow(limit), 0.0, list[tuple[float, int]]()
    for pause, amount in steps:
        now += pause
        wait = window.wait(now, amount)
        assert (wait == float("inf")) is (amount > limit)
        if not wait:
            window.take(now, amount)
            taken.append((now, amount))
        elif amount <= limit:
            assert not window.wait(now + wait, amount), "the time to wait is enough"
            now += wait
    for start, _ in taken:
        assert sum(amount for at, amount in taken if start <= at <= start + PERIOD_S) <= limit


@given(st.lists(st.tuples(st.floats(0, 90), st.integers(0, 50), st.integers(0, 80)), max_size=30))
def test_what_is_counted_is_never_negative_and_goes_back_to_nothing(
    uses: list[tuple[float, int, int]],
) -> None:
    clock = Clock()
    limits = RateLimits(rights(acme={"tokens_per_minute": 1_000_000}), clock)
    for lasts, estimate, used in uses:
        with limits.tokens("acme", estimate) as use:
            clock.now += lasts
            use.settle(used)
        for window in limits._windows.values():
            assert window.used(clock.now) >= 0
    clock.now += 2 * PERIOD_S
    assert all(window.used(clock.now) == 0 for window in limits._windows.values())


def test_windows_of_whole_seconds_count_to_their_end() -> None:
    window = SlidingWindow(1)
    window.take(10.9, 1)
    for now in itertools.chain((11.0, 60.0), (70.9, 70.99)):
        assert window.wait(now, 1) > 0
    assert window.wait(71.0, 1) == 0
