"""Changes of an endpoint's state: pure, each gives a new state of the next revision or says why not.

The order of the deployments tells their history: the last one was added or promoted last, so a rollback goes to the one
before the one that answers now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from stk_ml.endpoint_state import Deployment, EndpointState
from stk_ml.errors import UnknownNameError, UsageError

_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{0,60}[A-Za-z0-9])?")


def new(name: str) -> EndpointState:
    """The state of an endpoint that has no deployment.

    Raises:
        UsageError: the name is not 1 to 62 letters, digits and dashes, beginning with a letter.

    Example:
        >>> new("flight-delay")
        EndpointState(name='flight-delay', revision=0, deployments=())
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name an endpoint",
            hint="up to 62 letters, digits and dashes, beginning with a letter; give one with --endpoint",
        )
    return EndpointState(name, 0)


def get(state: EndpointState, name: str) -> Deployment:
    """The deployment of that name.

    Raises:
        UnknownNameError: there is none.
    """
    for deployment in state.deployments:
        if deployment.name == name:
            return deployment
    known = [deployment.name for deployment in state.deployments]
    raise UnknownNameError(f"deployment of endpoint {state.name}", name, known)


def main(state: EndpointState) -> Deployment | None:
    """The deployment with most traffic (the older of equals); None when none has any."""
    answering = [deployment for deployment in state.deployments if deployment.traffic]
    return max(answering, key=lambda deployment: deployment.traffic, default=None)


def name_for(state: EndpointState, version: int, digest: str) -> str:
    """What a deployment of a model version is called: ``v3``, or ``v3-1f0c2a9b`` when another model is called so.

    Example:
        >>> state = add(new("e"), Deployment("v3", "m", 3, "aa", "/m"))
        >>> name_for(state, 3, "aa"), name_for(state, 3, "1f0c2a9bff"), name_for(state, 4, "bb")
        ('v3', 'v3-1f0c2a9b', 'v4')
    """
    taken = {deployment.name: deployment.digest for deployment in state.deployments}
    name = f"v{version}"
    return name if taken.get(name, digest) == digest else f"{name}-{digest[:8]}"


def add(state: EndpointState, deployment: Deployment) -> EndpointState:
    """Adds a deployment without traffic. One of the same name and model keeps its traffic and becomes the newest.

    Raises:
        UsageError: the endpoint serves another model, or another artifact by that name.

    Example:
        >>> state = add(new("e"), Deployment("v1", "m", 1, "aa", "/models/aa", traffic=100))
        >>> state.revision, state.deployments[0].traffic
        (1, 0)
    """
    models = {each.model for each in state.deployments}
    if models - {deployment.model}:
        raise UsageError(
            f"endpoint {state.name} serves the model {', '.join(sorted(models))}, not {deployment.model}",
            hint="callers send the columns of one model; give this one its own --endpoint",
        )
    same = next((each for each in state.deployments if each.name == deployment.name), None)
    if same and same.digest != deployment.digest:
        raise UsageError(
            f"{deployment.name} of endpoint {state.name} is the artifact {same.digest[:12]}, not "
            f"{deployment.digest[:12]}",
            hint="a deployment keeps its artifact; give this one another name",
        )
    added = replace(deployment, traffic=same.traffic if same else 0)
    others = [each for each in state.deployments if each.name != deployment.name]
    return _next(state, [*others, added])


def remove(state: EndpointState, name: str) -> EndpointState:
    """Removes a deployment.

    Raises:
        UsageError: it has traffic.
        UnknownNameError: there is none of that name.
    """
    if get(state, name).traffic:
        raise UsageError(
            f"{name} of endpoint {state.name} answers {get(state, name).traffic}% of the requests",
            hint="give its traffic to another first: stk-ml endpoint traffic, promote or rollback",
        )
    return _next(state, [each for each in state.deployments if each.name != name])


def traffic(state: EndpointState, shares: Mapping[str, int]) -> EndpointState:
    """Sets the shares; deployments that are not named get none.

    Args:
        state: of the endpoint.
        shares: percent by name of deployment; they add up to 100.

    Raises:
        UsageError: they do not add up to 100, or one is below 0.
        UnknownNameError: there is no such deployment.

    Example:
        >>> state = add(add(new("e"), Deployment("v1", "m", 1, "aa", "/a")), Deployment("v2", "m", 2, "bb", "/b"))
        >>> [(each.name, each.traffic) for each in traffic(state, {"v1": 90, "v2": 10}).deployments]
        [('v1', 90), ('v2', 10)]
    """
    for name, share in shares.items():
        if get(state, name).shadow and share:
            raise UsageError(
                f"{name} of endpoint {state.name} is a shadow and answers nobody",
                hint="stk-ml deploy it without --shadow first",
            )
    if sum(shares.values()) != 100 or min(shares.values()) < 0:
        written = " + ".join(f"{name} {share}" for name, share in shares.items())
        raise UsageError(f"traffic must add up to 100: {written} is {sum(shares.values())}")
    return _next(state, [replace(each, traffic=shares.get(each.name, 0)) for each in state.deployments])


