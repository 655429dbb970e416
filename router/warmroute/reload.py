"""Settings and policy change while the router runs: at SIGHUP, by `POST /reload`, by `POST /policy`.

A reload reads what the start read: the same flags, the environment, and the file as it is now. What it says
is the truth: a policy that was set by hand is put back. Workers are compared with what the configuration
said before, as discovery compares: who was added by somebody else, or removed by hand, stays as it is.

Rules kept. All is checked before anything changes, so a wrong configuration changes nothing and the former
one goes on. One reload at a time. What cannot change while the router runs keeps its value, and the report
names it.

    UsageError, ConfigError    the new configuration is wrong, with every problem that was found
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from warmroute import audit
from warmroute.config import Settings, UsageError
from warmroute.config.policies import Asked, asked_of, check_policies, names_in, policy_spec, spec_of
from warmroute.config.reloading import Difference, difference
from warmroute.joining import add_workers, let_go, take_back
from warmroute.logs import set_level
from warmroute_policies.errors import ConfigError
from warmroute_policies.plugins import load_policy

if TYPE_CHECKING:
    from warmroute.audit import Actor
    from warmroute.config import Backend
    from warmroute.gateway import Gateway
    from warmroute_policies.events import PolicySpec
    from warmroute_policies.policy import Policy
    from warmroute_policies.types import WorkerId

log = logging.getLogger("warmroute")

ReadSettings = Callable[[], Settings]
"""Reads all sources again. Raises UsageError."""

Hook = Callable[[], object]
"""Does what else a reload should, as reading certificates again; must not raise."""


@dataclass(slots=True)
class Report:
    """What a reload did."""

    changed: Mapping[str, tuple[Any, Any]]
    """Setting to its value before and after."""
    needs_restart: tuple[str, ...]
    added: list[WorkerId] = field(default_factory=list)
    updated: list[WorkerId] = field(default_factory=list)
    removed: list[WorkerId] = field(default_factory=list)
    """Those that drain first included."""
    left_alone: list[WorkerId] = field(default_factory=list)
    """Listed now, but there already by somebody else's doing."""


