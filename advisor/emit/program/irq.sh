
# A list such as 0-2,5, a number to a line.
each() {
  echo "$1" | tr ',' '\n' | while IFS=- read -r first last; do
    [ -z "$first" ] || seq "$first" "${last:-$first}"
  done
}

planned=" $(each "$plan" | tr '\n' ' ')"
rest=
for cpu in $(each "$(cat /sys/devices/system/cpu/online)"); do
  case "$planned" in
  *" $cpu "*) ;;
  *) rest="$rest${rest:+,}$cpu" ;;
  esac
done
[ -n "$rest" ] || { echo "the plan has all CPUs ($plan), so none is left for interrupts" >&2; exit 1; }
for list in /proc/irq/*/smp_affinity_list; do
  { read -r now <"$list"; } 2>/dev/null || continue
  for cpu in $(each "$now"); do
    case "$planned" in
    *" $cpu "*)
      echo "# echo $now >$list"
      echo "echo $rest >$list"
      break
      ;;
    esac
  done
done
