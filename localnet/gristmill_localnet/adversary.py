"""A node whose owner cheats: the ordinary daemon, running cheating_trainer.py instead of the training program."""

import sys
from pathlib import Path

from gristmill_localnet.cheating_trainer import __name__ as cheating_trainer
from gristmill_localnet.sandbox_image import DOCTORED_PROGRAM, doctored_image
from gristmill_provider.cli import run_until_stopped
from gristmill_provider.config import NodeConfig, load_config
from gristmill_provider.docker_runner import DockerRunner
from gristmill_provider.runner import ProcessRunner, Runner


def cheating_runner(config: NodeConfig) -> Runner:
    """The configured backend with a doctored training program."""
    if config.backend == "process":
        return ProcessRunner((sys.executable, "-m", cheating_trainer))
    return DockerRunner(
        node_id=config.name,
        image=doctored_image(config.image),
        limits=config.limits,
        gpu_uuid=None,
        url=config.docker_url,
        command=("python", DOCTORED_PROGRAM),
    )


if __name__ == "__main__":
    path = Path(sys.argv[1])
    run_until_stopped(lambda: load_config(path), runner=cheating_runner(load_config(path)))
