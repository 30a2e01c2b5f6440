# shellcheck shell=bash
# Sourced from the root of the checkout with a list of extras: `source launch/environment.sh tf,dev`.
# Activates $GANATTN_VENV, else the active virtual environment, else .venv, which it creates if it is
# missing; installs the package and the extras if pyproject.toml is newer than the installation.

environment=${GANATTN_VENV:-${VIRTUAL_ENV:-$PWD/.venv}}
if [[ ! -x $environment/bin/python ]]; then
    echo "== creating $environment"
    "${PYTHON:-python3}" -m venv "$environment"
fi
# shellcheck disable=SC1091
source "$environment/bin/activate"

installed=$environment/.ganattn-${1:-core}
if [[ ! $installed -nt pyproject.toml || $(cat "$installed") != "$PWD" ]]; then
    echo "== installing .${1:+[$1]}"
    python -m pip install --quiet --disable-pip-version-check --editable ".${1:+[$1]}"
    echo "$PWD" >"$installed"
fi
