"""``python -m graphprune.olive > packages.json``: the package configuration for ``olive run --package-config``."""

import json
import sys

from ..cli import complain
from ..errors import GraphpruneError
from .config import package_config

if __name__ == "__main__":
    try:
        print(json.dumps(package_config(), indent=1))
    except GraphpruneError as error:
        complain(error)
        sys.exit(error.exit_status)
