# SPDX-License-Identifier: MIT OR Apache-2.0
# The keeper of a private server: ends it and removes its directory when its owner is gone.
#
# Arguments: the directory, and the signal that ends the server. Standard input, of which only the owner holds the other
# end, says in lines
#   group N          the process group of what runs in the directory now; 0: nothing does
#   share SECONDS FILE   from the end of the input on, it belongs to whoever holds a lock on the file, and ends when
#                        nobody has held one for so long
# and its end means that the owner is gone, however it went. Standard output is the record, locked: as long as the keeper
# lives nobody else needs to remove anything. Nothing is written to it.
trap '' HUP INT TERM QUIT
dir=$1 signal=$2 group=0 lock= linger=
while read -r word rest; do
    case $word in
        group) group=$rest ;;
        share) linger=${rest%% *} lock=${rest#* } ;;
    esac
done

# Its number may be another process's by now: the first of the group is ours if it was started with the directory.
is_ours() {
    [ -e "/proc/$group/cmdline" ] || return 0
    case $(tr '\000' ' ' 2>/dev/null <"/proc/$group/cmdline") in *"$dir"*) ;; *) return 1 ;; esac
}
tell() { [ "$group" -gt 1 ] && is_ours && kill -s "$1" -- "-$group" 2>/dev/null; }
pause() { sleep 0.05 2>/dev/null || sleep 1; }

finish() {
    if tell "$signal"; then
        tries=0
        while [ "$tries" -lt 100 ] && tell 0; do pause; tries=$((tries + 1)); done
        tell KILL
    fi
    # What is just ending may still write. The record goes last: with it, what is left of this is found yet.
    tries=0
    while rm -rf -- "$dir/s" 2>/dev/null && rm -rf -- "$dir" 2>/dev/null; [ -e "$dir" ] && [ "$tries" -lt 100 ]; do pause; tries=$((tries + 1)); done
}

if [ -n "$lock" ]; then
    {
        # Without the record, which must not stay locked when the keeper is killed.
        while flock -x 9 && flock -u 9 && sleep "$linger" && ! flock -x -n 9; do :; done >/dev/null
        finish
    } 9<"$lock"
fi
# Also where the file of the lock was gone.
finish
