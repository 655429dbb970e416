"""Settings: which source wins, what is refused and in which words, and what the core gets of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

from warmroute.config import Backend, Resolved, Settings, UsageError, load, show
from warmroute.config.allowed import refusal
from warmroute.config.backends import worker_url
from warmroute.config.core import balancer_config, worker_spec
from warmroute.config.flags import GROUPS, default_text, size_text
from warmroute.config.settings import FIELDS, group_of, kind_of
from warmroute.config.sources import Given
from warmroute_policies.config import BalancerConfig
from warmroute_policies.latency import DEFAULT_PRESET, PRESETS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("ROUTER_"):
            monkeypatch.delenv(name)


def file_with(folder: Path, text: str, name: str = "router.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(flags: dict[str, Given] | None = None, config: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        load(flags or {}, config)
    return caught.value.problems


def test_flags_win_over_variables_and_those_over_the_file_and_that_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = file_with(tmp_path, "port: 1\nhealth_rise: 1\nhealth_fall: 1\n")
    monkeypatch.setenv("ROUTER_PORT", "2")
    monkeypatch.setenv("ROUTER_HEALTH_RISE", "2")
    resolved = load({"port": Given("3", "--port")}, config)
    settings = resolved.settings
    assert (settings.port, settings.health_rise, settings.health_fall, settings.retries) == (3, 2, 1, 2)
    origins = [resolved.origins[name] for name in ("port", "health_rise", "health_fall", "retries")]
    assert origins == ["--port", "ROUTER_HEALTH_RISE", str(config), "default"]


def test_a_list_from_a_higher_source_replaces_the_lower_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = file_with(tmp_path, "backend: [http://a:1, http://b:1]\n")
    monkeypatch.setenv("ROUTER_BACKEND", "http://c:1")
    assert [b.url for b in load({}, config).settings.backend] == ["http://c:1"]


def test_settings_made_by_hand_read_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER_PORT", "2")
    assert Settings().port == FIELDS["port"].default


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER_API_KEY", "")
    resolved = load({})
    assert resolved.settings.api_key == ()
    assert resolved.origins["api_key"] == "default"


def test_toml_and_yaml_give_the_same_settings(tmp_path: Path) -> None:
    yaml = file_with(
        tmp_path,
        "backend: ['http://a:1', {url: 'http://b:2', weight: 2, model: [m1, m2]}]\n"
        "policy_param: {miss_price: 3, name: x}\nmax_body_bytes: 1MiB\njournal: j.jsonl\n",
    )
    toml = file_with(
        tmp_path,
        'backend = ["http://a:1", {url = "http://b:2", weight = 2, model = ["m1", "m2"]}]\n'
        'max_body_bytes = "1MiB"\njournal = "j.jsonl"\n[policy_param]\nmiss_price = 3\nname = "x"\n',
        "router.toml",
    )
    assert load({}, yaml).settings == load({}, toml).settings
    assert load({}, yaml).settings.backend[1].model == ("m1", "m2")


def test_router_config_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER_CONFIG", str(file_with(tmp_path, "port: 77\n")))
    assert load({}).settings.port == 77


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load({}, file_with(tmp_path, "# nothing yet\n")).settings == Settings()


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("bakend: []\n", "r.yaml", "unknown key 'bakend'; did you mean backend?"),
        ("- a\n", "r.yaml", "expected a mapping of settings at the top"),
        ("hello\n", "r.yaml", "expected a mapping of settings at the top"),
        ("a: [\n", "r.yaml", "line 2"),
        ("a = \n", "r.toml", "line 1"),
        ("\x00", "r.yml", "special characters"),
        ("", "r.ini", "expected a file named .yaml, .yml, .toml, .json"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, name: str, said: str) -> None:
    config = file_with(tmp_path, text, name)
    (problem,) = problems_of(config=config)
    assert str(config) in problem
    assert said in problem


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert problems_of(config=tmp_path / "no.yaml") == (f"{tmp_path / 'no.yaml'}: no such file",)


def test_an_unknown_variable_is_an_error_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER_POLICI", "random")
    assert problems_of() == ("unknown environment variable ROUTER_POLICI; did you mean ROUTER_POLICY?",)


def test_variables_that_kubernetes_makes_for_a_service_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER_SERVICE_HOST", "10.0.0.1")
    assert "enableServiceLinks" in problems_of()[-1]


def test_every_problem_of_every_source_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = file_with(tmp_path, "prt: 1\nhealth_rise: 0\n")
    monkeypatch.setenv("ROUTER_RETRIES", "-1")
    problems = problems_of({"port": Given("many", "--port")}, config)
    assert sorted(problem.split(": expected")[0] for problem in problems) == sorted(
        [
            f"{config}: unknown key 'prt'; did you mean port?",
            f"{config}: health_rise",
            "ROUTER_RETRIES",
            "--port",
        ]
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("port", "65536", "expected a whole number from 0 to 65535 (0: any free port), got '65536'"),
        ("max_body_bytes", "12XB", "expected bytes, above 0, or a size such as 64KiB or 1GiB, got '12XB'"),
        ("max_body_bytes", "0", "expected bytes, above 0, or a size such as 64KiB or 1GiB, got '0'"),
        ("index_max_bytes", "1KiB", "expected bytes, at least 1MiB, got '1KiB'"),
        ("idle_timeout_s", "nan", "expected seconds, above 0 and at most 86400, got 'nan'"),
        ("idle_timeout_s", "300000", "expected seconds, above 0 and at most 86400, got '300000'"),
        ("access_log", "maybe", "expected true or false, got 'maybe'"),
        ("log_level", "loud", "expected one of debug, info, warning, error, got 'loud'"),
        ("health_path", "health", "expected a path that begins with `/`, got 'health'"),
        ("policy_param", ["miss_price"], "expected name=value, got 'miss_price'"),
        ("latency_preset", "llama-3.1-8b-h10", "did you mean llama-3.1-8b-h100?"),
        ("backend", ["gpu1:8000"], "[0].url: expected http://host:port, got 'gpu1:8000'; did you mean"),
        ("backend", ["ftp://gpu1:8000"], "https://host:port"),
        ("backend", ["http://gpu1:8000/v1"], "expected no path behind the port"),
        ("backend", ["http://gpu1:99999"], "expected a port from 1 to 65535"),
        ("backend", ["http://gpu1:1,weigth=2"], "a backend has no option 'weigth'"),
        (
            "backend",
            ["http://gpu1:1,weight=0"],
            "[0].weight: input should be greater than or equal to 0.001, got '0'",
        ),
        ("backend", ["http://gpu1:1,weight=1,weight=2"], "`weight` is given twice"),
        ("backend", ["http://gpu1:1", "http://GPU1:1/"], "http://gpu1:1 is listed twice"),
        ("session_header", ["a b:"], "[0]: expected names of headers"),
        ("policy_param", {"a": [1]}, ".a: expected name=value pairs, or a mapping, got [1]"),
    ],
)
def test_a_wrong_value_names_its_source_the_place_and_what_was_expected(
    name: str, value: Any, said: str
) -> None:
    (problem,) = problems_of({name: Given(value, "--some-flag")})
    assert problem.startswith("--some-flag")
    assert said in problem


def test_an_error_about_a_key_does_not_show_it() -> None:
    (problem,) = problems_of({"api_key": Given({"team": "sk-secret"}, "--api-key")})
    assert "secret" not in problem


def test_an_empty_key_is_refused() -> None:
    assert problems_of({"api_key": Given([""], "--api-key")}) == (
        "--api-key[0]: expected keys, none of them empty",
    )


def test_a_password_in_a_workers_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        Backend.parse("http://user:hunter2@gpu1:8000")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("http://gpu1:8000", "http://gpu1:8000"),
        ("HTTP://GPU1:8000/", "http://gpu1:8000"),
        ("http://gpu1", "http://gpu1:80"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://[fe80::1%eth0]:8000", "http://[fe80::1%eth0]:8000"),
        ("http://my_engine.ns.svc.:8000", "http://my_engine.ns.svc.:8000"),
        ("http://xn--bcher-kva.example", "http://xn--bcher-kva.example:80"),
        ("http://gpu1:8000@03", "http://gpu1:8000@3"),
        ("http://GPU1/@0", "http://gpu1:80@0"),
    ],
)
def test_a_workers_url_has_one_plain_form(text: str, plain: str) -> None:
    assert worker_url(text) == plain


@pytest.mark.parametrize(
    "host",
    ["a b", "a\0b", "☃", "a..b", ".a", "a" * 64, ".".join(["a"] * 128), "[v1.a]", "[::g]", "[::1%a/b]"],
)
def test_a_workers_host_is_one_that_resolvers_take(host: str) -> None:
    with pytest.raises(ValueError, match=r"expected a host's name|no path"):
        worker_url(f"http://{host}:1")


BACKENDS = st.builds(
    Backend,
    url=st.integers(1, 65535).map(lambda port: f"http://gpu:{port}"),
    model=st.lists(st.from_regex(r"[a-z][a-z0-9./-]{0,9}", fullmatch=True), max_size=3),
    weight=st.integers(1, 64).map(lambda n: n / 8),
    kv_capacity_tokens=st.none() | st.integers(1, 10**9),
    preset=st.none() | st.sampled_from(sorted(PRESETS)),
    ranks=st.none() | st.integers(1, 64),
)


@given(BACKENDS)
def test_a_backends_text_form_reads_back_as_the_same_backend(backend: Backend) -> None:
    assert Backend.parse(str(backend)) == backend


def test_ranks_behind_one_url_are_workers_each() -> None:
    listed = Settings(backend=["http://a:1,ranks=3,weight=2", "http://b:1"]).backend
    assert [backend.url for backend in listed] == [
        "http://a:1@0",
        "http://a:1@1",
        "http://a:1@2",
        "http://b:1",
    ]
    assert [backend.weight for backend in listed] == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("backends", "said"),
    [
        (["http://a:1,ranks=2", "http://a:1@1"], "http://a:1@1 is listed twice"),
        (["http://a:1@1,ranks=2"], "http://a:1@1 is one rank"),
        (["http://a:1,ranks=0"], "greater than or equal to 1"),
        (["http://me@a:1"], "a URL with a user"),
    ],
)
def test_ranks_that_make_no_sense_are_refused(backends: list[str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings(backend=backends)


def test_where_a_worker_may_be_is_asked_of_its_host_whatever_its_rank() -> None:
    assert refusal("http://10.0.0.1:8000@7", ["10.0.0.0/8"]) is None
    assert refusal("http://evil:8000@10", ["10"]) is not None
    assert refusal("http://169.254.169.254:80@1", []) is not None


def test_a_parameter_that_reads_as_a_number_or_a_truth_is_one() -> None:
    settings = Settings(policy_param="a=2 b=0.5 c=true d=text")
    assert settings.policy_param == {"a": 2, "b": 0.5, "c": True, "d": "text"}
    assert [type(value) for value in settings.policy_param.values()] == [int, float, bool, str]


def test_headers_are_kept_in_lower_case() -> None:
    assert Settings(session_header=("X-Session-ID",)).session_header == ("x-session-id",)


def test_sglangs_word_for_a_warning_is_understood() -> None:
    assert Settings(log_level="warn").log_level == "warning"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_keys_are_masked_wherever_settings_are_shown() -> None:
    resolved = load({"api_key": Given(["sk-secret"], "--api-key")})
    console = Console(record=True, width=120, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    with console.file:
        show.as_table(resolved, console)
    texts = [repr(resolved.settings), show.as_json(resolved), show.as_lines(resolved), console.export_text()]
    assert all("secret" not in text for text in texts)
    assert show.MASK in texts[1]
    assert resolved.settings.api_key[0].get_secret_value() == "sk-secret"


def test_a_users_name_and_password_in_a_url_are_masked() -> None:
    resolved = load({"otel_endpoint": Given("https://ann:hunter2@otel:4318/v1", "--otel-endpoint")})
    for text in (show.as_json(resolved), show.as_lines(resolved)):
        assert "hunter2" not in text
        assert f"https://{show.MASK}@otel:4318/v1" in text


def test_the_json_form_holds_every_setting_with_its_value_and_source() -> None:
    flags = {
        "backend": Given(["http://a:1,weight=2"], "--backend"),
        "journal": Given("j.jsonl", "--journal"),
        "upstream_ca": Given(["a.pem", "b.pem"], "--upstream-ca"),
    }
    document = json.loads(show.as_json(load(flags)))
    assert set(document) == set(FIELDS)
    assert document["port"] == {"value": 30000, "source": "default"}
    assert document["backend"]["value"][0]["weight"] == 2.0
    assert document["journal"] == {"value": "j.jsonl", "source": "--journal"}
    assert document["upstream_ca"]["value"] == ["a.pem", "b.pem"]


def test_the_plain_form_has_one_line_per_setting() -> None:
    lines = show.as_lines(load({})).splitlines()
    assert [line.split()[0] for line in lines] == list(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_meaning_a_group_and_words_for_what_it_takes(name: str) -> None:
    field = FIELDS[name]
    assert field.description
    assert group_of(field) in GROUPS
    assert kind_of(field).expects


@pytest.mark.parametrize("name", [n for n, f in FIELDS.items() if f.default not in (None, (), {})])
def test_every_default_is_acceptable_in_the_form_that_help_shows(name: str) -> None:
    text = default_text(FIELDS[name])
    assert getattr(load({name: Given(text, "--x")}).settings, name) == getattr(Settings(), name)


@pytest.mark.parametrize(
    ("size", "text"), [(1 << 30, "1GiB"), (256 << 10, "256KiB"), (1000, "1000"), (3 << 19, "1536KiB")]
)
def test_a_size_is_shown_exactly(size: int, text: str) -> None:
    assert size_text(size) == text
    assert Settings(max_body_bytes=text).max_body_bytes == size


def test_the_core_gets_its_own_defaults_back() -> None:
    config, core = balancer_config(Settings()), BalancerConfig()
    assert config.default_price == core.default_price
    assert (config.bytes_per_token, config.index_max_bytes, config.capacity_feedback, config.replicas) == (
        core.bytes_per_token,
        core.index_max_bytes,
        core.capacity_feedback,
        core.replicas,
    )
    assert (config.learn_prices, config.learned_prices) == (core.learn_prices, core.learned_prices)


def test_the_core_is_told_how_many_routers_there_are() -> None:
    assert balancer_config(Settings()).replicas == 1
    assert balancer_config(load({"replicas": Given("3", "--replicas")}).settings).replicas == 3


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many"])
def test_a_number_of_routers_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--replicas"):
        load({"replicas": Given(text, "--replicas")})


def fitted(folder: Path, c1: float = 25.0) -> str:
    """A preset as `simulator fit` writes it, as far as the router reads it."""
    file = folder / "my-gpu.json"
    latency = {"w0": 7, "c0": 3, "c1": c1, "c2": 0.8, "d0": 6, "d1": 0.01, "d2": 0.04}
    file.write_text(json.dumps({"schema": 1, "name": "my-gpu", "latency": latency}))
    return str(file)


def test_a_fitted_preset_prices_the_fleet_or_one_worker(tmp_path: Path) -> None:
    file = fitted(tmp_path)
    config = balancer_config(Settings(latency_preset=file))
    assert config.default_price.linear_s == pytest.approx(25e-6)
    assert config.prices[file] == config.default_price
    settings = Settings(backend=f"http://a:1,preset={file} http://b:1")
    assert balancer_config(settings).prices[
        worker_spec(settings.backend[0], settings).worker_class
    ].linear_s == (pytest.approx(25e-6))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "cannot be read"), ("{", "no preset of `simulator fit`"), ('{"latency": {"w0": 1}}', "c0")],
)
def test_a_file_that_is_no_fitted_preset_is_refused(
    content: str | None, expected: str, tmp_path: Path
) -> None:
    file = tmp_path / "my-gpu.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValidationError, match=expected):
        Settings(latency_preset=str(file))


def test_every_preset_is_a_worker_class_with_a_price() -> None:
    prices = balancer_config(Settings(latency_preset="qwen3-8b-h100")).prices
    assert prices == {name: preset.price for name, preset in PRESETS.items()}


def test_a_worker_takes_from_the_fleet_what_it_does_not_say_itself() -> None:
    settings = Settings(
        backend="http://a:1 http://b:1,model=m,weight=2,kv_capacity_tokens=7,preset=qwen3-8b-h100",
        kv_capacity_tokens=99,
    )
    plain, own = (worker_spec(backend, settings) for backend in settings.backend)
    assert (plain.worker_id, plain.models, plain.weight) == ("http://a:1", (), 1.0)
    assert (plain.kv_capacity_tokens, plain.worker_class) == (99, DEFAULT_PRESET)
    assert (own.models, own.weight, own.kv_capacity_tokens) == (("m",), 2.0, 7)
    assert own.worker_class == "qwen3-8b-h100"


def test_the_generated_pages_are_not_stale() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_resolved_settings_name_an_origin_for_each_setting() -> None:
    resolved: Resolved = load({})
    assert set(resolved.origins) == set(FIELDS)


@pytest.mark.parametrize(
    "host",
    ["gpu1", "gpu_1.llm", "a.b.", "x" * 63, ".".join(["x" * 63] * 3 + ["x" * 61]), "10.0.0.1",
     "[2001:db8::1]", "[fe80::1%25eth0]", "xn--gp-7ka", "1", "7.svc"],
)  # fmt: skip
def test_a_host_has_a_name_or_an_address(host: str) -> None:
    assert worker_url(f"http://{host}:80") == f"http://{host}:80"
