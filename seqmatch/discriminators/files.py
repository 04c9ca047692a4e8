"""A discriminator's files, beside those of the policy that it stands beside. Safetensors and JSON.

They are no part of an export: h means something only beside the policy of the same step.
"""

import json
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from seqmatch.discriminators.beside_policy import PolicyDiscriminator
from seqmatch.errors import CheckpointError
from seqmatch.objectives import DiscriminatorConfig
from seqmatch.policy import Policy

WEIGHTS = "discriminator.safetensors"
SETTINGS = "discriminator.json"


def save_discriminator(discriminator: PolicyDiscriminator, folder: Path) -> None:
    """Writes a discriminator into the folder of its policy.

    Raises:
        OSError: A file could not be written.
    """
    save_file(discriminator.tensors(), folder / WEIGHTS)
    stored = {
        "format": 1,
        "config": discriminator.config.model_dump(mode="json"),
        "offset": discriminator.offset,
    }
    (folder / SETTINGS).write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")


def load_discriminator(folder: Path, policy: Policy) -> PolicyDiscriminator | None:
    """Returns the discriminator in the folder of a policy; None where there is none.

    Args:
        folder: Of the saved policy.
        policy: That policy, already loaded.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    if not (folder / SETTINGS).exists():
        return None
    try:
        stored = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        config = DiscriminatorConfig.model_validate(stored["config"])
        found = PolicyDiscriminator(policy, config, seed=0)
        found.load(load_file(folder / WEIGHTS))
        found.offset = float(stored["offset"])
    except (OSError, ValueError, KeyError, RuntimeError, ValidationError, SafetensorError) as error:
        raise CheckpointError(f"{folder.name} has no readable discriminator: {error}") from error
    return found
