#!/usr/bin/env bash
# The first process of a machine, in namespaces of its own: boot.sh FOLDER KEYS (ro|rw SOURCE TARGET)...
# It covers whatever machines must not share, brings back the folders it is given, and becomes sshd.
set -euo pipefail
folder=$1 keys=$2
shift 2

# If the lab's process goes away, however it does, so does the machine: its end of this pipe closes.
# (SIGKILL would not reach process 1 from inside.)
{ read -r _ || true; kill -TERM 1; } <&0 &
exec </dev/null

mount -t tmpfs -o mode=755 lab /run
mkdir /run/lab /run/keys /run/sshd /run/given
mount --bind "$folder" /run/lab
mount --bind "$keys" /run/keys
# What is given is put aside first, since it may lie in a folder that is covered next.
given=()
while [ $# -gt 0 ]; do
    aside=/run/given/${#given[@]}
    if [ -d "$2" ]; then mkdir "$aside"; else touch "$aside"; fi
    mount --bind "$2" "$aside"
    given+=("$1:$aside:$3")
    shift 3
done

for private in tmp root home; do mount --bind "/run/lab/$private" "/$private"; done
for file in hosts hostname passwd; do mount --bind "/run/lab/$file" "/etc/$file"; done
for empty in mnt var/log; do mount -t tmpfs -o mode=755 lab "/$empty"; done
mount -t tmpfs -o mode=1777,size=8g lab /dev/shm
touch /var/log/lastlog /var/log/wtmp

for line in "${given[@]}"; do
    IFS=: read -r access aside target <<<"$line"
    if [ -d "$aside" ]; then mkdir -p "$target"; else mkdir -p "$(dirname "$target")" && touch "$target"; fi
    mount --move "$aside" "$target"
    mount -o "remount,bind,$access" "$target"
done

hostname "$(cat /run/lab/hostname)"
ip link set lo up
cd /
exec /usr/sbin/sshd -D -e -f /run/lab/sshd_config
