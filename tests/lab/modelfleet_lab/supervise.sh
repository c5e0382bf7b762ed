# Keeps one container of the lab: joins its control groups, then runs it until it is shut down.
# Arguments: cgroup.procs files, "--", the systemd-nspawn command.
while [ "$1" != -- ]; do
    echo $$ >"$1" || exit
    shift
done
shift

# SIGTERM means that a reboot that is under way shall end as a shutdown.
ending=
trap 'ending=yes' TERM

# 133 is the status with which systemd-nspawn says that the system inside asked for a reboot.
status=133
while [ $status -eq 133 ] && [ -z "$ending" ]; do
    "$@"
    status=$?
done
exit $status
