#!/bin/busybox sh
# The whole userland of the laboratory's guest: says what it sees, writes to its disks, obeys the power button.
b=/bin/busybox
say() { for console in /dev/tty0 /dev/ttyS0; do echo "migratekit-lab: $*" >$console; done; }
# The marker's text is the first line; the rest of its block is padding.
first_line() { $b head -n 1 "$1"; }
note_boot() { $b date -u '+%Y-%m-%dT%H:%M:%SZ' >>"$1/var/log/boots"; }

say "marker $(first_line /etc/marker)"
note_boot ''
label=$($b cat /etc/data-label 2>/dev/null)
if [ -n "$label" ]; then
    tries=0
    until data=$($b findfs "LABEL=$label" 2>/dev/null) || [ $tries -ge 50 ]; do
        tries=$((tries + 1))
        $b usleep 100000
    done
    if [ -n "$data" ] && $b mount -t ext4 "$data" /data; then
        say "data marker $(first_line /data/etc/marker)"
        note_boot /data
    else
        say "no data disk: no file system labelled $label"
    fi
fi
for card in /sys/class/net/*; do
    [ -e "$card/device" ] && say "nic $($b cat "$card/address")"
done
$b sync

for events in /sys/class/input/event*; do
    if [ "$($b cat "$events/device/name" 2>/dev/null)" = 'Power Button' ]; then
        exec 3<"/dev/input/${events##*/}"
        button=found
        break
    fi
done
say up
if [ -z "$button" ]; then
    say 'there is no power button'
    while :; do $b sleep 3600; done
fi
# One event is 24 bytes; the first is the button pressed.
$b dd bs=24 count=1 <&3 >/dev/null 2>&1
say down
$b sync
$b umount /data 2>/dev/null
$b mount -o remount,ro /
$b poweroff -f
