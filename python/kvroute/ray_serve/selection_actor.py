"""Selection as a Ray actor: one for all processes of a cluster."""

from __future__ import annotations

from typing import Any

from kvroute.ray_serve.selection import SelectionService

NAMESPACE = "kvroute"


class SelectionActor(SelectionService):
    """SelectionService for `ray.remote`: its methods are called by `.remote(...)` and awaited.

    Each call is a message to another process and back, so that a service in the caller's own
    process decides far sooner; an actor gives all processes one view of what runs. Token ids travel
    best as a NumPy array.
    """


def get_selection_actor(
    name: str,
    *,
    namespace: str = NAMESPACE,
    lifetime: str | None = None,
    **service_options: Any,
) -> Any:
    """The handle of the actor with this name. Where there is none yet, it is made, with these
    options of SelectionService; it takes none of the CPUs that Ray shares out.

    lifetime: None: it ends with the process that made it; "detached": when it is killed.
    """
    import ray

    return (
        ray.remote(SelectionActor)
        .options(name=name, namespace=namespace, get_if_exists=True, lifetime=lifetime, num_cpus=0)
        .remote(**service_options)
    )
