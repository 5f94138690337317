#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# A service that is a shell command, and a shell that asks it. The bus lasts as long as the script.
#
# > "HELLO"
# > {"SHOUT":["A","B"]}
# > divided: 3
# > no division by 0: 7
# > nobody: 5
set -eu
ipcm=${IPCM:-ipcm}

# Started again on a bus of its own: everything below runs on it.
if [ -z "${IPCM_BUS:-}" ]; then
    exec "$ipcm" run -- "$0"
fi

"$ipcm" serve up -- tr a-z A-Z &
"$ipcm" serve divide -- sh -c 'read -r a && [ "$a" != 0 ] && echo $((12 / a))' &
"$ipcm" ready up --timeout 30s >/dev/null
"$ipcm" ready divide --timeout 30s >/dev/null

"$ipcm" request up '"hello"'
"$ipcm" request up '{"shout":["a","b"]}'
echo "divided: $("$ipcm" request divide 4)"
"$ipcm" request divide 0 2>/dev/null || echo "no division by 0: $?"
"$ipcm" request nobody 1 --wait 0 2>/dev/null || echo "nobody: $?"
"$ipcm" broadcast '{"terminate":1}' >/dev/null
wait
