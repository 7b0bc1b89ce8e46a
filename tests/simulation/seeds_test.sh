#!/bin/bash
# Two minutes of seeds, from the same one on: who sees one fail can run it alone, as is printed then.
# simulation_test runs the first ones already.
exec "$SIMULATION" --seed 1000 --seconds 120 --jobs 2 --failures 1
