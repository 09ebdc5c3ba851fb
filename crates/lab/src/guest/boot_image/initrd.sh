#!/bin/busybox sh
# First process of the laboratory's guest: loads drivers, finds the root file system by its label, goes on there.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys

say() { for console in /dev/tty0 /dev/ttyS0; do echo "migratekit-lab: $*" >$console; done; }

for module in /modules/*.ko; do
    $b insmod "$module" || say "driver $module does not load"
done
for word in $($b cat /proc/cmdline); do
    case $word in root=LABEL=*) label=${word#root=LABEL=} ;; esac
done
tries=0
until root=$($b findfs "LABEL=$label" 2>/dev/null); do
    tries=$((tries + 1))
    if [ $tries -ge 100 ]; then
        say "no file system labelled $label: there is no such disk, or no driver for its bus"
        while :; do $b sleep 3600; done
    fi
    $b usleep 100000
done
$b mount -t ext4 "$root" /newroot || say "the root file system on $root cannot be mounted"
for folder in dev proc sys; do $b mount --move /$folder /newroot/$folder; done
exec $b switch_root /newroot /sbin/init
