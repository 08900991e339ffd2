#!/usr/bin/env bash
# Sees to the Debian packages for what is named: `build` (to make fe at all), `tests`, `bench`. Installs those that are
# missing when it may (root, on a system with apt-get), else says which they are and goes on: what needs one says so, too.
set -euo pipefail

missing=()
need() { # need PACKAGE COMMAND...: note the package when the command fails
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
python_is_new() { local python=$1; command -v "$python" && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; }
any_python() { for python in python3 python3.13 python3.12 python3.11; do python_is_new "$python" && return; done; return 1; }
program() { PATH="$PATH:/usr/sbin" command -v "$1"; }

for what in "$@"; do
    case $what in
    build)
        need python3 any_python
        need python3-venv python3 -c 'import ensurepip, venv'
        need python3-dev python3 -c 'import os, sysconfig; open(os.path.join(sysconfig.get_path("include"), "Python.h"))'
        need gcc program cc
        need libc6-dev test -e /usr/include/stdlib.h
        need make program make
        need util-linux program flock
        ;;
    tests)
        need procps program ps
        need openssl program openssl
        need spin program spin          # the model of the lease table's protocol
        need chromium program chromium  # the status page, in a real browser
        need prometheus program promtool
        need kubernetes-client program kubectl  # what `kubectl apply -k` would send, made and looked at offline
        need systemd program systemd-analyze    # the unit file, likewise
        need util-linux program unshare         # a container's read-only file system and user
        ;;
    bench)
        need nginx-light program nginx
        need haproxy program haproxy
        need wrk program wrk
        need nghttp2-client program h2load
        need strace program strace
        ;;
    *)
        echo "debian.sh: $what is none of build, tests, bench" >&2
        exit 2
        ;;
    esac
done

((${#missing[@]})) || exit 0
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "fe: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "fe: missing here: apt-get install ${missing[*]}" >&2
fi
