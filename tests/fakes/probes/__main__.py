import json
import sys

from fakes.probes import PROBES, files, kernel, network, outcome, resources

assert all((files, kernel, network, resources)), "importing them is what registers their probes"
found = {name: vars(outcome(attempt)) for name, attempt in PROBES.items()}
event = {"event": "finished", "step": 1, "state_root": "0" * 64, "scorecard": found, "files": {}}
sys.stdout.write(json.dumps(event) + "\n")