class Reloader:
    """State: how settings are read, who else takes part, and the reload under way."""

    def __init__(self, gateway: Gateway, read: ReadSettings | None) -> None:
        self._gateway = gateway
        self._read = read
        self._named = names_in(policy_spec(gateway.settings))
        """Policies, and rules inside of them, that the configuration names: their code is the operator's."""
        self.lock = asyncio.Lock()
        """Held by whoever changes many workers at once."""
        self._task: asyncio.Task[None] | None = None
        self._asked = False
        """A signal came that no reload has followed yet."""
        self.hooks: list[Hook] = []
        """Called at the end of every reload, whether a setting has changed or not."""

    # --- the policy -----------------------------------------------------------------------------

    def set_policy(self, asked: Asked, actor: Actor) -> Asked:
        """Writes. Another policy decides from now on; the former one, as it was asked for. The same again
        changes nothing. Raises ConfigError, and the former policy goes on."""
        gateway = self._gateway
        before = asked_of(gateway.settings)
        former, spec = policy_spec(gateway.settings), spec_of(asked, gateway.settings.seed)
        if spec != former:
            # To import what a request names would be to run it.
            strange = sorted(name for name in names_in(spec) - self._named if ":" in name)
            if strange:
                raise ConfigError(
                    f"`{strange[0]}` is code that the configuration does not name: set `policy` there and "
                    "reload, or install it as an entry point"
                )
            self._take_over(load_policy(spec.name, spec.params, spec.seed), spec)
            gateway.settings = gateway.settings.model_copy(
                update={
                    "policy": asked.policy,
                    "policy_param": dict(asked.params),
                    "session_sticky": asked.session_sticky,
                }
            )
            audit.tell("set_policy", spec.name, actor, before=before.view(), after=asked.view())
        return before

    def _take_over(self, policy: Policy, spec: PolicySpec) -> None:
        """Raises ConfigError."""
        try:
            self._gateway.set_policy(policy, spec)
        except Exception as error:  # the policy may be anybody's
            log.exception("the policy cannot take over")
            raise ConfigError(f"the policy `{spec.name}` cannot take over: {error!r}") from error

    # --- everything -----------------------------------------------------------------------------

    def at_signal(self) -> None:
        """Writes. Reloads soon; what comes of it is logged. While one is under way another one follows, which
        stands for all signals until it begins."""
        self._asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._by_signal())

    async def _by_signal(self) -> None:
        while self._asked:
            self._asked = False
            try:
                await self.reload(audit.SIGNAL)
            except (UsageError, ConfigError):
                pass  # it is logged
            except Exception:  # nobody else would hear of it, and the next signal is to be heard
                log.exception("the reload failed by a fault of the router's own")

    async def reload(self, actor: Actor) -> Report:
        """Writes. Reads the configuration again and makes the router follow it. Raises UsageError or
        ConfigError; then nothing has changed."""
        gateway = self._gateway
        async with self.lock:
            try:
                found = await self._checked()
            except (UsageError, ConfigError) as error:
                problems = error.problems if isinstance(error, UsageError) else (str(error),)
                gateway.metrics.reloads["refused"] += 1
                for problem in problems:
                    log.error("reload refused, nothing changed: %s", problem)  # noqa: TRY400
                raise
            report = await self._follow(found, actor)
            gateway.metrics.reloads["done"] += 1
        log.info(
            "reloaded",
            extra={
                "changed": list(report.changed),
                "workers_added": len(report.added),
                "workers_removed": len(report.removed),
                "needs_restart": list(report.needs_restart),
            },
        )
        if report.needs_restart:
            log.warning("settings wait for a restart", extra={"settings": list(report.needs_restart)})
        after = {name: new for name, (_, new) in report.changed.items()}
        before = {name: old for name, (old, _) in report.changed.items()}
        audit.tell("reload", "configuration", actor, before=before, after=after)
        return report

    async def _checked(self) -> Difference:
        """Reads. What is to be done. Raises UsageError or ConfigError."""
        if self._read is None:
            raise UsageError("this router was started without a configuration that could be read again")
        read = await asyncio.to_thread(self._read)
        gateway = self._gateway
        check_policies(read)
        known = gateway.balancer.config.prices
        late = [backend for backend in read.backend if backend.preset not in (None, *known)]
        if late:
            raise UsageError(
                *(
                    f"backend {backend.url}: the preset {backend.preset!r} was not named at the start, when "
                    "files of fitted presets are read; restart the router"
                    for backend in late
                )
            )
        return difference(gateway.settings, read)

    async def _follow(self, found: Difference, actor: Actor) -> Report:
        """Writes. Raises ConfigError when the policy cannot take over, before anything else has changed."""
        gateway, effective = self._gateway, found.effective
        before, spec = gateway.settings, policy_spec(effective)
        if spec != policy_spec(before):
            self._take_over(load_policy(spec.name, spec.params, spec.seed), spec)
        self._named = names_in(spec)
        gateway.reconfigure(effective)
        if effective.log_level != before.log_level:
            set_level(effective.log_level)
        report = Report(found.changed, found.needs_restart)
        await self._follow_backends(before.backend, effective.backend, report, actor)
        for hook in self.hooks:
            hook()
        return report

    async def _follow_backends(
        self, before: tuple[Backend, ...], after: tuple[Backend, ...], report: Report, actor: Actor
    ) -> None:
        gateway = self._gateway
        former, listed = {one.url: one for one in before}, {one.url: one for one in after}
        new = []
        for url, backend in listed.items():
            worker = gateway.workers.get(url)
            if former.get(url) == backend:
                continue
            if worker is None:
                if url not in former:  # else somebody removed it by hand
                    new.append(backend)
            elif worker.added_by != "configuration":
                report.left_alone.append(url)
            else:
                take_back(gateway, url)
                gateway.workers.describe(url, backend, worker.learned)
                audit.tell("change_worker", url, actor, after=str(backend))
                report.updated.append(url)
        for url in former.keys() - listed.keys():
            worker = gateway.workers.get(url)
            if worker is not None and worker.added_by == "configuration":
                let_go(gateway, url, gateway.settings.discovery_drain_s, actor)
                report.removed.append(url)
        report.removed.sort()
        report.added = await add_workers(gateway, new, "configuration", actor)
