# Keeps one container of the lab: joins its control groups, then runs it until it is shut down.
# Arguments: cgroup.procs files, "--", the systemd-nspawn command.
while [ "$1" != -- ]; do
    echo $$ >"$1" || exit
    shift
done
shift
while :; do
    "$@"
    status=$?
    # The status with which systemd-nspawn says that the system inside asked for a reboot.
    [ $status -eq 133 ] || exit $status
done
