"""A program that wants a model, as a process of its own: one JSON line per state, at the end {"folder"} or {"error"}.

python tests/store/runner.py MODEL PACE, with PACE a JSON object of the fields of Pace; all else is in the environment.
"""

import json
import logging
import sys
from dataclasses import asdict

from pipeline.errors import UserError
from pipeline.settings import read_settings
from pipeline.store.catalogue import entry_for
from pipeline.store.download import Pace
from pipeline.store.obtain import obtain_model
from pipeline.store.progress import follow


def main() -> None:
    """Obtain the model, telling every state."""
    logging.basicConfig(level=logging.INFO)
    states = obtain_model(entry_for(sys.argv[1]), read_settings(), pace=Pace(**json.loads(sys.argv[2])))
    try:
        folder = follow(states, lambda state: print(json.dumps(asdict(state)), flush=True))
        print(json.dumps({"folder": str(folder)}), flush=True)
    except UserError as error:
        print(json.dumps({"error": str(error)}), flush=True)


if __name__ == "__main__":
    main()