def shift(state: EndpointState, name: str, share: int) -> EndpointState:
    """Gives a deployment a share and the rest to the one that has most; the first one takes all.

    Raises:
        UnknownNameError: there is no such deployment.
        UsageError: the share is not from 0 to 100.
    """
    rest = next((each for each in _by_traffic(state) if each.name != name), None)
    if rest is None or share == 100:
        return traffic(state, {name: 100})
    return traffic(state, {rest.name: 100 - share, name: share})


def shadow(state: EndpointState, name: str, on: bool) -> EndpointState:
    """Whether a deployment scores copies of what the others answer.

    Raises:
        UsageError: it has traffic, or no other has.
        UnknownNameError: there is none of that name.
    """
    chosen = get(state, name)
    if on and chosen.traffic:
        raise UsageError(
            f"{name} of endpoint {state.name} answers {chosen.traffic}% of the requests; a shadow answers nobody",
            hint="give its traffic to another first: stk-ml endpoint traffic",
        )
    if on and main(state) is None:
        raise UsageError(f"endpoint {state.name} answers nobody yet: there is nothing to shadow")
    return _next(state, [replace(each, shadow=on) if each is chosen else each for each in state.deployments])


def promote(state: EndpointState, name: str = "") -> EndpointState:
    """Gives a deployment all traffic; the one that had most stays loaded for a rollback, other idle ones go.

    Args:
        state: of the endpoint.
        name: of the deployment; default the newest, which must not have all traffic yet.

    Raises:
        UsageError: nothing is to be promoted.
        UnknownNameError: there is none of that name.

    Example:
        >>> state = add(add(new("e"), Deployment("v1", "m", 1, "aa", "/a")), Deployment("v2", "m", 2, "bb", "/b"))
        >>> state = promote(traffic(state, {"v1": 90, "v2": 10}))
        >>> [(each.name, each.traffic) for each in state.deployments]
        [('v1', 0), ('v2', 100)]
    """
    chosen = get(state, name) if name else _newest(state)
    before = next((each for each in _by_traffic(state) if each.name != chosen.name), None)
    kept = [each for each in state.deployments if each is before or (each.shadow and each is not chosen)]
    promoted = replace(chosen, traffic=100, shadow=False)
    return _next(state, [*(replace(each, traffic=0) for each in kept), promoted])


def rollback(state: EndpointState) -> EndpointState:
    """Gives all traffic to the deployment before: during a canary the one that has most, else the one added before.

    Raises:
        UsageError: there is none before.

    Example:
        >>> state = add(add(new("e"), Deployment("v1", "m", 1, "aa", "/a")), Deployment("v2", "m", 2, "bb", "/b"))
        >>> [(each.name, each.traffic) for each in rollback(promote(state, "v2")).deployments]
        [('v1', 100), ('v2', 0)]
    """
    answering = [each for each in state.deployments if each.traffic]
    if len(answering) > 1:
        return traffic(state, {answering[0].name: 100})
    earlier: list[Deployment] = []
    for each in state.deployments:
        if each.traffic:
            break
        earlier += [] if each.shadow else [each]
    if not answering or not earlier:
        current = answering[0].name if answering else "nothing"
        raise UsageError(
            f"endpoint {state.name} serves {current}, and no deployment before it is loaded",
            hint="deploy an older version: stk-ml deploy MODEL:VERSION",
        )
    return traffic(state, {earlier[-1].name: 100})


def loads(state: EndpointState) -> set[tuple[str, str]]:
    """What a worker must load for it: name and digest of each deployment."""
    return {(each.name, each.digest) for each in state.deployments}


def put_back(before: EndpointState, now: EndpointState) -> EndpointState:
    """What was served before a change that failed, as the newest revision."""
    return replace(before, revision=now.revision + 1)


def _newest(state: EndpointState) -> Deployment:
    candidates = [each for each in state.deployments if not each.shadow]
    if not candidates or candidates[-1].traffic == 100:
        served = candidates[-1].name if candidates else "nothing"
        raise UsageError(
            f"endpoint {state.name} has nothing to promote: {served} takes all traffic",
            hint="name one with --deployment, or deploy a version with --canary",
        )
    return candidates[-1]


def _by_traffic(state: EndpointState) -> list[Deployment]:
    """Most traffic first; of equals the newest, for that is the one that answered last."""
    able = [each for each in reversed(state.deployments) if not each.shadow]
    return sorted(able, key=lambda each: -each.traffic)


def _next(state: EndpointState, deployments: list[Deployment]) -> EndpointState:
    return EndpointState(state.name, state.revision + 1, tuple(deployments))
