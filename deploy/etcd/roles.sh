#!/bin/sh
# Users and roles of etcd: who may read and write which of talkmesh's keys. Run by somebody who holds etcd; again is fine.
#
#     ETCDCTL_ENDPOINTS=https://etcd:2379 ETCDCTL_CACERT=ca.pem PASSWORDS=etcd-passwords sh deploy/etcd/roles.sh
#
# PASSWORDS is a folder with a file for each user: root, host, gateway, operator. Where there is none, one is made.
# Where access is checked already, say who you are: ETCDCTL_USER=root ETCDCTL_PASSWORD=…
set -eu
umask 077
: "${PASSWORDS:?a folder for the passwords}"
ETCDCTL=${ETCDCTL:-etcdctl}
export ETCDCTL_API=3
mkdir -p "$PASSWORDS"

allow() { # role, read or readwrite, what below /talkmesh/v1/
  role=$1 kind=$2
  shift 2
  for prefix in "$@"; do
    "$ETCDCTL" role grant-permission --prefix "$role" "$kind" "/talkmesh/v1/$prefix" >/dev/null
  done
}

user() { # name, role
  file=$PASSWORDS/$1
  [ -s "$file" ] || head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$file"
  # From stdin: an argument could be seen by all users of the machine.
  "$ETCDCTL" user get "$1" >/dev/null 2>&1 || "$ETCDCTL" user add "$1" --interactive=false <"$file" >/dev/null
  "$ETCDCTL" user grant-role "$1" "$2" >/dev/null
}

for role in root talkmesh-host talkmesh-gateway talkmesh-operator; do
  "$ETCDCTL" role get "$role" >/dev/null 2>&1 || "$ETCDCTL" role add "$role" >/dev/null
done

# Hosts tell of themselves, write down what has happened to slots, and take a slot back whose model crashes. No keys of users.
allow talkmesh-host read models/ budgets/ vetoes/ evictions/
allow talkmesh-host readwrite observed/ slots/ history/ audit/
# Gateways do what operators, administrators and guards want done; hosts alone tell how hosts are.
allow talkmesh-gateway read observed/ budgets/
allow talkmesh-gateway readwrite slots/ models/ vetoes/ evictions/ flags/ bundles/ verdicts/ tallies/ leader/ history/ audit/ access/
# Operators who write without a gateway: what is wanted, and no more. They see no keys of users and make none.
allow talkmesh-operator read observed/ verdicts/ tallies/ leader/ history/
allow talkmesh-operator readwrite slots/ models/ budgets/ vetoes/ evictions/ flags/ bundles/ audit/

user root root
for name in host gateway operator; do user "$name" "talkmesh-$name"; done
"$ETCDCTL" auth enable >/dev/null
echo "etcd checks access now; the users' passwords are in $PASSWORDS"
