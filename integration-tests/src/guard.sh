# Ends what a test process has started, when that process is gone, however it went.
#
# Reads from its standard input, which the kernel closes at the latest when the test process dies:
#   add PID      a process group that is to be killed
#   forget PID   one that is gone already
#   remove DIR   a directory that is to be removed
declare -A groups
directories=()
while IFS=' ' read -r word what; do
  case $word in
    add) groups[$what]=1 ;;
    forget) unset "groups[$what]" ;;
    remove) directories+=("$what") ;;
  esac
done
for group in "${!groups[@]}"; do
  kill -KILL -- "-$group" 2>/dev/null
done
# A killed broker may still be writing.
for directory in "${directories[@]}"; do
  rm -rf -- "$directory" 2>/dev/null || { sleep 1; rm -rf -- "$directory"; }
done
