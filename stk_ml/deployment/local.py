"""Endpoints on this machine: a folder and a supervised process tree each."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from stk_ml import contracts
from stk_ml.deployment import control, locks, state, store, tail
from stk_ml.deployment import rollout as rollouts
from stk_ml.deployment.folder import Folder
from stk_ml.deployment.protocol import EndpointReport, Progress
from stk_ml.deployment.rollout import Rollout, Status
from stk_ml.endpoint_state import Deployment, EndpointState
from stk_ml.errors import DeploymentError, UnknownNameError, UsageError
from stk_ml.settings import Settings
from stk_ml.vault import keys
from stk_ml.vault.local import FileSecretStore

#: Runs a scoring worker; the endpoint's folder follows.
WORKER = (sys.executable, "-m", "stk_ml", "serve", "--endpoint-folder")


def _silent(words: str) -> None:
    """Tells nobody."""


class LocalEndpointManager:
    """The endpoints of a project on this machine; see :class:`stk_ml.deployment.protocol.EndpointManager`.

    A command may be killed at any time: the state file is replaced as a whole, and the next command goes on from there.

    Args:
        settings: of the project: where endpoints and vault are.
        worker_command: runs a worker; the folder of the endpoint, ``--worker INDEX`` and ``--fd N`` are added.
        seconds: how long a change may take until every worker serves it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as project:
        ...     LocalEndpointManager(Settings.load(project)).names()
        []
    """

    def __init__(self, settings: Settings, *, worker_command: Sequence[str] = WORKER, seconds: float = 120.0) -> None:
        self._root, self._command, self._seconds = settings.endpoints, tuple(worker_command), seconds
        self.vault = FileSecretStore(settings.vault)
        flags = {
            name: str(getattr(settings, name)) for name, origin in settings.origins.items() if origin.startswith("--")
        }
        self._environment = control.settings_environment(settings.project, settings.profile, flags)

    def names(self) -> list[str]:
        """The endpoints, sorted."""
        folders = self._root.iterdir() if self._root.is_dir() else ()
        return sorted(path.name for path in folders if not path.name.startswith(".") and Folder(path).exists)

    def status(self, endpoint: str) -> EndpointReport:
        """How an endpoint fares.

        Raises:
            UnknownNameError: there is none of that name.
        """
        folder = self.folder(endpoint)
        process, launch = folder.process(), folder.launch()
        where = process or launch
        return EndpointReport(
            name=endpoint,
            url=url(where.host, where.port) if where and where.port else "",
            running=process is not None,
            pid=process.pid if process else 0,
            state=folder.state(),
            workers=folder.statuses(process),
            restarts=tuple(child.restarts for child in process.workers) if process else (),
            rollout=folder.rollout(),
            folder=folder.path,
        )

    def deploy(
        self,
        endpoint: str,
        artifact: Path,
        model: str,
        version: int,
        digest: str,
        *,
        traffic: int = 100,
        shadow: bool = False,
        host: str | None = None,
        port: int | None = None,
        workers: int | None = None,
        progress: Progress = _silent,
    ) -> EndpointReport:
        """Puts a model version behind an endpoint, which is created when it does not exist.

        The version is loaded by every worker before it gets traffic. When one cannot load it, what was served before is
        put back.

        Args:
            endpoint: its name.
            artifact: folder of the model; copied.
            model: whose version it is.
            version: its number.
            digest: of the artifact.
            traffic: percent of the requests, taken from the deployment that has most; the first takes all.
            shadow: it answers nobody and scores copies of what the others answer.
            host: where to listen; default as before, else 127.0.0.1.
            port: where to listen; default as before, else a free one, which is kept.
            workers: number of processes; default as before, else 1.
            progress: told what is waited for.

        Raises:
            UsageError: the change makes no sense.
            ArtifactError, IntegrityError: the artifact is not sound.
            DeploymentError: a worker cannot serve it; the message holds the worker's error, the hint its log.
        """
        folder = Folder(self._root / endpoint)
        empty = state.new(endpoint)  # refuses bad names before anything is made
        with self._changing(folder, progress):
            before = folder.state() if folder.exists else empty
            name = state.name_for(before, version, digest)
            wanted = Deployment(name, model, version, digest, str(folder.models / digest))
            loaded = state.add(before, wanted)
            first = state.main(before) is None
            if shadow:
                loaded = state.shadow(loaded, name, True)
            elif any(each.name == name and each.shadow for each in before.deployments):
                loaded = state.shadow(loaded, name, False)
            launch = control.wanted(folder.launch(), host, port, workers)
            store.put(folder.models, artifact, digest)
            keys.ensure(self.vault, endpoint)
            if not folder.exists:
                contracts.write(empty, folder.state_file)
            control.start(folder, [*self._command, str(folder.path)], self._environment, launch, seconds=10)
            after = loaded if not first else state.traffic(loaded, {name: 100})
            try:
                self._serve(folder, after, progress)
            except DeploymentError:
                if first:  # nobody is served: do not leave processes behind that fail again and again
                    control.stop(folder, seconds=self._seconds, progress=progress)
                raise
            if not shadow and not first and traffic:
                self._end_rollout(folder, "stopped", f"{name} was deployed at {traffic}%")
                shifted = state.promote(after, name) if traffic == 100 else state.shift(after, name, traffic)
                self._serve(folder, shifted, progress)
        return self.status(endpoint)

    def traffic(self, endpoint: str, shares: Mapping[str, int], *, progress: Progress = _silent) -> EndpointReport:
        """Sets the percent of the requests of each deployment; those not named get none. Ends a running rollout.

        Raises:
            UsageError, UnknownNameError: see :func:`stk_ml.deployment.state.traffic`.
        """
        return self._change(endpoint, lambda now: state.traffic(now, shares), "stopped", progress)

    def promote(self, endpoint: str, deployment: str = "", *, progress: Progress = _silent) -> EndpointReport:
        """Gives a deployment all traffic; the one before stays loaded. Ends a running rollout.

        Args:
            endpoint: its name.
            deployment: default the challenger of the rollout that runs, else the newest.
            progress: told what is waited for.

        Raises:
            UsageError: it has all traffic already.
            UnknownNameError: there is no such deployment.
        """
        found = self.folder(endpoint).rollout()
        chosen = deployment or (found.challenger if found and found.status == "running" else "")
        return self._change(endpoint, lambda now: state.promote(now, chosen), "promoted", progress)

    def rollback(self, endpoint: str, *, progress: Progress = _silent) -> EndpointReport:
        """Gives all traffic to the deployment before. Ends a running rollout.

        Raises:
            UsageError: there is none before.
        """
        return self._change(endpoint, state.rollback, "rolled_back", progress)

    def delete(self, endpoint: str, deployment: str = "", *, progress: Progress = _silent) -> None:
        """Removes a deployment without traffic, or the endpoint with its processes, models, logs and keys.

        What it logged as telemetry stays.

        Raises:
            UsageError: the deployment has traffic.
            UnknownNameError: there is no such endpoint or deployment.
        """
        folder = self.folder(endpoint)
        if deployment:
            self._remove(folder, deployment, progress)
            return
        with self._changing(folder, progress):
            control.stop(folder, seconds=self._seconds, progress=progress)
            gone = folder.path.with_name(f".{endpoint}.{os.getpid()}.deleted")
            folder.path.replace(gone)
            keys.remove(self.vault, endpoint)
            shutil.rmtree(gone, ignore_errors=True)

    def start(
        self,
        endpoint: str,
        *,
        host: str | None = None,
        port: int | None = None,
        workers: int | None = None,
        progress: Progress = _silent,
    ) -> EndpointReport:
        """Starts the processes of an endpoint, or changes their number; at the same port as before.

        Raises:
            UsageError: it runs, and at another address.
            DeploymentError: it did not come up.
        """
        folder = self.folder(endpoint)
        with self._changing(folder, progress):
            now = folder.state()
            launch = control.wanted(folder.launch(), host, port, workers)
            keys.ensure(self.vault, endpoint)
            waiting = control.Wait(folder, seconds=self._seconds, progress=progress)
            control.start(folder, [*self._command, str(folder.path)], self._environment, launch, seconds=10)
            waiting.until(now.revision, answers=state.main(now) is not None)
        return self.status(endpoint)

    def stop(self, endpoint: str, *, progress: Progress = _silent) -> bool:
        """Ends the processes of an endpoint once they have answered what they have begun; whether they ran."""
        folder = self.folder(endpoint)
        with self._changing(folder, progress):
            return control.stop(folder, seconds=self._seconds, progress=progress)

    def logs(self, endpoint: str, *, lines: int = 100, follow: bool = False) -> Iterator[str]:
        """The newest lines of its processes, by time; with ``follow`` also those that come, until interrupted."""
        folder = self.folder(endpoint)
        coming = tail.follow(folder.logs) if follow else ()
        return itertools.chain(tail.merged(folder.logs, lines), coming)

    def folder(self, endpoint: str) -> Folder:
        """The files of an endpoint.

        Raises:
            UnknownNameError: there is none of that name.
        """
        if endpoint not in self.names():
            raise UnknownNameError("endpoint", endpoint, self.names(), hint=_first_deploy(endpoint, self.names()))
        return Folder(self._root / endpoint)

    def apply(
        self, endpoint: str, decide: Callable[[Rollout | None], Rollout | None], *, progress: Progress = _silent
    ) -> Rollout | None:
        """Changes the rollout of an endpoint, and its traffic as the rollout then wants it.

        Args:
            endpoint: its name.
            decide: gets the rollout as it stands now and gives what it is to be; None leaves all as it is.
            progress: told what is waited for.
        """
        folder = self.folder(endpoint)
        with self._changing(folder, progress):
            self._settle(folder, progress)
            wanted = decide(folder.rollout())
            if wanted is not None:
                contracts.write(wanted, folder.rollout_file)
                self._settle(folder, progress)
            return folder.rollout()

    @contextmanager
    def alone(self, endpoint: str) -> Iterator[None]:
        """Makes this process the only one that watches the endpoint's rollout.

        Raises:
            UsageError: another does.
        """
        descriptor = locks.take(self.folder(endpoint).roller_lock)
        if descriptor is None:
            raise UsageError(
                f"another process watches the rollout of endpoint {endpoint}",
                hint=f"see how it goes: stk-ml endpoint status {endpoint}",
            )
        try:
            yield
        finally:
            os.close(descriptor)

    def _change(
        self, endpoint: str, change: Callable[[EndpointState], EndpointState], ends: Status, progress: Progress
    ) -> EndpointReport:
        folder = self.folder(endpoint)
        with self._changing(folder, progress):
            before = folder.state()
            after = change(before)
            self._end_rollout(folder, ends, "by hand")
            self._serve(folder, after, progress)
        return self.status(endpoint)

    def _remove(self, folder: Folder, deployment: str, progress: Progress) -> None:
        with self._changing(folder, progress):
            before, found = folder.state(), folder.rollout()
            after = state.remove(before, deployment)
            if found and found.status == "running" and deployment in (found.champion, found.challenger):
                raise UsageError(
                    f"a rollout from {found.champion} to {found.challenger} needs {deployment}",
                    hint=f"end it first: stk-ml endpoint promote {folder.name}, or rollback",
                )
            self._serve(folder, after, progress)

    @contextmanager
    def _changing(self, folder: Folder, progress: Progress) -> Iterator[None]:
        """Alone with the endpoint."""
        with locks.hold(
            folder.lock, seconds=self._seconds, waiting=lambda: progress("waits for another command to finish")
        ):
            yield

    def _settle(self, folder: Folder, progress: Progress) -> None:
        """Sets the traffic as the rollout wants it, if that has not been done."""
        found = folder.rollout()
        if found is None or found.applied:
            return
        now = folder.state()
        share = found.share
        if share == 100:
            after = state.traffic(now, {found.challenger: 100})
        else:
            after = state.traffic(now, {found.champion: 100 - share, found.challenger: share})
        if found.status == "promoted":
            after = state.promote(now, found.challenger)
        self._serve(folder, after, progress)
        contracts.write(rollouts.applied(found), folder.rollout_file)

    def _end_rollout(self, folder: Folder, status: Status, reason: str) -> None:
        found = folder.rollout()
        if found and (found.status == "running" or not found.applied):
            contracts.write(rollouts.ended(found, status, reason), folder.rollout_file)

    def _serve(self, folder: Folder, after: EndpointState, progress: Progress) -> None:
        """Replaces the state and waits until it is served.

        A model that a worker cannot load is taken back. A change of shares alone stands: a worker that lags behind must
        not bring traffic back to where it was taken from.
        """
        before = folder.state()
        if after.deployments == before.deployments:
            after = before
        waiting = control.Wait(folder, seconds=self._seconds, progress=progress)
        if after is not before:
            contracts.write(after, folder.state_file)
        if folder.process() is None and not locks.held(folder.supervisor_lock):
            progress(f"the endpoint does not run; start it with stk-ml endpoint start {folder.name}")
            return
        try:
            waiting.until(after.revision, answers=state.main(after) is not None)
        except DeploymentError:
            if state.loads(after) - state.loads(before):
                contracts.write(state.put_back(before, after), folder.state_file)
            raise
        finally:
            store.sweep(folder.models, {each.digest for each in folder.state().deployments})


def url(host: str, port: int) -> str:
    """Where callers on this machine reach an endpoint.

    Example:
        >>> url("0.0.0.0", 8001), url("::1", 8001)
        ('http://127.0.0.1:8001', 'http://[::1]:8001')
    """
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _first_deploy(endpoint: str, known: Sequence[str]) -> str:
    return "" if known else "there are none yet; stk-ml deploy MODEL makes one"
